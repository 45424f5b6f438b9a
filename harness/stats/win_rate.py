"""Win rates as alpaca-eval defines them (metrics/helpers.py of 0.6.6), with an interval, and position bias.

Preferences are probabilities in [0, 1] that the system's answer is better than the reference's, one per
instruction (both presentation orders averaged). Missing verdicts are left out by the caller, who says how many
were expected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.scores import Score
from implicit_if.harness.stats.intervals import mean_and_error, score_interval, student_interval
from implicit_if.harness.stats.vectors import (
    Floats,
    as_preferences,
    check_expected,
    check_lengths,
    check_level,
)


def win_rate(preferences: ArrayLike, *, n_expected: int | None = None, level: float = 0.95) -> Score:
    """Mean preference in percent, with alpaca-eval's standard error and a score interval.

    Args:
        preferences: `[n]` in [0, 1], no missing values.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.

    Returns:
        Percent. `standard_error` is `std(ddof=1) / sqrt(n) * 100`. The interval is
        `intervals.score_interval`'s. n = 0 has neither value nor interval, n = 1 no standard error and no interval.

    Raises:
        UserError: If a preference is missing or outside [0, 1].
    """
    return _mean_percent(as_preferences(preferences), "mean", n_expected, level)


def discrete_win_rate(preferences: ArrayLike, *, n_expected: int | None = None, level: float = 0.95) -> Score:
    """Share of wins plus half the draws, in percent: each preference is first rounded to 0, 0.5 or 1.

    Exactly 0.5 is a draw, anything above a win, anything below a loss, as in alpaca-eval. Arguments, edges and
    errors as in `win_rate`.
    """
    values = as_preferences(preferences)
    return _mean_percent((np.sign(values - 0.5) + 1) / 2, "discrete", n_expected, level)


def counts(preferences: ArrayLike) -> tuple[int, int, int]:
    """Wins, losses and draws; a draw is exactly 0.5."""
    values = as_preferences(preferences)
    return int((values > 0.5).sum()), int((values < 0.5).sum()), int((values == 0.5).sum())


def position_bias(
    system_first: ArrayLike, reference_first: ArrayLike, *, n_expected: int | None = None, level: float = 0.95
) -> Score:
    """By how many points the win rate rises when the system's answer is shown first rather than second.

    Args:
        system_first: `[n]` preferences for the system where the judge saw its answer first.
        reference_first: `[n]` preferences for the system, same instructions, where the judge saw it second.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.

    Returns:
        Percentage points, -100 to 100; 0 is unbiased, positive favours the first answer. Interval by Student's t on
        the differences, within -100 to 100; equal differences give one of width 0. n < 2 has no interval.

    Raises:
        UserError: If a preference is missing or outside [0, 1], or the vectors differ in length.
    """
    first = as_preferences(system_first, "system_first")
    second = as_preferences(reference_first, "reference_first")
    check_lengths(first.size, reference_first=second)
    check_level(level)
    expected = check_expected(first.size, n_expected)
    mean, error = mean_and_error(100 * (first - second))
    if mean is None or error is None:
        return Score.estimate(mean, "order", first.size, expected)
    low, high = student_interval(mean, error, first.size - 1, level)
    interval = max(-100.0, low), min(100.0, high)
    return Score.estimate(mean, "order;t", first.size, expected, error, interval, level)


def _mean_percent(values: Floats, method: str, n_expected: int | None, level: float) -> Score:
    check_level(level)
    expected = check_expected(values.size, n_expected)
    mean, error = mean_and_error(values)
    if mean is None or error is None:
        value = None if mean is None else mean * 100
        return Score.estimate(value, method, values.size, expected)
    low, high = score_interval(mean, error, values.size, level)
    return Score.estimate(
        mean * 100, f"{method};score", values.size, expected, error * 100, (low * 100, high * 100), level
    )
