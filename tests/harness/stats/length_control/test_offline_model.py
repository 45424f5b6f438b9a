"""The offline length control against an independent fit, a known truth and its invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.length_control.length_scale import far_lengths
from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.stats.length_control.offline_model import length_model
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LLM, WEAK, LengthPrior

Floats = NDArray[np.float64]
Case = tuple[Floats, Floats, Floats, Floats]

FIXED = LengthPrior("fixed", -1.4, 0.15)


def case(n: int = 120, *, shorter: float = 0.6, taste: float = -1.4, level: float = -0.5, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    reference = rng.lognormal(7, 0.6, n).round()
    system = (reference * shorter * rng.lognormal(0, 0.5, n)).round()
    first = rng.integers(0, 2, n).astype(float)
    difference = reference - system
    p = sigmoid(taste * np.tanh(difference / difference.std(ddof=1)) - 0.5 * (first - 0.5) + level)
    return (rng.random(n) < p).astype(float), system, reference, first


def value(*arguments: object, **options: object) -> float:
    estimate = stats.length_controlled_win_rate(*arguments, n_resamples=0, **options)  # type: ignore[arg-type]
    assert estimate.value is not None
    return estimate.value


def test_equals_an_independent_fit() -> None:
    preferences, system, reference, first = case()
    difference = reference - system
    tanh = np.tanh(difference / np.std(difference, ddof=1))
    size = np.log(reference + 1)
    size = (size - size.mean()) / np.std(size, ddof=1)

    def loss(c: Floats) -> float:
        p = 1 / (1 + np.exp(-(c[0] * tanh + c[1] * (first - 0.5) + c[2] * size + c[3])))
        likelihood = np.sum(preferences * np.log(p) + (1 - preferences) * np.log(1 - p))
        return float(((c[0] + 1.4) / 0.15) ** 2 / 2 + (c[1] ** 2 + c[2] ** 2) / 0.3**2 / 2 - likelihood)

    c = minimize(loss, np.array([-1.4, 0, 0, 0]), options={"gtol": 1e-8}).x
    expected = 100 * np.mean(1 / (1 + np.exp(-(c[1] * (first - 0.5) + c[2] * size + c[3]))))
    assert value(preferences, system, reference, first, prior=FIXED) == pytest.approx(expected, abs=1e-3)


def test_recovers_a_known_truth() -> None:
    preferences, system, reference, first = case(20_000, shorter=0.5, level=0.0)
    assert value(preferences, system, reference, first, prior=FIXED) == pytest.approx(50, abs=1.5)
    assert value(preferences, system, reference, first, prior=WEAK) == pytest.approx(50, abs=1.5)
    assert 100 * preferences.mean() < 40


def test_short_answers_gain_and_long_ones_lose() -> None:
    preferences, system, reference, _ = case(shorter=0.5)
    assert value(preferences, system, reference) > 100 * preferences.mean()
    preferences, system, reference, _ = case(shorter=2.5)
    assert value(preferences, system, reference) < 100 * preferences.mean()


@pytest.mark.parametrize("length", [0.0, 700.0])
def test_equal_lengths_give_the_win_rate(length: float) -> None:
    preferences = case()[0]
    lengths = np.full(preferences.size, length)
    assert value(preferences, lengths, lengths) == pytest.approx(100 * preferences.mean(), abs=1e-3)


def test_without_an_order_effect_to_see_first_shown_changes_nothing() -> None:
    preferences, system, reference, _ = case()
    both = value(preferences, system, reference)
    assert value(preferences, system, reference, np.full(preferences.size, 0.5)) == both


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_row_order_changes_no_bit(seed: int, with_ids: bool) -> None:
    rows = case(40, seed=seed)
    ids = [f"{i:03}" for i in range(40)] if with_ids else None
    order = np.random.default_rng(seed).permutation(40)
    shuffled = [column[order] for column in rows]
    shuffled_ids = None if ids is None else [ids[i] for i in order]
    assert stats.length_controlled_win_rate(*rows, ids=ids, n_resamples=50) == stats.length_controlled_win_rate(
        *shuffled, ids=shuffled_ids, n_resamples=50
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_bounds(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.random(n), rng.integers(0, 3, n), rng.integers(0, 3, n)
    estimate = stats.length_controlled_win_rate(*rows, n_resamples=50)
    assert estimate.value is not None
    assert estimate.interval is not None
    assert 0 <= estimate.interval.low <= estimate.value <= estimate.interval.high <= 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 39))
def test_a_better_answer_of_the_same_length_never_lowers_it(seed: int, position: int) -> None:
    preferences = case(40, seed=seed)[0]
    level = np.full(40, 1000.0)  # equal lengths: with others, a win of a short answer also speaks about length
    improved = preferences.copy()
    improved[position] = 1.0
    assert value(improved, level, level) >= value(preferences, level, level) - 1e-9


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_only_losses_or_wins(outcome: float) -> None:
    _, system, reference, first = case()
    estimate = stats.length_controlled_win_rate(np.full(120, outcome), system, reference, first)
    assert estimate.value == 100 * outcome
    assert estimate.interval is not None
    plain = stats.win_rate(np.full(120, outcome)).interval
    assert plain is not None
    low, high = estimate.interval.ends
    assert low <= 100 * outcome <= high
    # the system's answers are shorter, so at equal lengths it would win more often than it does
    assert (low > plain.low) if outcome else (high > plain.high)


def test_few_instructions() -> None:
    nothing = stats.length_controlled_win_rate([], [], [], n_expected=4)
    assert (nothing.value, nothing.interval, nothing.n_judged, nothing.n_expected) == (None, None, 0, 4)
    assert stats.prior_sensitivity([], [], []) is None
    one = stats.length_controlled_win_rate([1.0], [10], [20])
    assert (one.value, one.standard_error, one.interval) == (100, None, None)
    two = stats.length_controlled_win_rate([1.0, 0.0], [10, 10], [20, 20])
    assert two.value is not None
    assert two.interval is not None


def test_all_ties() -> None:
    _, system, reference, _ = case()
    estimate = stats.length_controlled_win_rate(np.full(120, 0.5), system, reference)
    assert estimate.value == 50  # they say nothing of length: the prior must not make a win of them


def test_equal_seeds_equal_results() -> None:
    rows = case()
    assert stats.length_controlled_win_rate(*rows, seed=3) == stats.length_controlled_win_rate(*rows, seed=3)
    assert stats.length_controlled_win_rate(*rows, seed=3) != stats.length_controlled_win_rate(*rows, seed=4)


@pytest.mark.parametrize("prior", [GPT4_TURBO, LLM, WEAK, FIXED])
def test_bootstrap_error_agrees_with_the_infinitesimal_jackknife(prior: LengthPrior) -> None:
    rows = case(400)
    estimate = stats.length_controlled_win_rate(*rows, prior=prior)
    values, prior_error = length_model(*rows, prior=prior).pseudo_values()
    expected = 100 * np.sqrt(values.var(ddof=1) / 400 + prior_error**2)
    assert estimate.standard_error == pytest.approx(expected, rel=0.08)
    assert 100 * values.mean() == pytest.approx(estimate.value)


def test_the_prior_matters_where_lengths_say_little() -> None:
    always_shorter = case(80, shorter=0.2)
    similar = case(80, shorter=1.0)
    wide, narrow = stats.prior_sensitivity(*always_shorter), stats.prior_sensitivity(*similar)
    assert wide is not None
    assert narrow is not None
    assert wide[0] > value(*always_shorter) > wide[1]
    assert abs(wide[0] - wide[1]) > abs(narrow[0] - narrow[1])
    moved = replace(GPT4_TURBO, mean=GPT4_TURBO.mean - GPT4_TURBO.sd)
    assert wide[0] == pytest.approx(value(*always_shorter, prior=moved))


@pytest.mark.parametrize("longest", [None, 100_000.0])
def test_pseudo_values_follow_prior_and_scale_as_the_data_move_them(longest: float | None) -> None:
    rows = case(300, shorter=0.4)
    if longest is not None:
        rows[1][17] = longest
    model = length_model(*rows, ids=[f"{i:03}" for i in range(300)])
    values, _ = model.pseudo_values()
    step = 1e-4
    slopes = []
    for i in (3, 17, 250):
        weights = np.ones((1, 300))
        weights[0, i] += step
        slopes.append(float(model.controlled(weights)[0] - values.mean()) / step)
    assert (values[3] - values[250]) / 300 == pytest.approx(slopes[0] - slopes[2], abs=1e-6)
    assert (values[3] - values[17]) / 300 == pytest.approx(slopes[0] - slopes[1], abs=1e-6)


def test_a_judge_without_a_taste_for_length_is_not_corrected() -> None:
    preferences, system, reference, first = case(2000, shorter=0.4, taste=0.0)
    raw = 100 * preferences.mean()
    assert value(preferences, system, reference, first, prior=WEAK) == pytest.approx(raw, abs=4)
    assert value(preferences, system, reference, first, prior=GPT4_TURBO) > raw + 5


@pytest.mark.parametrize("sign", [1, -1])
def test_what_else_goes_with_length_stays_in_the_win_rate(sign: int) -> None:
    """Hard instructions have shorter answers (or longer ones): the verdicts alone take that for the judge's taste."""
    rng = np.random.default_rng(0)
    n = 4000
    reference = rng.lognormal(7, 0.5, n)
    system = reference * rng.lognormal(-0.5, 0.5, n)
    length = np.tanh((reference - system) / (reference - system).std(ddof=1))
    level = -0.4 + sign * 0.5 * length
    y, truth = sigmoid(-1.2 * length + level), 100 * sigmoid(level).mean()
    prior = LengthPrior("known", -1.2, 0.16)
    blind, aware = (value(y, system, reference, prior=p) for p in (prior, replace(prior, confounding=0.3)))
    assert abs(aware - truth) < 0.3 * abs(blind - truth)
    assert abs(blind - truth) > 3


