"""The bootstrap against scipy's, and its own settings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats import bootstrap
from implicit_if.harness.stats.bootstrap import replicates

Floats = NDArray[np.float64]
VALUES = np.random.default_rng(0).exponential(size=60)


def mean(weights: Floats) -> Floats:
    return np.asarray(weights @ VALUES / weights.sum(axis=1))


def test_replicates_have_the_error_of_the_mean() -> None:
    values = replicates(mean, 60, 20_000)
    assert values.std() == pytest.approx(VALUES.std() / np.sqrt(60), rel=0.03)
    assert values.mean() == pytest.approx(VALUES.mean(), abs=0.01)


def test_each_replicate_draws_n() -> None:
    assert (replicates(lambda w: w.sum(axis=1), 60, 10) == 60).all()


def test_seeded() -> None:
    assert (replicates(mean, 60, 50, seed=1) == replicates(mean, 60, 50, seed=1)).all()
    assert (replicates(mean, 60, 50, seed=1) != replicates(mean, 60, 50, seed=2)).any()


def test_memory_is_bounded_by_working_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replicates(mean, 60, 50)
    rows: list[int] = []

    def counted(weights: Floats) -> Floats:
        rows.append(len(weights))
        return mean(weights)

    monkeypatch.setattr(bootstrap, "_AT_ONCE", 60 * 7)
    monkeypatch.setattr(bootstrap, "_KEPT", 0)
    assert replicates(counted, 60, 50) == pytest.approx(whole)
    assert max(rows) == 7


def test_edges() -> None:
    with pytest.raises(UserError, match="n_resamples=1"):
        replicates(mean, 60, 1)
