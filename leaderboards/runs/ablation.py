"""The systems of an ablation of the rules: their numbers as its table has them, and their answers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.columns import ATTEMPTS, FORM
from implicit_if.harness.comparing.loading import judgement_from
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.identify import identify_set
from implicit_if.harness.judging.judged_run import JudgedRun
from implicit_if.harness.outputs import Output, load_meta, load_outputs
from implicit_if.harness.references import reference_names, stored_answers
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import read_json
from implicit_if.leaderboards.runs.run import Reading, Run, pairs_of, tags_of, unjudged, with_decided
from implicit_if.leaderboards.submitting.sources import find_annotations

TABLE = "table.json"
"""What `implicit-if ablate` writes its numbers to."""


def ablation_runs(path: Path, reading: Reading) -> Iterator[Run]:
    """The systems of an ablation.

    Args:
        path: Its table. Answers and verdicts are read where they stand beside it, as `ablate` leaves them.
        reading: See `Reading`.

    Raises:
        UserError: If it is no such table.
    """
    content = read_json(path, "the table of implicit-if ablate")
    try:
        reference = str(content["setting"].get("reference"))
        runs = []
        for row in content["rows"]:
            scores = {name: Score.model_validate(score) for name, score in row["scores"].items()}
            form = {column.name: row.get(column.name) for column in FORM}
            runs.append(Run(str(row["system"]), scores, form, "base" if row["preset"] == "none" else "rules"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of implicit-if ablate ({type(error).__name__}). Make it again: implicit-if ablate "
            f"--out {path.parent}"
        ) from error
    files = {load_outputs(file)[0].generator: file for file in _answers(path.parent)}
    other = load_outputs(files[reference]) if reference in files else None
    for run in runs:
        yield run if run.name not in files else _with_answers(run, files[run.name], reference, other, reading)


def _answers(folder: Path) -> list[Path]:
    return [file for file in sorted((folder / "outputs").glob("*.json")) if not file.name.endswith(".meta.json")]


def _with_answers(run: Run, file: Path, reference: str, other: Sequence[Output] | None, reading: Reading) -> Run:
    """The run with its answers and what is known of each; the numbers stay the table's."""
    outputs, meta = load_outputs(file), load_meta(file)
    settings, tags = AnswerSettings.of_meta(meta), tags_of(meta)
    rate = run.scores.get(ATTEMPTS)
    decider = reading.judge_of_attempts
    if rate is None or decider is None or rate.settings.judge != decider.name:
        reading = replace(reading, judge_of_attempts=None)
    store = file.parents[1] / "annotations.jsonl"
    if other is None and reference in reference_names():
        other = stored_answers(reference, {o.instruction_id: o.instruction for o in outputs})
    if "win_rate" not in run.scores or other is None or not store.is_file():
        alone = unjudged(run.name, outputs, tags, settings, file, reading)
        return replace(run, outputs=outputs, decided=alone.decided, tags=tags)
    pairs = pairs_of(outputs, other, file)
    lines = find_annotations([store], [p.system for p in pairs], [p.reference for p in pairs], reading.judge)
    instruction_set = identify_set([p.instruction_id for p in pairs], reading.instructions, file)
    judged = JudgedRun(pairs, judgement_from(pairs, lines, store), *instruction_set, reference, answers=settings)
    return replace(run, outputs=outputs, judged=with_decided(judged, reading), tags=tags)
