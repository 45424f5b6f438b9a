"""The share of a system's answers that attempt their instructions, with Wilson's interval."""

from __future__ import annotations

from numpy.typing import ArrayLike

from implicit_if.harness.scores import Score
from implicit_if.harness.stats.intervals import mean_and_error, score_interval
from implicit_if.harness.stats.vectors import Floats, as_preferences, check_expected, check_level

THRESHOLD = 0.5
"""The probability from which on an answer is decided to be an attempt."""


def decisions(probabilities: ArrayLike) -> Floats:
    """`[n]` 1.0 where an answer is decided to be an attempt, else 0.0.

    Args:
        probabilities: `[n]` in [0, 1] that the answer attempts its instruction, no missing values.

    Raises:
        UserError: If one is missing or outside [0, 1].
    """
    return (as_preferences(probabilities, "probabilities") >= THRESHOLD).astype(float)


def attempt_rate(probabilities: ArrayLike, *, n_expected: int | None = None, level: float = 0.95) -> Score:
    """Share of attempts in percent.

    Args:
        probabilities: As in `decisions`.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.

    Returns:
        Percent. `standard_error` is `std(ddof=1) / sqrt(n) * 100`, the interval Wilson's over instructions (Wilson
        1927, JASA 22). n = 0 has neither value nor interval, n = 1 no standard error.

    Raises:
        UserError: If a probability is missing or outside [0, 1].
    """
    check_level(level)
    attempted = decisions(probabilities)
    n = attempted.size
    expected = check_expected(n, n_expected)
    share, error = mean_and_error(attempted)
    if share is None:
        return Score.estimate(None, "share", n, expected)
    low, high = score_interval(share, (share * (1 - share) / n) ** 0.5, n, level)
    percent = None if error is None else 100 * error
    return Score.estimate(100 * share, "share;wilson", n, expected, percent, (100 * low, 100 * high), level)
