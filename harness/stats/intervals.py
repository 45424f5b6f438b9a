"""Closed-form confidence intervals: one for shares, one for differences."""

from __future__ import annotations

import math
from statistics import NormalDist

from implicit_if.harness.stats.vectors import Floats

_FEW_WINS = 4


def score_interval(
    mean: float, standard_error: float, n: int, level: float = 0.95, degrees: float | None = None
) -> tuple[float, float]:
    """Wilson's score interval for a mean of values in [0, 1], for any design that has a standard error.

    All means m are kept with `(mean - m)^2 <= q^2 * k * m * (1 - m)`, where `k = se^2 / (mean * (1 - mean))` is 1 / n
    for independent zeros and ones, less for graded values, more where seeds or length control add variance. It stays
    within [0, 1] and keeps its coverage at few wins, where mean ± 1.96 standard errors does not. A small standard
    error says little where it rests on few wins (or few losses): k is pulled up towards 1 / n, half way at 4 of them
    (`_FEW_WINS`), hardly at 40.

    Args:
        mean: Estimate, a fraction.
        standard_error: Its standard error, a fraction.
        n: Verdicts the mean is taken over: instructions, times seeds.
        level: Nominal coverage.
        degrees: Degrees of freedom of the standard error, for Student's quantile; None for the normal one.

    Returns:
        Lower and upper end as fractions. The interval has a width even where all values are equal: no win in n is
        not taken for certainty, nor are n ties.
    """
    coin = mean * (1 - mean)
    k = standard_error**2 / coin if coin > 0 else 0.0
    pull = 1 / (1 + (n * min(mean, 1 - mean) / _FEW_WINS) ** 2)
    k = max(k, k + pull * (1 / n - k)) * quantile(level, degrees) ** 2
    centre = (mean + k / 2) / (1 + k)
    half = math.sqrt(max(0.0, k * coin + k * k / 4)) / (1 + k)
    return max(0.0, centre - half), min(1.0, centre + half)


def student_interval(mean: float, standard_error: float, degrees: float, level: float = 0.95) -> tuple[float, float]:
    """Mean ± Student's quantile times the standard error, in the unit of both."""
    half = quantile(level, degrees) * standard_error
    return mean - half, mean + half


def quantile(level: float, degrees: float | None = None) -> float:
    """Two-sided quantile: 1.96 for a level of 0.95; Student's with degrees of freedom, the normal one without."""
    if degrees is None:
        return NormalDist().inv_cdf((1 + level) / 2)
    from scipy.special import stdtrit  # scipy.stats has the same under another name, and takes a second to import

    return float(stdtrit(degrees, (1 + level) / 2))


def mean_and_error(values: Floats) -> tuple[float | None, float | None]:
    """Mean (None without values) and its standard error (ddof = 1; None below two values), in any order the same."""
    n = values.size
    if not n:
        return None, None
    mean = math.fsum(values) / n  # exact sums: numpy's depend in their last bits on the order of rows
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (n - 1) / n) if n > 1 else None
