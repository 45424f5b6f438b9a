from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging_fakes import FakeJudge

from implicit_if.harness.judging import Comparison, CostLimitError, Estimate, Verdict
from implicit_if.harness.judging.cost_limit import Source, show_dollars


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0, "$0.00"),
        (0.0001, "$0.0001"),
        (0.00012345, "$0.000123"),
        (0.0499, "$0.0499"),
        (0.5, "$0.50"),
        (0.999, "$0.999"),
        (0.9999, "$1.00"),
        (1.0, "$1.00"),
        (1234.567, "$1234.57"),
    ],
)
def test_small_amounts_are_not_shown_as_none(amount: float, shown: str) -> None:
    assert show_dollars(amount) == shown


class Priced(FakeJudge):
    """Estimates each comparison at the number in its instruction."""

    def __init__(self) -> None:
        super().__init__(lambda c: 0.5, paid=True)

    def estimate(self, comparisons):
        return Estimate(1, sum(float(c.instruction) for c in comparisons))


def source(estimates: list[float], limit: float | None) -> Source:
    comparisons = (Comparison(str(k), str(estimate), "a", "b") for k, estimate in enumerate(estimates))
    return Source(comparisons, Priced(), limit, spent=0.0, proven=True)


def drive(asked: Source, costs: list[float], concurrency: int, rng: random.Random) -> tuple[list[str], int]:
    """Reads as a judge with `concurrency` in flight does; the keys in the order read, and the most in flight."""
    flying: list[str] = []
    read: list[str] = []
    most = 0
    while True:
        while len(flying) < concurrency and not (flying and asked.hold()):
            comparison = next(asked, None)
            if comparison is None:
                break
            flying.append(comparison.key)
            read.append(comparison.key)
        most = max(most, len(flying))
        if not flying:
            return read, most
        key = flying.pop(rng.randrange(len(flying)))
        asked.hear(Verdict(key, 0.5, cost=costs[int(key)]))


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=60),
    st.integers(1, 64),
    st.randoms(use_true_random=False),
)
def test_what_fits_by_estimates_that_hold_is_asked_to_the_end(
    priced: list[tuple[float, float]], concurrency: int, rng: random.Random
) -> None:
    estimates = [estimate for estimate, _ in priced]
    asked = source(estimates, sum(estimates))
    read, _ = drive(asked, [estimate * part for estimate, part in priced], concurrency, rng)
    asked.check()
    assert read == [str(k) for k in range(len(priced))]


@given(st.floats(0.01, 1), st.floats(1, 100), st.floats(0, 50), st.integers(1, 64), st.randoms(use_true_random=False))
def test_equal_verdicts_dearer_than_estimated_stay_within_the_limit(
    estimate: float, factor: float, limit: float, concurrency: int, rng: random.Random
) -> None:
    """All but the first, of which nothing else was known."""
    cost = estimate * factor
    asked = source([estimate] * 200, limit)
    read, _ = drive(asked, [cost] * 200, concurrency, rng)
    spent = cost * len(read)
    if len(read) > 1:
        assert spent <= limit * (1 + 1e-6)
    if len(read) < 200:
        assert spent + cost > limit * (1 - 1e-6)
        with pytest.raises(CostLimitError):
            asked.check()


def test_many_are_in_flight_soon() -> None:
    assert drive(source([0.01] * 500, 100.0), [0.01] * 500, 64, random.Random(0))[1] == 64


def test_without_a_limit_nothing_waits() -> None:
    asked = source([1.0] * 100, None)
    for _ in range(64):
        next(asked)
        assert not asked.hold()
