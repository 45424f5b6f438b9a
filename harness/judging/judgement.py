"""What judging came to: a preference per pair, or the reason why there is none."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from implicit_if.harness.annotations import Order
from implicit_if.harness.judging.protocol import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PairVerdict(NamedTuple):
    """One pair's outcome.

    Attributes:
        instruction_id: The pair's instruction.
        preference: Mean of `by_order`, in [0, 1], for the system; None if a verdict is missing in any order.
        by_order: Preference for the system in each presentation order; None where there is no verdict.
    """

    instruction_id: str
    preference: float | None
    by_order: dict[Order, float | None]


class Unjudged(NamedTuple):
    """A verdict that is missing."""

    instruction_id: str
    order: Order
    error: str


class Latency(NamedTuple):
    """Seconds per verdict, over the verdicts whose time is known."""

    n: int
    mean: float
    median: float
    p95: float
    max: float


@dataclass(frozen=True)
class Judgement:
    """The verdicts on a list of pairs, in the pairs' order.

    Attributes:
        judge: The judge's name.
        fingerprint: The judge's fingerprint.
        orders: The presentation orders every pair was to be judged in.
        instruction_ids: `[n]`.
        by_order: Per order, `[n]` preferences for the system; NaN where there is no verdict.
        unjudged: The missing verdicts with the reason, in the pairs' order.
        cost: US dollars of all verdicts used, in whichever run they were obtained; None if no verdict's is known.
        spent: US dollars of the verdicts this run obtained, as far as known.
        asked: Verdicts this run obtained from the judge.
        latency: See `Latency`; None if no verdict's time is known.
        estimate: What judging was estimated to take; None if it was not estimated.
        expected: Instructions in the set where there are more of them than pairs; None if there are not.
    """

    judge: str
    fingerprint: str
    orders: tuple[Order, ...]
    instruction_ids: list[str]
    by_order: dict[Order, array[float]]
    unjudged: list[Unjudged]
    cost: float | None = None
    spent: float = 0.0
    asked: int = 0
    latency: Latency | None = None
    estimate: Estimate | None = None
    expected: int | None = None

    @property
    def n_expected(self) -> int:
        """Pairs there should be."""
        return self.expected or len(self.instruction_ids)

    @property
    def n_judged(self) -> int:
        """Pairs with a verdict in every order."""
        return int(self.judged.sum())

    @property
    def complete(self) -> bool:
        """True if every pair was judged in every order."""
        return not self.unjudged

    @cached_property
    def preferences(self) -> NDArray[np.float64]:
        """`[n]` preferences for the system, averaged over the orders; NaN where any order has no verdict."""
        import numpy as np

        return np.asarray(np.mean([self.in_order(order) for order in self.orders], axis=0), dtype=np.float64)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """`[n]`: which pairs have a verdict in every order."""
        import numpy as np

        return np.asarray(~np.isnan(self.preferences))

    def in_order(self, order: Order) -> NDArray[np.float64]:
        """`[n]` preferences for the system in one presentation order; NaN where there is no verdict."""
        import numpy as np

        return np.array(self.by_order[order], dtype=np.float64)

    def __iter__(self) -> Iterator[PairVerdict]:
        for position, (instruction_id, mean) in enumerate(zip(self.instruction_ids, self.preferences, strict=True)):
            by_order = {order: _or_none(self.by_order[order][position]) for order in self.orders}
            yield PairVerdict(instruction_id, _or_none(float(mean)), by_order)


def latency_of(seconds: Sequence[float]) -> Latency | None:
    """Summary of the times that are known; None if none is."""
    import numpy as np

    known = np.array(seconds, dtype=np.float64)
    if not known.size:
        return None
    median, p95 = np.quantile(known, [0.5, 0.95])
    return Latency(known.size, float(known.mean()), float(median), float(p95), float(known.max()))


def _or_none(value: float) -> float | None:
    return None if value != value else value


def part_of(judgement: Judgement, part: slice) -> Judgement:
    """The verdicts on some of the pairs."""
    return among(judgement, range(part.start, part.stop))


def among(judgement: Judgement, places: Sequence[int]) -> Judgement:
    """The verdicts at some places, in order."""
    by_order = {order: array("d", [values[i] for i in places]) for order, values in judgement.by_order.items()}
    missing = [  # listed pair by pair
        place for place, slot in enumerate(zip(*judgement.by_order.values(), strict=True)) for v in slot if v != v
    ]
    kept = set(places)
    return replace(
        judgement,
        instruction_ids=[judgement.instruction_ids[i] for i in places],
        by_order=by_order,
        unjudged=[one for place, one in zip(missing, judgement.unjudged, strict=True) if place in kept],
    )
