"""Texts of a verified submission, read when they are shown."""

from __future__ import annotations

from typing import Any

from implicit_if.harness.annotations import Order
from implicit_if.harness.instructions import load_instructions
from implicit_if.leaderboards.submission.data_files import parse_rows
from implicit_if.leaderboards.submission.read import SubmissionError, read_content
from implicit_if.leaderboards.verification.result import Answer, Answers, Verified


def read_answers(verified: Verified) -> Answers:
    """Both answers and the verdicts of every instruction, read again from a verified submission.

    Instruction texts come from the submission or from the builtin set, never from a cache that another machine may
    not have.

    Raises:
        SubmissionError: If the files changed since.
    """
    if not verified.instruction_ids:
        return Answers(verified.id, ())
    content = read_content(verified.folder)
    if content.sha256 != verified.sha256:
        raise SubmissionError(verified.folder, ["changed after it was verified; build again"])
    known = {item.id: item for item in load_instructions("builtin").items}
    reference = {row["instruction_id"]: row for row in parse_rows(content.rows("reference"), "outputs")}
    raw: dict[str, dict[Order, str]] = {}
    for row in parse_rows(content.rows("annotations"), "annotations"):
        raw.setdefault(row["instruction_id"], {})[row["order"]] = row["raw"]
    answers = []
    for number, row in enumerate(parse_rows(content.rows("outputs"), "outputs")):
        key = row["instruction_id"]
        item = known.get(key)
        text: Any = row["instruction"]
        answers.append(
            Answer(
                instruction_id=key,
                instruction=text if text is not None else item.text if item else None,
                category=item.category if item else None,
                system=row["output"],
                reference=reference[key]["output"],
                preference=float(verified.preferences[number]),
                by_order={order: float(values[number]) for order, values in verified.by_order.items()},
                raw=raw[key],
                finish_reason=row["finish_reason"],
                reference_finish_reason=reference[key]["finish_reason"],
                n_tokens=row["n_tokens"],
            )
        )
    return Answers(verified.id, tuple(answers))
