"""Win rates against alpaca-eval 0.6.6's own functions, naive loops and their defining properties."""

from __future__ import annotations

import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.intervals import score_interval

preference_lists = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1), min_size=2, max_size=40)


def test_equals_alpaca_eval() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca_eval.metrics import get_winrate
    rng = np.random.default_rng(0)
    preferences = np.concatenate([rng.random(500).round(6), np.full(20, 0.5), np.zeros(40), np.ones(30)])
    theirs = get_winrate([{"preference": p + 1} for p in preferences])
    ours, discrete = stats.win_rate(preferences), stats.discrete_win_rate(preferences)
    assert ours.value == pytest.approx(theirs["win_rate"], abs=1e-10)
    assert ours.standard_error == pytest.approx(theirs["standard_error"], abs=1e-10)
    assert discrete.value == pytest.approx(theirs["discrete_win_rate"], abs=1e-10)
    assert stats.counts(preferences) == (theirs["n_wins"], theirs["n_wins_base"], theirs["n_draws"])
    assert ours.n_judged == theirs["n_total"] == 590


@settings(deadline=None)
@given(preference_lists)
def test_equals_a_naive_loop(preferences: list[float]) -> None:
    estimate = stats.win_rate(preferences)
    assert estimate.value == pytest.approx(100 * statistics.fmean(preferences))
    expected = 100 * statistics.stdev(preferences) / math.sqrt(len(preferences))
    assert estimate.standard_error == pytest.approx(expected, abs=1e-9)
    wins = sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in preferences)
    assert stats.discrete_win_rate(preferences).value == pytest.approx(100 * wins / len(preferences))


@settings(deadline=None)
@given(preference_lists)
def test_swapping_system_and_reference_mirrors(preferences: list[float]) -> None:
    ours, swapped = stats.win_rate(preferences), stats.win_rate([1 - p for p in preferences])
    assert ours.value is not None
    assert swapped.value is not None
    assert ours.value + swapped.value == pytest.approx(100)
    assert ours.interval is not None
    assert swapped.interval is not None
    assert ours.interval.low + swapped.interval.high == pytest.approx(100)


def test_row_order_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(805), rng.random(805)
    columns = np.stack([first, second])
    for _ in range(50):
        a, b = columns[:, rng.permutation(805)]
        assert stats.win_rate(a) == stats.win_rate(first)
        assert stats.discrete_win_rate(a) == stats.discrete_win_rate(first)
        assert stats.position_bias(a, b) == stats.position_bias(first, second)


@settings(deadline=None)
@given(preference_lists)
def test_interval_is_within_bounds_and_holds_the_value(preferences: list[float]) -> None:
    estimate = stats.win_rate(preferences)
    assert estimate.interval is not None
    assert estimate.value is not None
    low, high = estimate.interval.ends
    assert 0 <= low <= estimate.value + 1e-9
    assert estimate.value - 1e-9 <= high <= 100


@settings(deadline=None)
@given(preference_lists, st.integers(0, 39), st.floats(0, 1))
def test_a_better_answer_never_lowers_the_win_rate(preferences: list[float], position: int, better: float) -> None:
    improved = list(preferences)
    improved[position % len(improved)] = max(improved[position % len(improved)], better)
    assert stats.win_rate(improved).value >= stats.win_rate(preferences).value - 1e-12  # type: ignore[operator]


@pytest.mark.parametrize(("wins", "n"), [(8, 80), (40, 80), (100, 805), (70, 80)])
def test_interval_is_wilsons_for_zeros_and_ones(wins: int, n: int) -> None:
    from scipy.stats import binomtest

    estimate = stats.win_rate([1.0] * wins + [0.0] * (n - wins))
    wilson = binomtest(wins, n).proportion_ci(method="wilson")
    assert estimate.interval is not None
    # ours divides the variance by n - 1, not n
    assert estimate.interval.low == pytest.approx(100 * wilson.low, abs=0.15)
    assert estimate.interval.high == pytest.approx(100 * wilson.high, abs=0.15)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_only_losses_or_wins_are_not_certainty(value: float) -> None:
    estimate = stats.win_rate([value] * 80)
    assert estimate.value == 100 * value
    assert estimate.standard_error == 0
    assert estimate.interval is not None
    assert estimate.interval.high - estimate.interval.low == pytest.approx(4.58, abs=0.05)  # Wilson's at 0 of 80


def test_all_ties_have_a_narrow_interval() -> None:
    estimate = stats.win_rate([0.5] * 80)
    assert estimate.value == 50
    assert estimate.interval is not None
    assert 0 < estimate.interval.high - 50 < 5


def test_few_instructions() -> None:
    nothing = stats.win_rate([], n_expected=3)
    assert (nothing.value, nothing.standard_error, nothing.interval) == (None, None, None)
    assert (nothing.n_judged, nothing.n_expected, nothing.complete) == (0, 3, False)
    one = stats.win_rate([0.25])
    assert (one.value, one.standard_error, one.interval) == (25, None, None)


def test_graded_preferences_have_a_narrower_interval_than_coins() -> None:
    graded, coins = stats.win_rate([0.4, 0.6] * 40).interval, stats.win_rate([0.0, 1.0] * 40).interval
    assert graded is not None
    assert coins is not None
    assert graded.high - graded.low < (coins.high - coins.low) / 2


def test_more_variance_widens_the_score_interval() -> None:
    narrow, wide = score_interval(0.3, 0.02, 500), score_interval(0.3, 0.04, 500)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]
    assert score_interval(0.3, 0.02, 500, degrees=4)[1] > narrow[1]


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([0.5, float("nan")], "1 of 2 values are missing"),
        ([0.5, None], "1 of 2 values are missing"),
        ([1.0, 1.5], r"found .*1\.5.*subtract 1"),
        ([-0.1], "expected probabilities"),
        ([[0.1, 0.2]], r"shape \(1, 2\)"),
    ],
)
def test_bad_preferences_are_refused(preferences: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        stats.win_rate(preferences)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match="n_expected=1"):
        stats.win_rate([0.5, 0.5], n_expected=1)
    with pytest.raises(UserError, match=r"level=95"):
        stats.win_rate([0.5, 0.5], level=95)


def test_position_bias_is_the_paired_t_interval() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(1)
    first, second = rng.random(50), rng.random(50) * 0.8
    estimate = stats.position_bias(first, second)
    interval = ttest_rel(100 * first, 100 * second).confidence_interval(0.95)
    assert estimate.value == pytest.approx(100 * (first.mean() - second.mean()))
    assert estimate.interval.ends == pytest.approx((interval.low, interval.high))


def test_position_bias_edges() -> None:
    assert stats.position_bias([], []).value is None
    assert stats.position_bias([0.5], [0.25]).interval is None
    assert stats.position_bias([1.0, 1.0], [0.5, 0.5]).interval.ends == (50, 50)
    assert stats.position_bias([1.0, 0.5], [0.0, 0.5]).interval.ends == (-100, 100)  # 50 ± 635 without the bounds
    with pytest.raises(UserError, match="reference_first: found 1 values, expected 2"):
        stats.position_bias([0.5, 0.5], [0.5])


def test_as_dict_is_json() -> None:
    import json

    assert json.loads(stats.win_rate([0.0, 1.0]).model_dump_json())["n_judged"] == 2
