"""What the task prints under its results: system and reference side by side, and the signature."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np

from implicit_if.harness import stats
from implicit_if.harness.instructions import InstructionSet
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.outputs import Output
from implicit_if.harness.signature import Signature, make_signature
from implicit_if.harness.stats.estimate import Estimate

_HEAD = ("system", "win rate", "LC win rate", "finish", "format leak", "repetition", "length", "judged")


def task_signature(
    instructions: InstructionSet, reference: str, reference_sha256: str, judgement: Judgement, n: int
) -> Signature:
    """The signature of the task's numbers.

    Args:
        instructions: The instruction set.
        reference: The reference's name.
        reference_sha256: `outputs_sha256` of its answers.
        judgement: Of this process.
        n: Instructions evaluated, over all processes.
    """
    return make_signature(
        instruction_set=instructions.name,
        instruction_revision=instructions.revision,
        n=n,
        reference=reference,
        reference_sha256=reference_sha256,
        judge=judgement.judge,
        fingerprint=judgement.fingerprint,
        orders=len(judgement.orders),
        lc="offline",
    )


def summary_table(
    system: Sequence[Output],
    reference: Sequence[Output],
    judgement: Judgement,
    length_controlled: Estimate,
    tags: Iterable[str],
    n_expected: int,
) -> str:
    """Markdown table with a row for the system and one for the reference.

    Args:
        system: The system's answers.
        reference: The reference's, in the same order.
        judgement: The verdicts on these pairs.
        length_controlled: The system's length-controlled win rate.
        tags: Role tags of the chat template.
        n_expected: Instructions in the whole set.
    """
    from tabulate import tabulate

    preferences = judgement.preferences[judgement.judged]
    judged = f"{judgement.n_judged} of {n_expected}"
    rows = [
        [_name(system), _estimate(stats.win_rate(preferences)), _estimate(length_controlled), *_form(system, tags), judged],
        [f"{_name(reference)} (reference)", "50", "50", *_form(reference, tags), ""],
    ]
    return tabulate(rows, headers=_HEAD, tablefmt="github", disable_numparse=True)


def _name(outputs: Sequence[Output]) -> str:
    return html.escape(outputs[0].generator.replace("|", "/"))


def _estimate(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    if estimate.interval is None:
        return f"{estimate.value:.1f}"
    return f"{estimate.value:.1f} [{estimate.interval[0]:.1f}, {estimate.interval[1]:.1f}]"


def _form(outputs: Sequence[Output], tags: Iterable[str]) -> list[str]:
    tags = tuple(tags)
    known = [o.finish_reason == "eos" for o in outputs if o.finish_reason is not None]
    shares = [
        np.mean(known) if known else None,
        np.mean([stats.format_leak(o.output, tags) for o in outputs]),
        np.mean([stats.repeated_ngram_share(o.output) for o in outputs]),
    ]
    length = np.mean([len(o.output) for o in outputs])
    return [*("-" if s is None else f"{s:.2f}" for s in shares), f"{length:.0f}"]
