"""What a judge may still be asked: within the cost limit, and only as long as it gives verdicts at all."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison, Estimate, Judge, JudgeError, Verdict

_PATIENCE = 16
"""Answers without a verdict after which a judge that never gave one is not asked on."""


class CostLimitError(UserError):
    """Judging would cost, or has cost, as much as the user allowed; verdicts obtained are kept."""


def show_dollars(amount: float) -> str:
    """E.g. "$1.50"; below a dollar with three digits that count, so that a small amount does not look like none."""
    digits = 2 if amount >= 1 or amount <= 0 else 2 - math.floor(math.log10(amount))
    whole, _, fraction = f"{amount:.{digits}f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def announce(judge: str, estimate: Estimate, n: int, rank: int, note: str = "") -> None:
    """Prints what judging `n` comparisons would take."""
    cost = "cost unknown" if estimate.cost is None else f"estimated cost about {show_dollars(estimate.cost)}"
    process = f"rank {rank}: " if rank else ""
    print(f"{process}judge {judge}: {n} verdicts to obtain, {estimate.calls} calls, {cost}{note}", file=sys.stderr)


def check_limit(
    judge: str, estimate: Estimate, limit: float | None, spent: float = 0.0, more: float | None = 0.0
) -> None:
    """Refuses to start above the limit.

    Args:
        judge: The judge's name.
        estimate: What judging would take.
        limit: US dollars; None for no limit.
        spent: US dollars already spent, on finding out what the server can do or by another judge.
        more: US dollars that another judge, asked later under the same limit, is estimated to take; None if unknown.

    Raises:
        CostLimitError: If the estimate is above the limit, or not known.
    """
    if limit is None:
        return
    if estimate.cost is None or more is None:
        raise CostLimitError(
            f"judge {judge}: its prices are not known, or not how long its answers may be, so a limit of "
            f"{show_dollars(limit)} cannot be kept. Give both prices and the most tokens of an answer as options of "
            f"the judge, or leave out --max-cost."
        )
    if estimate.cost + more + spent > limit:
        asked = f"{show_dollars(spent)} were spent on asking before it" if spent else "nothing was asked"
        both = f" and {show_dollars(more)} for the judge of attempts" if more else ""
        raise CostLimitError(
            f"judge {judge}: the estimated cost {show_dollars(estimate.cost)}{both} is above the limit "
            f"{show_dollars(limit)}; {asked}. Raise --max-cost, or judge fewer pairs with --limit."
        )


class Source:
    """The comparisons a judge reads, as far as it may; see `Judge.judge`.

    They end early where the next verdict could take the cost above the limit, or where `_PATIENCE` answers of a judge
    held no verdict and none ever did. What is in flight then comes in as usual, and is kept.

    A comparison is taken to cost its estimate, times the most that any verdict has cost above its estimate. Under a
    limit the first verdict is awaited alone, and the number in flight grows threefold with each round.

    Args:
        comparisons: All there are.
        judge: Who reads them.
        limit: US dollars; None for no limit.
        spent: US dollars spent before.
        proven: Whether the judge has given a verdict before.
    """

    def __init__(
        self, comparisons: Iterator[Comparison], judge: Judge, limit: float | None, *, spent: float, proven: bool
    ) -> None:
        self._comparisons, self._judge, self._limit, self._proven = comparisons, judge, limit, proven
        self._ahead: Comparison | None = None
        self._ahead_cost = 0.0
        self._in_flight: dict[str, float] = {}  # what each is estimated to cost
        self._counted, self._over_estimate, self._heard = spent, 1.0, 0
        self._without_verdict = 0
        self._last = Verdict("", None)
        self._stopped: type[UserError] | None = None

    def __iter__(self) -> Iterator[Comparison]:
        return self

    def __next__(self) -> Comparison:
        comparison = self._peek()
        if comparison is None:
            raise StopIteration
        if self._is_hopeless():
            self._stopped = JudgeError
        elif self._is_too_dear():
            self._stopped = CostLimitError
        if self._stopped:
            raise StopIteration
        self._in_flight[comparison.key] = self._ahead_cost
        self._ahead = None
        return comparison

    def hold(self) -> bool:
        """Whether a verdict in flight should be awaited before another comparison is read."""
        flying = len(self._in_flight)
        if not flying or self._peek() is None:
            return False
        if not self._proven and flying + self._without_verdict >= _PATIENCE:
            return True
        return self._limit is not None and (flying > 2 * self._heard or self._is_too_dear())

    def hear(self, verdict: Verdict) -> None:
        """Learns from a verdict what the judge costs and whether it gives any."""
        estimated = self._in_flight.pop(verdict.key, 0.0)
        cost = estimated if verdict.cost is None or not math.isfinite(verdict.cost) else verdict.cost
        self._counted += cost
        self._heard += 1
        if estimated > 0:
            self._over_estimate = max(self._over_estimate, cost / estimated)
        self._proven |= verdict.error is None and verdict.prefers_first is not None
        if verdict.remedy is not None:
            self._without_verdict, self._last = self._without_verdict + 1, verdict

    def check(self) -> None:
        """Raises what ended the comparisons early, if anything did, once every verdict is in."""
        name = self._judge.name
        if self._stopped is CostLimitError and self._limit is not None:
            raise CostLimitError(
                f"judge {name}: stopped at the limit {show_dollars(self._limit)}: this run has cost "
                f"{show_dollars(self._counted)}, and the next verdict may cost {show_dollars(self._next_cost())}."
            )
        if self._stopped is JudgeError:
            raise JudgeError(
                f"judge {name}: none of {self._without_verdict} answers held a verdict, the last one: "
                f"{self._last.error}. {self._last.remedy}"
            )

    def _peek(self) -> Comparison | None:
        if self._ahead is None:
            self._ahead = next(self._comparisons, None)
            if self._ahead is not None and self._limit is not None:
                self._ahead_cost = self._judge.estimate([self._ahead]).cost or 0.0
        return self._ahead

    def _is_hopeless(self) -> bool:
        return not self._proven and self._without_verdict >= _PATIENCE

    def _is_too_dear(self) -> bool:
        if self._limit is None:
            return False
        due = self._over_estimate * math.fsum(self._in_flight.values()) + self._next_cost()
        return self._counted + due > self._limit * (1 + 1e-9)  # sums of floats

    def _next_cost(self) -> float:
        return self._over_estimate * self._ahead_cost
