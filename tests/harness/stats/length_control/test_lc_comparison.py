"""Differences of length-controlled win rates against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.length_control.comparison import compare_controlled
from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.stats.length_control.offline_model import LengthModel, length_model
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, WEAK, LengthPrior

Floats = NDArray[np.float64]
N = 200
IDS = [f"{i:03}" for i in range(N)]
REFERENCE = np.random.default_rng(9).lognormal(7, 0.6, N).round()


def system(level: float, shorter: float, seed: int, n: int = N) -> tuple[Floats, Floats]:
    """Verdicts and lengths of a system whose answers have some length; the judge likes long ones."""
    rng = np.random.default_rng(seed)
    lengths = (REFERENCE[:n] * shorter * rng.lognormal(0, 0.5, n)).round()
    difference = REFERENCE[:n] - lengths
    p = sigmoid(-1.4 * np.tanh(difference / difference.std()) + level)
    return (rng.random(n) < p).astype(float), lengths


def model(level: float, shorter: float, seed: int, prior: LengthPrior = GPT4_TURBO) -> LengthModel:
    verdicts, lengths = system(level, shorter, seed)
    return length_model(verdicts, lengths, REFERENCE, ids=IDS, prior=prior)


def test_the_difference_is_that_of_the_two_win_rates() -> None:
    a, b = system(0.5, 0.6, 1), system(-0.5, 1.2, 2)
    values = [stats.length_controlled_win_rate(*s, REFERENCE, ids=IDS, n_resamples=0).value for s in (a, b)]
    found = compare_controlled([model(0.5, 0.6, 1)], [model(-0.5, 1.2, 2)])
    assert values[0] is not None
    assert values[1] is not None
    assert found.difference.value == pytest.approx(values[0] - values[1])
    assert found.p_value is not None
    assert found.p_value < 0.01
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * found.difference.standard_error, rel=1e-4)


def test_the_error_is_that_of_resampling_both_systems_together() -> None:
    a, b = system(0.3, 0.7, 1), system(0.0, 1.0, 2)
    rng = np.random.default_rng(5)
    differences = []
    for _ in range(300):
        rows = rng.integers(0, N, N)
        taste = GPT4_TURBO.sd * rng.standard_normal()
        prior = LengthPrior("moved", GPT4_TURBO.mean + taste, GPT4_TURBO.sd, GPT4_TURBO.by_win_rate, 0.32)
        pair = [
            stats.length_controlled_win_rate(y[rows], x[rows], REFERENCE[rows], n_resamples=0, prior=prior).value
            for y, x in (a, b)
        ]
        differences.append(pair[0] - pair[1])  # type: ignore[operator]
    found = compare_controlled([model(0.3, 0.7, 1)], [model(0.0, 1.0, 2)])
    assert found.difference.standard_error == pytest.approx(np.std(differences, ddof=1), rel=0.15)


def test_a_shared_taste_for_length_cancels() -> None:
    """Two systems of equal lengths: not knowing the taste moves both win rates alike."""
    verdicts, lengths = system(0.0, 0.3, 1)
    other = np.random.default_rng(3).permutation(verdicts)
    unsure = LengthPrior("unsure", -1.4, 1.0)
    models = [length_model(y, lengths, REFERENCE, ids=IDS, prior=unsure) for y in (verdicts, other)]
    single = stats.length_controlled_win_rate(verdicts, lengths, REFERENCE, ids=IDS, prior=unsure).standard_error
    found = compare_controlled([models[0]], [models[1]]).difference.standard_error
    assert single is not None
    assert found is not None
    assert found < 1.4 * single


def test_equal_systems() -> None:
    for seeds in (1, 3):
        models = [model(0.0, 0.8, s) for s in range(seeds)]
        found = compare_controlled(models, models)
        assert found.difference.value == 0
        assert found.p_value == 1
    for same in (models[:1], models[:1] * 2):
        found = compare_controlled(same, same)
        low, high = found.difference.interval.ends  # type: ignore[misc]
        assert low == -high
        assert high == pytest.approx(1.972 * 100 * np.sqrt(2) / 202, rel=1e-3)  # 200 draws, a win and a loss more
        assert found.detectable is None


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(("n", "low", "p_value"), [(2, -100.0, 0.5), (12, 40.0, 2.0**-11)])
def test_systems_that_won_or_lost_all_have_no_certainty(seeds: int, n: int, low: float, p_value: float) -> None:
    won, lost = (length_model(np.full(n, y), REFERENCE[:n] / 2, REFERENCE[:n], ids=IDS[:n]) for y in (1.0, 0.0))
    found = compare_controlled([won] * seeds, [lost] * seeds)
    assert found.difference.value == 100
    assert found.difference.interval.low >= low if low < 0 else found.difference.interval.low > low  # type: ignore[index]
    assert found.difference.interval.low < 90  # type: ignore[index]
    assert found.difference.interval.high == 100  # type: ignore[index]
    assert p_value <= found.p_value < 0.6  # type: ignore[operator]
    assert found.detectable is None


def test_a_system_that_lost_all_leaves_the_difference_as_uncertain_as_few_wins_do() -> None:
    few, none = np.zeros(N), np.zeros(N)
    few[:3] = 1
    models = [length_model(y, REFERENCE, REFERENCE, ids=IDS) for y in (few, none)]
    found, raw = compare_controlled([models[0]], [models[1]]), stats.compare(few, none)
    assert found.difference.value == pytest.approx(1.5, abs=0.01)
    assert found.difference.interval.ends == pytest.approx(raw.difference.interval.ends, abs=0.3)
    assert found.p_value > 0.1  # type: ignore[operator]
    assert found.detectable is None


def test_several_seeds_add_their_variance() -> None:
    one = compare_controlled([model(0.5, 0.7, 1)], [model(0.0, 0.7, 2)]).difference
    a = [model(0.5 + 0.5 * s, 0.7, 10 + s) for s in (-1, 0, 1)]
    b = [model(0.5 * s, 0.7, 20 + s) for s in (-1, 0, 1)]
    many = compare_controlled(a, b)
    values = [100 * (np.mean([m.value() for m in part])) for part in (a, b)]
    assert many.difference.value == pytest.approx(values[0] - values[1])
    assert many.difference.method == "paired lc seeds;t"
    assert one.standard_error is not None
    assert many.difference.standard_error is not None
    spread = [np.std([100 * m.value() for m in part], ddof=1) / np.sqrt(3) for part in (a, b)]
    assert many.difference.standard_error > 0.8 * np.hypot(*spread)


def test_few_instructions_and_bad_input() -> None:
    one = length_model([1.0], [3], [4])
    assert compare_controlled([one], [one]).difference.value is None
    with pytest.raises(UserError, match="one prior"):
        compare_controlled([model(0, 1, 1)], [model(0, 1, 1, WEAK)])
    with pytest.raises(UserError, match="one prior"):
        compare_controlled([model(0, 1, 1)], [])


@pytest.mark.slow
def test_true_nulls_are_rejected_at_the_tests_level() -> None:
    """Two systems that would win equally often at equal lengths, one much shorter."""
    p_values = []
    prior = LengthPrior("known", -1.4, 0.15)
    for k in range(300):
        taste = -1.4 + 0.15 * np.random.default_rng([k, 7]).standard_normal()
        models = []
        for j, shorter in enumerate((0.5, 1.0)):
            rng = np.random.default_rng([k, j])
            lengths = REFERENCE * shorter * rng.lognormal(0, 0.5, N)
            difference = REFERENCE - lengths
            verdicts = (rng.random(N) < sigmoid(taste * np.tanh(difference / difference.std()) - 0.5)).astype(float)
            models.append(length_model(verdicts, lengths, REFERENCE, ids=IDS, prior=prior))
        p_values.append(compare_controlled([models[0]], [models[1]], n_resamples=200).p_value)
    rejected = np.mean([p is not None and p < 0.05 for p in p_values])
    print(f"\nnulls rejected at 5 %: {100 * rejected:.1f} %")
    assert 0.02 < rejected < 0.08
