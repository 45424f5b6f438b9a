"""Two systems on the same instructions, against the same reference: difference, p-value, what could be detected.

Shapes: `n` instructions, `s` seeds. Differences are in percentage points, -100 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.intervals import quantile
from implicit_if.harness.stats.seeds import Part, error_and_degrees, seed_part
from implicit_if.harness.stats.vectors import (
    Floats,
    as_seed_matrix,
    canonical_order,
    check_expected,
    check_level,
)

_EXACT_LIMIT = 14
_CHUNK = 1_000_000
_ADDED = 2
_WHOLE = 100.0


@dataclass(frozen=True)
class PairedDifference:
    """How much better one system is than another.

    Attributes:
        difference: Win rate of the first minus that of the second, in percentage points. The standard error holds what
            few differences leave uncertain (`added_variance`), so it is never 0.
        p_value: Two-sided, for no difference; None below two instructions.
        detectable: True difference in points that this design finds with 80 % power at the level's test; None where
            the differences do not vary or there are fewer than two.
    """

    difference: Score
    p_value: float | None
    detectable: float | None


def compare(
    first: ArrayLike,
    second: ArrayLike,
    ids: Sequence[str] | None = None,
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_permutations: int = 9999,
    seed: int = 0,
) -> PairedDifference:
    """Paired comparison of two systems' preferences.

    With one seed each, the p-value is a sign-flip permutation test on the differences (all sign patterns where at
    most 14 differences are not 0, else `n_permutations` drawn ones) and the interval Student's t. With several seeds,
    the variance between seeds is added to that between instructions (`seeds.seed_part`; the seeds of the two
    systems are taken as independent), and both come from Student's t with Satterthwaite's degrees of freedom. Without
    permutations the p-value is Student's too: drawn ones cannot tell values below 1 / (`n_permutations` + 1) apart,
    which a table of many pairs needs.

    Args:
        first: `[n]`, or `[s, n]` for s seeds, preferences in [0, 1].
        second: `[n]` or `[s', n]`, the same instructions.
        ids: `[n]` instruction ids. Row order changes no number, with or without them.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval, and 1 minus the test's level in `detectable`.
        n_permutations: Sign patterns drawn; 0 for Student's p-value.
        seed: Seed of the drawing.

    Returns:
        See `PairedDifference`. Equal systems give difference 0, p 1 and an interval that says how many instructions
        they are equal on.

    Raises:
        UserError: If a preference is missing or out of range, or the instructions differ in number.
    """
    check_level(level)
    a, b = as_seed_matrix(first, "first"), as_seed_matrix(second, "second")
    n = a.shape[1]
    if b.shape[1] != n:
        raise UserError(f"second: found {b.shape[1]} instructions, expected {n}, the same as the first's.")
    order = canonical_order(ids, *a, *b)
    a, b = a[:, order], b[:, order]
    expected = check_expected(n, n_expected)
    differences = 100 * (a.mean(axis=0) - b.mean(axis=0))
    if n < 2:
        only = float(differences[0]) if n else None
        return PairedDifference(Score.estimate(only, "paired", n, expected), None, None)
    mean = float(differences.mean())
    variance = float(differences.var(ddof=1) / n + added_variance(differences))
    parts = [Part(variance, variance, n - 1), *(seed_part(100 * x) for x in (a, b) if len(x) > 1)]
    vary = bool(differences.min() < differences.max()) or any(part.variance > 0 for part in parts[1:])
    if len(parts) > 1:
        return compared(mean, parts, n, expected, level, "paired seeds;t", vary)
    p_value = sign_flip_p(differences, n_permutations, seed) if n_permutations else None
    return compared(mean, parts, n, expected, level, "paired;t", vary, p_value, seed if n_permutations else None)


def compared(
    mean: float,
    parts: Sequence[Part],
    n: int,
    n_expected: int,
    level: float,
    method: str,
    vary: bool,
    p_value: float | None = None,
    seed: int | None = None,
) -> PairedDifference:
    """The comparison of a mean of `n` differences.

    Args:
        mean: The mean, in points.
        parts: What its variance comes from.
        n: Instructions.
        n_expected: Instructions in the set.
        level: Nominal coverage of the interval.
        method: How value and interval are made.
        vary: Whether anything varies, without which `detectable` is not known.
        p_value: Another p-value than Student's.
        seed: Seed of the draws, if any.
    """
    error, degrees = error_and_degrees(parts)
    ends = difference_interval(mean, error, degrees, n, level)
    if p_value is None:
        p_value = float(student_p(mean, error, degrees, n))
    difference = Score.estimate(mean, method, n, n_expected, error, ends, level, seed)
    return PairedDifference(difference, p_value, detectable_difference(error, level) if vary else None)


def sign_flip_p(differences: Floats, n_permutations: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of the sign-flip test: how often random signs give a sum as far from 0 as the observed one.

    Exact where at most 14 differences are not 0; otherwise (1 + hits) / (1 + draws), which is never 0 and is valid
    at any number of draws. 1.0 if all differences are 0.
    """
    moved = differences[differences != 0]
    m = moved.size
    observed = abs(float(moved.sum())) * (1 - 1e-12)  # sums in another order may differ in their last bit
    if m <= _EXACT_LIMIT:
        patterns = np.arange(2**m)[:, None] >> np.arange(m) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ moved) >= observed))
    generator = np.random.default_rng(seed)
    hits, step = 0, max(1, _CHUNK // m)
    for start in range(0, n_permutations, step):
        flips = generator.integers(0, 2, size=(min(step, n_permutations - start), m), dtype=np.int8)
        hits += int(np.count_nonzero(np.abs(2 * (flips @ moved) - moved.sum()) >= observed))
    return (1 + hits) / (1 + n_permutations)


def detectable_difference(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true difference that a two-sided test at 1 - level finds with the given power, in the error's unit."""
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * standard_error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the given order; None stays None and counts for nothing.

    Rejecting where they are at most alpha keeps the chance of any false rejection in the table at most alpha.
    """
    known = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[position] = largest
    return adjusted


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
