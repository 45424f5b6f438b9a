"""Paired comparisons against scipy and exhaustive loops."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.comparison import detectable_difference, sign_flip_p

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
    assert result.difference.value == 0
    assert result.p_value == 1
    assert result.detectable is None
    low, high = result.difference.interval.ends  # type: ignore[misc]
    assert low == -high
    assert high == pytest.approx(100 * 2.0010 * math.sqrt(2 / 62) / math.sqrt(62), rel=1e-4)  # 60 draws and 1, -1


def with_a_win_and_a_loss_more(differences: list[float]) -> tuple[float, float, float]:
    """Bonett and Price's interval for paired zeros and ones, and the p-value that belongs to it."""
    from scipy.stats import t

    more = [*differences, 100.0, -100.0]
    n, error = len(differences), math.sqrt(statistics.pvariance(more) / len(more))
    centre, half = statistics.fmean(more), t.ppf(0.975, n - 1) * error
    return max(-100, centre - half), min(100, centre + half), float(2 * t.sf(abs(centre) / error, n - 1))


@pytest.mark.parametrize(("wins", "losses", "n"), [(2, 0, 80), (0, 1, 80), (4, 2, 80), (0, 0, 12), (3, 1, 805)])
def test_few_wins_widen_the_interval(wins: int, losses: int, n: int) -> None:
    a, b = np.zeros(n), np.zeros(n)
    a[:wins], b[n - losses :] = 1, 1
    low, high, _ = with_a_win_and_a_loss_more((100 * (a - b)).tolist())
    result = stats.compare(a, b, n_permutations=99)
    assert result.difference.interval.ends == pytest.approx((low, high))
    assert high - low > 100 / n


@pytest.mark.parametrize("n", [5, 6, 20, 805])
def test_the_interval_agrees_with_the_sign_flips(n: int) -> None:
    """Five wins and no loss do not tell (p 0.0625), six do (p 0.03)."""
    for wins, told in ((5, False), (6, True)):
        if wins <= n:
            a = np.concatenate([np.ones(wins), np.zeros(n - wins)])
            result = stats.compare(a, np.zeros(n))
            assert (result.p_value <= 0.05) == told  # type: ignore[operator]
            assert (result.difference.interval.low > 0) == told  # type: ignore[index]


def test_interval_is_the_paired_t_interval_where_many_differ() -> None:
    from scipy.stats import ttest_rel

    a = np.random.default_rng(1).random(3000)
    b = np.clip(a + np.random.default_rng(2).normal(-0.05, 0.05, 3000), 0, 1)
    for first, second in ((a, b), (a, 1 - b), ((a > 0.5).astype(float), (b > 0.6).astype(float))):
        result = stats.compare(first, second, n_permutations=99)
        theirs = ttest_rel(100 * first, 100 * second)
        interval, width = theirs.confidence_interval(0.95), 2 * 1.96 * theirs._standard_error
        assert result.difference.interval.ends == pytest.approx((interval.low, interval.high), abs=0.02 * width)


def test_hedged_differences_are_not_taken_for_coins() -> None:
    """80 differences of about a point: known to a fraction of one."""
    rng = np.random.default_rng(3)
    a = 0.5 + rng.normal(0, 0.01, 80)
    interval = stats.compare(a, np.full(80, 0.5)).difference.interval
    assert interval is not None
    assert interval.high - interval.low < 1.2 * 2 * 1.99 * a.std() * 100 / math.sqrt(80)


def test_one_sided_seeds_have_no_certainty() -> None:
    won, lost = np.ones((2, 3)), np.zeros((2, 3))
    result = stats.compare(won, lost)
    assert result.difference.value == 100
    assert result.p_value == 0.25  # of 2^3 sign patterns two are as far from 0
    assert result.detectable is None
    assert result.difference.interval.low < 0  # type: ignore[index]
    huge = stats.compare(np.ones((2, 3000)), np.zeros((2, 3000))).p_value
    assert huge is not None
    assert 0 < huge < 1e-300


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
    assert result.difference.interval.seed is None


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


@pytest.mark.parametrize(("seed", "n"), [(1, 80), (2, 805)])
def test_without_flips_the_p_value_is_students(seed: int, n: int) -> None:
    """Scipy's paired t-test, to the little that the two added differences change."""
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(seed)
    a = rng.random(n)
    b = np.clip(a - 0.15 + rng.normal(0, 0.3, n), 0, 1)
    result = stats.compare(a, b, n_permutations=0)
    flipped = stats.compare(a, b)
    assert math.log(result.p_value) == pytest.approx(math.log(ttest_rel(a, b).pvalue), rel=0.15)  # type: ignore[arg-type]
    assert result.difference.interval.seed is None  # type: ignore[union-attr]
    assert result.difference.interval.ends == flipped.difference.interval.ends  # type: ignore[union-attr]
    assert n < 805 or result.p_value < 1e-20 < flipped.p_value  # type: ignore[operator]