def test_the_method_names_the_prior() -> None:
    assert stats.length_controlled_win_rate(*case(), prior=WEAK).method == "offline(weak);score"


def test_a_wider_prior_widens_the_interval() -> None:
    rows = case(80, shorter=0.2)
    errors = [stats.length_controlled_win_rate(*rows, prior=replace(FIXED, sd=sd)).standard_error for sd in (0.05, 0.5)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0] < errors[1]


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="system_lengths: found 1 values, expected 2"):
        stats.length_controlled_win_rate([0.5, 0.5], [3], [4, 4])
    with pytest.raises(UserError, match="negative"):
        stats.length_controlled_win_rate([0.5], [-3], [4])
    with pytest.raises(UserError, match="'a' comes twice"):
        stats.length_controlled_win_rate([0.5, 0.5], [3, 3], [4, 4], ids=["a", "a"])
    with pytest.raises(UserError, match="1 of 2 values are missing"):
        stats.length_controlled_win_rate([0.5, 0.5], [3, float("nan")], [4, 4])


# ---------------------------------------------------------------------- runaway answers
def drawn(seed: int, n: int = 80, rate: float = 0.3) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    reference, system = rng.lognormal(6.8, 0.5, n), rng.lognormal(6.5, 0.5, n)
    return (rng.random(n) < rate).astype(float), system.round(), reference.round()


