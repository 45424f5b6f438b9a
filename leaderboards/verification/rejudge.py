"""Judges a submission's answers again with a judge that runs offline, and compares every verdict."""

from __future__ import annotations

import tempfile
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.registry import get_judge, offline_judges
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.outputs import Output
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.verification.answers import read_answers
from implicit_if.leaderboards.verification.result import Answer, Verified

TOLERANCE = 1e-3
"""How far two verdicts of one judge may be apart: processors round sentence embeddings differently."""


def rejudge(verified: Verified, instructions: str | None = None) -> str:
    """Judges again and says so in one line.

    Args:
        verified: The submission.
        instructions: The instruction set, if the submission holds no texts and it is not builtin.

    Raises:
        SubmissionError: If a verdict differs.
        UserError: If the judge does not run offline, or a text is missing.
    """
    name = verified.metadata.judge.name
    if name not in offline_judges() or not verified.instruction_ids:
        raise UserError(
            f"{verified.id}: its verdicts cannot be made again offline; expected {', '.join(offline_judges())}."
        )
    texts = load_instructions(instructions).texts() if instructions else {}
    rows = read_answers(verified).rows
    pairs = [_pair(row, texts) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        judgement = annotate(pairs, get_judge(name), Path(folder) / "annotations.jsonl")
    wrong = [
        f"annotations: {name} gives {verdict.preference}, not {row.preference}, for instruction {row.instruction_id}"
        for row, verdict in zip(rows, judgement, strict=True)
        if verdict.preference is None or abs(verdict.preference - row.preference) > TOLERANCE
    ]
    if wrong:
        raise SubmissionError(verified.folder, wrong)
    return f"  rejudged by {name}: all {len(rows)} verdicts are the same"


def _pair(row: Answer, texts: dict[str, str]) -> Pair:
    text = row.instruction if row.instruction is not None else texts.get(row.instruction_id)
    if text is None:
        raise UserError(f"instruction {row.instruction_id}: its text is not at hand. Name the set: --instructions SPEC")
    sides = [
        Output(instruction_id=row.instruction_id, output=answer, generator=generator)
        for answer, generator in ((row.system, "system"), (row.reference, "reference"))
    ]
    return Pair(row.instruction_id, text, *sides)
