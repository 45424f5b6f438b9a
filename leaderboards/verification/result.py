"""What verification leaves in memory: numbers for a thousand submissions, texts only on demand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.annotations import Order
from implicit_if.harness.scores import Score
from implicit_if.leaderboards.submission.schema import Metadata

Badge = Literal["self-reported", "recomputed", "re-run"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verified:
    """A submission that was verified; no texts.

    Attributes:
        id: `<org>__<model>/<revision>`.
        folder: Where it is.
        metadata: As in the file, migrated.
        badge: What was done: "self-reported" (scores only, believed), "recomputed" (from answers and verdicts),
            "re-run" (a maintainer's rerun agrees, too).
        scores: By metric. The stored ones, which agree with the recomputed ones to `verify.TOLERANCE`: so no machine's
            rounding reaches a generated file.
        form: Measures of form, likewise; see `scored.form_measures`.
        instruction_ids: `[n]`, sorted; empty if self-reported.
        preferences: `[n]` in [0, 1], averaged over the orders; empty if self-reported.
        by_order: `[n]` in each presentation order.
        answers: `[n]` first 8 bytes of each answer's sha256; 0 for answers too short to tell systems apart.
        outputs_sha256: Hash over all answers; None if self-reported.
        sha256: Over the bytes of all files.
        notes: What readers should know and no check forbids, e.g. answers shared with another submission.
    """

    id: str
    folder: Path
    metadata: Metadata
    badge: Badge
    scores: dict[str, Score]
    form: dict[str, float | None]
    instruction_ids: tuple[str, ...]
    preferences: Floats
    by_order: dict[Order, Floats]
    answers: NDArray[np.uint64]
    outputs_sha256: str | None
    sha256: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """One instruction with both answers and the verdicts.

    Attributes:
        instruction_id: The instruction's id.
        instruction: Its text; None where it may not be shipped.
        category: The kind of task; None where the set records none.
        system: The system's answer.
        reference: The reference's answer.
        preference: For the system, averaged over the orders.
        by_order: For the system, in each order.
        raw: What the judge said, in each order.
        finish_reason: How the system's answer ended; None if unknown.
        reference_finish_reason: How the reference's did.
        n_tokens: Of the system's answer; None if unknown.
    """

    instruction_id: str
    instruction: str | None
    category: str | None
    system: str
    reference: str
    preference: float
    by_order: dict[Order, float]
    raw: dict[Order, str]
    finish_reason: str | None
    reference_finish_reason: str | None
    n_tokens: int | None


@dataclass(frozen=True)
class Answers:
    """All answers of a submission, sorted by instruction id; none if it is self-reported."""

    id: str
    rows: tuple[Answer, ...]