@pytest.mark.parametrize("prior", [GPT4_TURBO, LLM, WEAK], ids=lambda prior: prior.name)
@pytest.mark.parametrize(("where", "length"), [("system", 100_000.0), ("system", 30_000.0), ("reference", 100_000.0)])
def test_one_runaway_answer_moves_little_and_narrows_nothing(where: str, length: float, prior: LengthPrior) -> None:
    y, system, reference = drawn(1)
    before = stats.length_controlled_win_rate(y, system, reference, prior=prior)
    (system if where == "system" else reference)[7] = length
    after = stats.length_controlled_win_rate(y, system, reference, prior=prior)
    assert abs(after.value - before.value) < 2
    assert after.standard_error > 0.95 * before.standard_error
    assert far_lengths(system, reference).nonzero()[0].tolist() == [7]


@pytest.mark.parametrize("seed", range(3))
def test_one_answer_of_100_000_characters_among_805(seed: int) -> None:
    y, system, reference = drawn(seed, 805)
    before = stats.length_controlled_win_rate(y, system, reference)
    system[7] = 100_000
    after = stats.length_controlled_win_rate(y, system, reference)
    assert before.interval.low < after.value < before.interval.high
    assert abs(after.value - before.value) < 0.2
    assert after.standard_error > 0.98 * before.standard_error


