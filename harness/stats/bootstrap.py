"""Bootstrap over instructions for any statistic that takes weights, so that a replicate is a row of a matrix product.

Shapes: `r` replicates, `n` instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.vectors import Floats, check_level

Statistic = Callable[[Floats], Floats]
"""`[r, n]` weights (how often each instruction was drawn) to `[r]` values."""

_AT_ONCE = 40_000
"""Weights given to a statistic at once: what it makes of them stays in the processor's cache."""
_KEPT = 2_000_000
"""Weights kept for the next sample of the same size: 16 MB."""


def replicates(statistic: Statistic, n: int, n_resamples: int = 1000, seed: int = 0) -> Floats:
    """The statistic on resamples of n instructions drawn with replacement.

    Args:
        statistic: See `Statistic`.
        n: Instructions, at least 1.
        n_resamples: Resamples, at least 2.
        seed: Seed of the draws; equal seeds give equal values.

    Returns:
        `[n_resamples]`.

    Raises:
        UserError: If `n` or `n_resamples` is too small.
    """
    if n < 1 or n_resamples < 2:
        raise UserError(f"bootstrap: found n={n}, n_resamples={n_resamples}. Expected n >= 1 and n_resamples >= 2.")
    drawn = _kept_weights if n * n_resamples <= _KEPT else _draw_weights
    return np.concatenate([statistic(weights) for weights in drawn(n, n_resamples, seed)])


def _draw_weights(n: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Blocks `[r, n]` of how often each instruction was drawn."""
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        drawn = generator.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


@lru_cache(maxsize=2)
def _kept_weights(n: int, n_resamples: int, seed: int) -> tuple[Floats, ...]:
    """The same draws serve every system on an instruction set; nobody may write into them."""
    blocks = tuple(_draw_weights(n, n_resamples, seed))
    for block in blocks:
        block.flags.writeable = False
    return blocks


def bootstrap_interval(
    statistic: Statistic,
    n: int,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "bca",
) -> tuple[float, float] | None:
    """Bootstrap confidence interval of a statistic, in its own unit.

    Args:
        statistic: See `Statistic`.
        n: Instructions.
        level: Nominal coverage.
        n_resamples: Resamples.
        seed: Seed of the draws.
        method: "percentile" takes quantiles of the replicates; "bca" corrects them for bias and skew (Efron 1987),
            the acceleration coming from the jackknife, i.e. n further evaluations.

    Returns:
        Lower and upper end; None below two instructions. A statistic that never varies gives width 0.

    Raises:
        UserError: If the level, the method or a count is out of range.
    """
    check_level(level)
    if method not in ("percentile", "bca"):
        raise UserError(f"bootstrap method {method!r}: expected 'percentile' or 'bca'.")
    if n < 2:
        return None
    values = replicates(statistic, n, n_resamples, seed)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(tails, values, statistic, n)
    low, high = np.quantile(values, tails)
    return float(low), float(high)


def _bca_tails(tails: Floats, values: Floats, statistic: Statistic, n: int) -> Floats:
    estimate = statistic(np.ones((1, n)))[0]
    # ties count half, and neither all nor none below: an infinite correction would ignore the data
    below = np.clip((np.sum(values < estimate) + np.sum(values == estimate) / 2) / values.size, 1e-6, 1 - 1e-6)
    normal = NormalDist()
    bias = normal.inv_cdf(float(below))
    left_out = _jackknife(statistic, n)
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    corrected = []
    for tail in tails:
        z = bias + normal.inv_cdf(float(tail))
        corrected.append(normal.cdf(bias + z / (1 - acceleration * z)))
    return np.array(corrected)


def _jackknife(statistic: Statistic, n: int) -> Floats:
    step = max(1, _AT_ONCE // n)
    parts = []
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        weights = np.ones((rows.size, n))
        weights[np.arange(rows.size), rows] = 0
        parts.append(statistic(weights))
    return np.concatenate(parts)
