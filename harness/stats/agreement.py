"""Agreement between two judges on the same pairs, and of rankings over systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.scores import Score
from implicit_if.harness.stats.vectors import Floats, as_preferences, as_vector, check_lengths
from implicit_if.harness.stats.win_rate import win_rate


@dataclass(frozen=True)
class Agreement:
    """How two judges agree.

    Attributes:
        accuracy: Percent of the pairs decided by both on which they name the same winner; its n counts those pairs,
            its n_expected all of them.
        kappa: Cohen's kappa over win, draw and loss of all pairs: 1 full agreement, 0 what chance would give; None
            where both judges always say the same one thing, or without pairs.
        n_draws: Pairs on which at least one judge sees a draw (exactly 0.5).
    """

    accuracy: Score
    kappa: float | None
    n_draws: int


def agreement(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Agreement:
    """Agreement of two judges' preferences on the same pairs.

    Args:
        first: `[n]` preferences of one judge, in [0, 1].
        second: `[n]` of the other, same pairs in the same order.
        level: Nominal coverage of the accuracy's interval.

    Raises:
        UserError: If a preference is missing or out of range, or the vectors differ in length.
    """
    from sklearn.metrics import cohen_kappa_score  # not at the top: it takes a second to import

    a, b = as_preferences(first, "first"), as_preferences(second, "second")
    check_lengths(a.size, second=b)
    a, b = np.sign(a - 0.5), np.sign(b - 0.5)
    decided = (a != 0) & (b != 0)
    same = (a == b)[decided].astype(np.float64)
    return Agreement(
        accuracy=win_rate(same, n_expected=a.size, level=level),
        kappa=cohen_kappa_score(a, b) if len(np.unique([a, b])) > 1 else None,
        n_draws=int(np.count_nonzero(~decided)),
    )


def spearman(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float | None:
    """Spearman's rank correlation, e.g. of two judges' win rates over systems; ties get their mean rank.

    Returns:
        A value in [-1, 1]; None below two systems, or where one side does not vary.

    Raises:
        UserError: If a value is missing or the vectors differ in length.
    """
    a, b = as_vector(first, "first"), as_vector(second, "second")
    check_lengths(a.size, second=b)
    if a.size < 2 or min(np.ptp(a), np.ptp(b)) == 0:
        return None
    from scipy.stats import spearmanr  # not at the top: it takes a second to import

    return float(spearmanr(a, b).statistic)
