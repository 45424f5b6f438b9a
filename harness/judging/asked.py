"""What a judge is asked about a pair, and what its verdict says of the system."""

from __future__ import annotations

import math
from typing import NamedTuple

from implicit_if.harness.annotations import Annotation, Order
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Comparison, Judge, Verdict


class Asked(NamedTuple):
    """What makes an annotation of a verdict."""

    row: int
    instruction_id: str
    order: Order
    system_sha256: str
    reference_sha256: str


def comparison_of(key: str, pair: Pair, order: Order) -> Comparison:
    """The question about a pair in one order."""
    answers = (pair.system.output, pair.reference.output)
    first, second = answers[::-1] if order == "reference_first" else answers
    return Comparison(key, pair.instruction, first, second)


def annotation_of(judge: Judge, asked: Asked, verdict: Verdict) -> Annotation:
    """The verdict as it is stored: for the system, whichever answer was first."""
    first, error = verdict.prefers_first, verdict.error
    if first is None or error is not None:
        first, error = None, error or "the judge gave no reason"
    elif not 0 <= first <= 1:
        first, error = None, f"the judge's preference is {first!r}, expected a probability in [0, 1]"
    preference = 1 - first if first is not None and asked.order == "reference_first" else first
    return Annotation(
        instruction_id=asked.instruction_id,
        order=asked.order,
        preference=preference,
        raw=verdict.raw,
        error=error,
        judge=judge.name,
        fingerprint=judge.fingerprint,
        system_sha256=asked.system_sha256,
        reference_sha256=asked.reference_sha256,
        latency=_finite(verdict.latency),
        cost=_finite(verdict.cost),
    )


def _finite(value: float | None) -> float | None:
    """JSON holds no NaN; a judge that measured none must not cost the batch."""
    return value if value is not None and math.isfinite(value) else None
