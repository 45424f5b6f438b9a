"""Bootstrap over instructions for any statistic that takes weights, so that a replicate is a row of a matrix product.

Shapes: `r` replicates, `n` instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.vectors import Floats

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
