"""The scale of length differences against NumPy on resamples written out, and its derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest

from implicit_if.harness.stats.length_control.length_scale import (
    far_lengths,
    length_scales,
    scale_influence,
    scaled,
    slope_of_scaled,
)

RNG = np.random.default_rng(0)
DELTA = RNG.normal(200, 300, 50).round()
DELTA[7] = -90_000.0
USUAL = ~far_lengths(-DELTA, np.zeros(50))


def test_equals_the_standard_deviation_of_the_usual_rows_drawn() -> None:
    assert np.flatnonzero(~USUAL).tolist() == [7]
    draws = [RNG.integers(0, 50, 50) for _ in range(20)] + [np.full(50, 7), np.array([7] * 48 + [1, 2])]
    weights = np.stack([np.bincount(rows, minlength=50) for rows in draws]).astype(float)
    for rows, found in zip(draws, length_scales(DELTA, USUAL, weights), strict=True):
        usual = DELTA[rows[rows != 7]]
        assert found == pytest.approx(usual.std(ddof=1) if usual.size > 1 else 0)


def test_equal_differences_have_no_scale_and_count_as_none() -> None:
    for delta in (np.zeros(12), np.full(12, 1e6 + 0.1)):
        scales = length_scales(delta, np.ones(12, dtype=bool), np.ones((2, 12)))
        assert scales.tolist() == [0, 0]
        assert not scaled(delta, scales).any()
        assert not scale_influence(delta, np.ones(12, dtype=bool)).any()
    assert length_scales(np.zeros(0), np.zeros(0, dtype=bool), np.ones((1, 0))).tolist() == [0]


def test_influence_and_slope_are_derivatives() -> None:
    step, ones = 1e-5, np.ones((1, 50))
    scale = length_scales(DELTA, USUAL, ones)
    moves = []
    for i in range(50):
        weights = ones.copy()
        weights[0, i] += step
        moves.append(50 * np.log(length_scales(DELTA, USUAL, weights)[0] / scale[0]) / step)
    assert scale_influence(DELTA, USUAL) == pytest.approx(np.array(moves) - np.mean(moves), abs=1e-3)
    slope = (scaled(DELTA, scale * np.exp(step)) - scaled(DELTA, scale * np.exp(-step))) / (2 * step)
    assert slope_of_scaled(DELTA, scale) == pytest.approx(slope, abs=1e-6)