def test_resamples_equal_a_loop_over_rows_written_out() -> None:
    """Each resample's scale, prior and fit, by NumPy's standard deviation and SciPy's optimiser."""
    y, system, reference = drawn(4, 60)
    system[7] = 100_000
    ids = [f"{i:02}" for i in range(60)]
    rng = np.random.default_rng(6)
    shifts = 0.16 * rng.standard_normal(25)
    draws = [rng.integers(0, 60, 60) for _ in shifts]
    draws[0][:12] = 7  # a fifth of a resample is the runaway answer
    size = np.log(reference + 1)
    size = (size - size.mean()) / size.std(ddof=1)
    expected = []
    for rows, shift in zip(draws, shifts, strict=True):
        usual = rows[rows != 7]
        scale = (reference - system)[usual].std(ddof=1)
        length = np.tanh((reference - system) / scale)
        x = np.column_stack([length, length, size, np.ones(60)])[rows]
        rate, ratio = y[rows].mean(), system[usual].sum() / reference[usual].sum()
        mean = -0.88 + 0.11 * np.log(rate / (1 - rate)) + 0.32 * np.log(ratio) + shift

        def loss(c: Floats, x: Floats = x, rows: NDArray[np.intp] = rows, mean: float = mean) -> float:
            logits = x @ c
            fitted = np.sum(np.logaddexp(0, logits) - y[rows] * logits)
            taste, others = (c[0] - mean) / 0.16, c[1:] / np.array([0.3, 0.3, 100])
            return float(fitted + taste**2 / 2 + np.sum(others**2) / 2)

        c = minimize(loss, np.array([mean, 0, 0, 0]), options={"gtol": 1e-8}).x
        expected.append(np.mean(1 / (1 + np.exp(-x[:, 1:] @ c[1:]))))
    weights = np.stack([np.bincount(rows, minlength=60) for rows in draws]).astype(float)
    found = length_model(y, system, reference, ids=ids).controlled(weights, shifts)
    assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_usual_lengths_are_never_far_and_few_answers_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert not far_lengths(rng.normal(900, 300, 805), rng.normal(1200, 300, 805)).any()
    assert not far_lengths(np.array([5.0] * 8 + [1e5]), np.full(9, 7.0)).any()
    assert not far_lengths(np.array([5.0] * 79 + [1e5]), np.full(80, 5.0)).any(), "all but one are equal: no scale"
    assert far_lengths(np.array([5.0, 6.0] * 10 + [1e5]), np.full(21, 5.0)).sum() == 1


def test_the_scale_without_runaways_is_the_standard_deviation() -> None:
    y, system, reference = drawn(2)
    model = length_model(y, system, reference, ids=[f"{i:02}" for i in range(80)])
    delta = reference - system
    assert model.features(np.ones((1, 80)))[0, :, 0] == pytest.approx(np.tanh(delta / delta.std(ddof=1)))


@pytest.mark.parametrize("n", [2, 25, 80])
@pytest.mark.parametrize("verdict", [0.5, 0.25, 0.0, 1.0])
def test_equal_verdicts_are_their_own_lc(n: int, verdict: float) -> None:
    _, system, reference = drawn(3, n)
    for prior in (GPT4_TURBO, LLM, WEAK):
        found = stats.length_controlled_win_rate([verdict] * n, system, reference, prior=prior)
        assert found.value == 100 * verdict
        assert found.interval.low <= found.value <= found.interval.high
        assert found.interval.low < found.interval.high
