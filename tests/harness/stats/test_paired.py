"""Paired comparisons against scipy and exhaustive loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.paired import detectable_difference, sign_flip_p

RNG = np.random.default_rng(0)
A = RNG.random(60)
B = np.clip(A + RNG.normal(-0.05, 0.2, 60), 0, 1)


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_exact_p_equals_the_loop_over_all_signs(differences: list[int]) -> None:
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    expected = sum(s >= observed for s in sums) / len(sums)
    assert sign_flip_p(np.array(differences, dtype=float)) == pytest.approx(expected)


def test_drawn_p_agrees_with_scipy() -> None:
    from scipy.stats import permutation_test

    differences = A - B
    theirs = permutation_test(
        (A, B),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(3),
    ).pvalue
    assert sign_flip_p(differences, 20_000) == pytest.approx(theirs, abs=0.01)


def test_drawn_p_is_never_zero() -> None:
    assert sign_flip_p(np.ones(50), 999) == pytest.approx(1 / 1000)


def test_no_difference_at_all() -> None:
    result = stats.compare(A, A)
    assert (result.difference.value, result.difference.interval) == (0, (0, 0))
    assert result.p_value == 1
    assert result.detectable is None


def test_interval_is_the_paired_t_interval() -> None:
    from scipy.stats import ttest_rel

    result = stats.compare(A, B)
    theirs = ttest_rel(100 * A, 100 * B)
    interval = theirs.confidence_interval(0.95)
    assert result.difference.interval == pytest.approx((interval.low, interval.high))
    assert result.p_value == pytest.approx(theirs.pvalue, abs=0.02)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_antisymmetric_and_free_of_row_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random(20), rng.random(20)
    ids = [f"{i:02}" for i in range(20)]
    order = rng.permutation(20)
    forward, backward = stats.compare(a, b, ids), stats.compare(b, a, ids)
    assert forward == stats.compare(a[order], b[order], [ids[i] for i in order])
    assert forward.difference.value == pytest.approx(-backward.difference.value)  # type: ignore[operator]
    assert forward.p_value == pytest.approx(backward.p_value)
    assert forward.detectable == pytest.approx(backward.detectable)


def test_several_seeds_are_less_certain_than_their_mean() -> None:
    rng = np.random.default_rng(4)
    seeds = np.clip(A + rng.normal(0, 0.15, (3, 1)) + rng.normal(0, 0.05, (3, 60)), 0, 1)
    result, of_means = stats.compare(seeds, B), stats.compare(seeds.mean(axis=0), B)
    assert result.difference.value == pytest.approx(of_means.difference.value)
    assert result.difference.standard_error > 2 * of_means.difference.standard_error  # type: ignore[operator]
    assert result.p_value > of_means.p_value  # type: ignore[operator]
    assert result.difference.seed is None


def test_detectable_difference_has_80_percent_power() -> None:
    rng = np.random.default_rng(5)
    n, sd = 80, 0.5
    shift = detectable_difference(sd / np.sqrt(n))
    from scipy.stats import ttest_1samp

    found = ttest_1samp(rng.normal(shift, sd, (4000, n)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)


def test_few_instructions() -> None:
    nothing, one = stats.compare([], []), stats.compare([1.0], [0.0])
    assert (nothing.difference.value, nothing.p_value, nothing.detectable) == (None, None, None)
    assert (one.difference.value, one.difference.interval, one.p_value) == (100, None, None)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="second: found 3 instructions, expected 2"):
        stats.compare([0.5, 0.5], [0.5, 0.5, 0.5])
    with pytest.raises(UserError, match="first, seed 1: found 1 values, expected 2"):
        stats.compare([[0.5, 0.5], [0.5]], [0.5, 0.5])


def test_holm() -> None:
    # by hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, then 1 * 0.04 raised to the one before
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert stats.holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_p_value_and_bonferroni(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert q is not None
        assert p <= q + 1e-12
        assert q <= min(1, len(p_values) * p) + 1e-12


def test_tie_groups() -> None:
    values = {"c": 30.0, "a": 50.0, "b": 49.0, "d": 29.0}
    p = {("a", "b"): 0.4, ("a", "c"): 0.01, ("d", "a"): 0.01, ("c", "d"): None}
    assert stats.tie_groups(values, p) == [["a", "b"], ["c", "d"]]
    assert stats.tie_groups(values, p, alpha=0.001) == [["a", "b", "c", "d"]]
    assert stats.tie_groups({}, {}) == []
    with pytest.raises(UserError, match="'a' and 'b'"):
        stats.tie_groups({"a": 1.0, "b": 0.0}, {})
