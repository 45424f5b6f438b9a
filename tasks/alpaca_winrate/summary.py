"""What the task prints before lm-eval's table: system and reference side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from implicit_if.harness.answer_form import form_of
from implicit_if.harness.columns import ATTEMPTS, FORM, SCORES, form_cells, score_cells
from implicit_if.harness.judging.scoring import read_with
from implicit_if.harness.lm_eval_plugin import on_command_line, option_values
from implicit_if.harness.outputs import Output
from implicit_if.harness.safe_text import html
from implicit_if.harness.scores import Score

_HEAD = ("system", *(column.label for column in (*SCORES, *FORM)), "judged")


def summary_table(
    system: Sequence[Output],
    reference: Sequence[Output],
    scores: Mapping[str, Score],
    tags: Iterable[str],
    n_expected: int,
    reference_attempts: Score | None = None,
) -> str:
    """Markdown table with a row for the system and one for the reference.

    Args:
        system: The system's answers.
        reference: The reference's, in the same order.
        scores: The system's, by metric.
        tags: Role tags of the chat template.
        n_expected: Instructions in the whole set.
        reference_attempts: The reference's attempt rate.
    """
    from tabulate import tabulate

    judged = f"{scores['win_rate'].n_judged} of {n_expected}"
    other = {} if reference_attempts is None else {ATTEMPTS: reference_attempts}
    rows = [
        [_name(system), *score_cells(scores), *form_cells(form_of(system, tags)), judged],
        [f"{_name(reference)} (reference)", *score_cells(other, "50"), *form_cells(form_of(reference, tags)), ""],
    ]
    return tabulate(rows, headers=_HEAD, tablefmt="github", disable_numparse=True)


def where_to_read(save: str | None) -> str:
    """The line that says which command shows the answers in a browser; empty where lm_eval's command does not run.

    Args:
        save: The folder that the task saves answers in, if any.
    """
    logged = on_command_line("--log_samples", "-s")
    kept = option_values(sys.argv, "--output_path", "-o") if logged else []
    if folder := save or "".join(kept[:1]):
        return f"{read_with(folder)}\n"
    if logged is None:
        return ""
    return "to read the answers, run with --log_samples --output_path DIR, then: implicit-if view DIR\n"


def _name(outputs: Sequence[Output]) -> str:
    return html(outputs[0].generator.replace("|", "/"))
