"""Means of paired differences: what few differences leave uncertain, interval and p-value.

Shapes: `n` instructions. Differences are in points, -100 to 100.
"""

from __future__ import annotations

import numpy as np

from implicit_if.harness.stats.intervals import quantile
from implicit_if.harness.stats.vectors import Floats

_ADDED = 2
_WHOLE = 100.0


def added_variance(differences: Floats) -> Floats:
    """What the sample variance of a mean of differences leaves out where few of them are not 0.

    Three wins in 80 have a small variance, and none has no variance at all, by luck. As Bonett and Price (2012) do for
    paired proportions, one win and one loss are added: the variance is that of n + 2 differences, two of them s and
    -s. For zeros and ones s is a whole verdict (100 points). For graded differences s² is the mean square by which
    their m = (sum d²)² / sum d⁴ largest ones weigh, sum d⁴ / sum d², pulled towards a whole verdict by exp(-m / 2): few
    small differences do not tell that there are no large ones, many do.

    Args:
        differences: `[..., n]`, n at least 2.

    Returns:
        `[...]`, to be added to the sample variance over n; at least 0, and above it where no difference varies. Over
        the sample variance, it vanishes as m grows (1 / m).
    """
    d = differences / _WHOLE
    n = d.shape[-1]
    squares, fourths = (d**2).sum(axis=-1), (d**4).sum(axis=-1)
    some = fourths > 0
    count = np.divide(squares**2, fourths, out=np.zeros_like(squares), where=some)
    size = np.divide(fourths, squares, out=np.zeros_like(squares), where=some)
    size += np.exp(-count / 2) * (1 - size)
    centre = d.sum(axis=-1) / (n + _ADDED)
    variance = ((squares + _ADDED * size) / (n + _ADDED) - centre**2) / (n + _ADDED)
    return np.asarray(_WHOLE**2 * np.maximum(0.0, variance - d.var(axis=-1, ddof=1) / n))


def difference_interval(mean: float, error: float, degrees: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Student's interval around the mean with the two added differences, within ±100; it holds the mean itself.

    Args:
        mean: Mean of n differences.
        error: Its standard error, `added_variance` included.
        degrees: Degrees of freedom of the error.
        n: Instructions.
        level: Nominal coverage.
    """
    centre, half = mean * _shrink(n), quantile(level, degrees) * error
    return max(-_WHOLE, min(mean, centre - half)), min(_WHOLE, max(mean, centre + half))


def student_p(mean: Floats | float, error: Floats | float, degrees: Floats | float, n: int) -> Floats:
    """Two-sided p-values that belong to `difference_interval`.

    Arguments as there, of any one shape. Never below 2^(1 - n), the smallest p-value of a sign-flip test on n
    instructions, so never 0.
    """
    from scipy.special import stdtr  # not at the top: importing scipy takes half a second

    p = 2 * stdtr(degrees, -np.abs(mean) * _shrink(n) / error)
    return np.asarray(np.maximum(p, 2.0 ** max(1 - n, -1022)))  # 2^-1022 is the smallest normal number


def _shrink(n: int) -> float:
    """The mean with the two added differences, over the mean."""
    return n / (n + _ADDED)
