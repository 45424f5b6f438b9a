"""Several training seeds of one system: mean ± sd as in the paper, and an interval over seeds and instructions.

Shapes: `s` seeds, `n` instructions. Every seed answers every instruction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.scores import Score
from implicit_if.harness.stats.intervals import score_interval
from implicit_if.harness.stats.length_control.offline_model import METHOD, LengthModel
from implicit_if.harness.stats.vectors import (
    Floats,
    as_seed_matrix,
    canonical_order,
    check_expected,
    check_level,
)


@dataclass(frozen=True)
class SeedSummary:
    """One system over its seeds.

    Attributes:
        by_seed: Percent, one a seed, in the given order.
        sd: Standard deviation of `by_seed` (ddof = 1), as the paper reports; None for one seed.
        estimate: The mean over seeds, with error and interval for new seeds and new instructions.
    """

    by_seed: tuple[float, ...]
    sd: float | None
    estimate: Score


def over_seeds(
    preferences: ArrayLike,
    ids: Sequence[str] | None = None,
    *,
    n_expected: int | None = None,
    level: float = 0.95,
) -> SeedSummary:
    """Win rate over seeds.

    Args:
        preferences: `[s, n]` in [0, 1], no missing values; `[n]` is one seed.
        ids: `[n]` instruction ids. The order of instructions changes no number, with or without them.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.

    Returns:
        See `SeedSummary`. With one seed, error and interval are those of `win_rate` and speak of that seed only, which
        the method says ("1 seed").

    Raises:
        UserError: If a preference is missing or outside [0, 1], or there is no seed.
    """
    values = as_seed_matrix(preferences, "preferences")
    values = values[:, canonical_order(ids, *values)]
    return _summary(values, 0.0, "mean", n_expected, level)


def length_controlled_over_seeds(
    models: Sequence[LengthModel], *, n_expected: int | None = None, level: float = 0.95
) -> SeedSummary:
    """Length-controlled win rate over seeds.

    Args:
        models: One a seed (`length.length_model`), all on the same instructions, made with their ids.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.

    Returns:
        See `SeedSummary`. The prior's error is the same for all seeds, so more seeds do not reduce it.

    Raises:
        UserError: If there is no seed, or seeds differ in their number of instructions.
    """
    parts = [model.pseudo_values() for model in models]
    values = as_seed_matrix([v for v, _ in parts], "models", bounded=False)
    prior_error = float(np.mean([error for _, error in parts]))
    return _summary(values, prior_error, METHOD, n_expected, level)


class Part(NamedTuple):
    """One source of a mean's variance.

    Attributes:
        variance: What it adds.
        spread: The mean square it was estimated from, which is what its degrees of freedom belong to.
        degrees: Degrees of freedom.
    """

    variance: float
    spread: float
    degrees: int


def error_and_degrees(parts: Sequence[Part]) -> tuple[float, float]:
    """Standard error of all parts together and Satterthwaite's degrees of freedom (the largest part's if no spread)."""
    variance = sum(part.variance for part in parts)
    doubt = sum(part.spread**2 / part.degrees for part in parts)
    return math.sqrt(variance), variance**2 / doubt if doubt > 0 else float(max(p.degrees for p in parts))


def seed_part(values: Floats) -> Part:
    """The variance of the mean that is due to seeds alone, at least 0, in the values' unit squared.

    Args:
        values: `[s, n]` with s and n at least 2.

    Returns:
        Variance of the seeds' means over s, minus what noise within a cell adds to it.
    """
    s, n = values.shape
    seeds, instructions = values.mean(axis=1), values.mean(axis=0)
    residuals = values - seeds[:, None] - instructions + values.mean()
    noise = float((residuals**2).sum()) / ((s - 1) * (n - 1)) / (s * n)
    spread = float(seeds.var(ddof=1)) / s
    return Part(max(0.0, spread - noise), spread, s - 1)


def _summary(values: Floats, prior_error: float, method: str, n_expected: int | None, level: float) -> SeedSummary:
    check_level(level)
    s, n = values.shape
    expected = check_expected(n, n_expected)
    name = f"{method} over {s} seed{'s' if s > 1 else ''}"
    if not n:
        return SeedSummary((), None, Score.estimate(None, name, n, expected))
    by_seed = tuple(float(v) for v in 100 * values.mean(axis=1))
    sd = float(np.std(by_seed, ddof=1)) if s > 1 else None
    mean = float(values.mean())
    if n < 2:
        return SeedSummary(by_seed, sd, Score.estimate(100 * mean, name, n, expected))
    variance = float(values.mean(axis=0).var(ddof=1)) / n
    parts = [Part(variance + prior_error**2, variance, n - 1), *([seed_part(values)] if s > 1 else [])]
    error, degrees = error_and_degrees(parts)
    low, high = score_interval(mean, error, s * n, level, degrees if s > 1 else None)
    estimate = Score.estimate(100 * mean, f"{name};score", n, expected, 100 * error, (100 * low, 100 * high), level)
    return SeedSummary(by_seed, sd, estimate)
