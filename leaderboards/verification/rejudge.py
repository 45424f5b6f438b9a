"""Judges a submission's answers again with a judge that runs offline, and compares every verdict."""

from __future__ import annotations

import tempfile
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.registry import get_judge, offline_judges
from implicit_if.harness.judging.runner import annotate
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.verification.result import Verified, read_pairs

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
    pairs = read_pairs(verified, texts)
    if missing := [pair.instruction_id for pair in pairs if not pair.instruction]:
        raise UserError(f"instruction {missing[0]}: its text is not at hand. Name the set: --instructions SPEC")
    with tempfile.TemporaryDirectory() as folder:
        judgement = annotate(pairs, get_judge(name), Path(folder) / "annotations.jsonl")
    wrong = [
        f"annotations: {name} gives {verdict.preference}, not {stored}, for instruction {verdict.instruction_id}"
        for stored, verdict in zip(verified.preferences.tolist(), judgement, strict=True)
        if verdict.preference is None or abs(verdict.preference - stored) > TOLERANCE
    ]
    if wrong:
        raise SubmissionError(verified.folder, wrong)
    return f"  rejudged by {name}: all {len(pairs)} verdicts are the same"
