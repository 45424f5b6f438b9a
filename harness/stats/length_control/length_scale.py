"""The scale of length differences: their standard deviation without runaway answers, in the sample or in resamples.

Shapes: `r` resamples, `n` instructions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.stats.vectors import Floats

_FAR, _FEWEST_FAR = 3.0, 10


def far_lengths(system_lengths: Floats, reference_lengths: Floats) -> NDArray[np.bool_]:
    """`[n]`: which answers are so much longer or shorter than usual that they may not set the scale for the others.

    Far is more than 3 times as far from the median difference of lengths as all but a twentieth of the answers are
    (of normal differences one in 10 million is). Below 10 answers nobody can tell.
    """
    delta = reference_lengths - system_lengths
    if delta.size < _FEWEST_FAR:
        return np.zeros(delta.size, dtype=bool)
    distance = np.abs(delta - np.median(delta))
    usual = np.quantile(distance, 0.95, method="lower")
    return np.asarray((distance > _FAR * usual) & (usual > 0))


def length_scales(delta: Floats, usual: NDArray[np.bool_], weights: Floats) -> Floats:
    """`[r]` standard deviations (ddof = 1) of the usual length differences, one for each row of weights.

    Which answers are usual is settled on the whole sample: a resample that drew a runaway answer often enough would
    take it for usual, and its scale would say nothing about the other answers.

    Args:
        delta: `[n]` length differences.
        usual: `[n]` which of them count (the others than `far_lengths`).
        weights: `[r, n]` how often each was drawn, not negative.

    Returns:
        0 where the differences that count do not vary, or fewer than two were drawn.
    """
    counted = weights * usual
    totals = counted.sum(axis=1)
    means = counted @ delta / np.maximum(totals, 1)
    squares = (counted * (delta - means[:, None]) ** 2).sum(axis=1)
    scales = np.sqrt(squares / np.where(totals > 1, totals - 1, np.inf))
    return np.asarray(np.where(scales > 1e-12 * np.abs(delta).max(initial=0), scales, 0.0))


def scaled(delta: Floats, scales: Floats) -> Floats:
    """`[r, n]` tanh of the length differences over each of `[r]` scales; 0 where the scale is 0."""
    return np.asarray(np.tanh(_over(delta, scales)))


def slope_of_scaled(delta: Floats, scales: Floats) -> Floats:
    """`[r, n]` derivatives of `scaled` by the logarithm of the scale."""
    over = _over(delta, scales)
    return np.asarray(over * (np.tanh(over) ** 2 - 1))


def scale_influence(delta: Floats, usual: NDArray[np.bool_]) -> Floats:
    """`[n]`: n times what each instruction does to the logarithm of the scale; the mean over instructions is 0."""
    scale = float(length_scales(delta, usual, np.ones((1, delta.size)))[0])
    if scale == 0:
        return np.zeros(delta.size)
    counted = delta[usual]
    moves = usual * (((delta - counted.mean()) / scale) ** 2 - 1) * delta.size / (counted.size - 1) / 2
    return np.asarray(moves - moves.mean())


def _over(delta: Floats, scales: Floats) -> Floats:
    return np.asarray(delta / np.where(scales > 0, scales, np.inf)[:, None])
