"""Seeds: the paper's mean ± sd, and the two-level variance against simulation."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.length_control.offline_model import length_model
from implicit_if.harness.stats.length_control.priors import WEAK
from implicit_if.harness.stats.seeds import length_controlled_over_seeds, seed_part

VALUES = np.clip(np.random.default_rng(0).normal(0.4, 0.3, (5, 80)), 0, 1)


def test_mean_and_sd_over_seeds() -> None:
    summary = stats.over_seeds(VALUES)
    rates = [100 * statistics.fmean(row) for row in VALUES]
    assert summary.by_seed == pytest.approx(rates)
    assert summary.sd == pytest.approx(statistics.stdev(rates))
    assert summary.estimate.value == pytest.approx(statistics.fmean(rates))
    assert summary.estimate.method == "mean over 5 seeds;score"


def test_one_seed_is_the_win_rate() -> None:
    summary, plain = stats.over_seeds(VALUES[0]), stats.win_rate(VALUES[0])
    assert summary.sd is None
    assert summary.estimate.value == pytest.approx(plain.value)
    assert summary.estimate.interval.ends == pytest.approx(plain.interval.ends)
    assert summary.estimate.method == "mean over 1 seed;score"


def test_variance_is_unbiased_in_a_two_way_model() -> None:
    rng = np.random.default_rng(1)
    s, n, draws = 4, 30, 3000
    seeds = rng.normal(0, 0.5, (draws, s, 1))
    noise = rng.normal(0, 1, (draws, s, n))
    shared = rng.normal(0, 0.7, (draws, 1, n))
    estimates = [seed_part(values).variance for values in seeds + noise + shared]
    # cut off at 0, so slightly above
    assert 0.25 / s <= np.mean(estimates) <= 1.1 * 0.25 / s


def test_equal_seeds_add_nothing() -> None:
    repeated = np.tile(VALUES[0], (3, 1))
    assert seed_part(repeated).variance == pytest.approx(0, abs=1e-12)
    assert stats.over_seeds(repeated).estimate.standard_error == pytest.approx(stats.win_rate(VALUES[0]).standard_error)


def test_different_seeds_widen() -> None:
    shifted = np.clip(VALUES + np.array([-0.2, -0.1, 0, 0.1, 0.2])[:, None], 0, 1)
    assert stats.over_seeds(shifted).estimate.standard_error > stats.over_seeds(VALUES).estimate.standard_error  # type: ignore[operator]


def test_order_of_instructions_changes_no_bit() -> None:
    ids = [f"{i:02}" for i in range(80)]
    order = np.random.default_rng(2).permutation(80)
    assert stats.over_seeds(VALUES, ids) == stats.over_seeds(VALUES[:, order], [ids[i] for i in order])


def test_edges() -> None:
    assert stats.over_seeds([]).estimate.value is None
    assert stats.over_seeds([[0.25], [0.75]]).estimate.interval is None
    assert stats.over_seeds([[0.25], [0.75]]).estimate.value == 50
    with pytest.raises(UserError, match="seed 1: found 1 values, expected 2"):
        stats.over_seeds([[0.25, 0.5], [0.75]])


def test_length_control_over_seeds() -> None:
    rng = np.random.default_rng(3)
    reference = rng.integers(100, 2000, 80)
    models = [length_model(row, reference // 2, reference) for row in VALUES]
    summary = length_controlled_over_seeds(models)
    each = [stats.length_controlled_win_rate(row, reference // 2, reference, n_resamples=0).value for row in VALUES]
    assert summary.by_seed == pytest.approx(each)
    assert summary.estimate.interval is not None
    low, high = summary.estimate.interval.ends
    assert low < summary.estimate.value < high  # type: ignore[operator]


def test_ties_everywhere_have_only_the_priors_error() -> None:
    """Equal preferences do not vary, yet not knowing the judge's taste for length does."""
    lengths = np.arange(1.0, 11.0)
    model = length_model(np.full(10, 0.5), lengths, lengths[::-1] + 3, prior=WEAK)
    estimate = length_controlled_over_seeds([model]).estimate
    assert estimate.standard_error is not None
    assert estimate.standard_error > 0
