"""Two systems on the same instructions, against the same reference: difference, p-value, what could be detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.differences import added_variance, difference_interval, student_p
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


@dataclass(frozen=True)
class Comparison:
    """How much better one system is than another.

    Attributes:
        difference: Win rate of the first minus that of the second, in percentage points. The standard error holds what
            few differences leave uncertain (`differences.added_variance`), so it is never 0.
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
) -> Comparison:
    """Paired comparison of two systems' preferences.

    With one seed each, the p-value is a sign-flip permutation test on the differences (all sign patterns where at
    most 14 differences are not 0, else `n_permutations` drawn ones) and the interval Student's t. With several seeds,
    the variance between seeds is added to that between instructions (`seeds.seed_part`; the seeds of the two
    systems are taken as independent), and both come from Student's t with Satterthwaite's degrees of freedom.

    Args:
        first: `[n]`, or `[s, n]` for s seeds, preferences in [0, 1].
        second: `[n]` or `[s', n]`, the same instructions.
        ids: `[n]` instruction ids. Row order changes no number, with or without them.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval, and 1 minus the test's level in `detectable`.
        n_permutations: Sign patterns drawn.
        seed: Seed of the drawing.

    Returns:
        See `Comparison`. Equal systems give difference 0, p 1 and an interval that says how many instructions
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
        return Comparison(Score.estimate(only, "paired", n, expected), None, None)
    mean = float(differences.mean())
    variance = float(differences.var(ddof=1) / n + added_variance(differences))
    parts = [Part(variance, variance, n - 1), *(seed_part(100 * x) for x in (a, b) if len(x) > 1)]
    error, degrees = error_and_degrees(parts)
    interval = difference_interval(mean, error, degrees, n, level)
    if len(parts) > 1:
        p_value, method, used_seed = float(student_p(mean, error, degrees, n)), "paired seeds;t", None
    else:
        p_value, method, used_seed = sign_flip_p(differences, n_permutations, seed), "paired;t", seed
    estimate = Score.estimate(mean, method, n, expected, error, interval, level, used_seed)
    vary = bool(differences.min() < differences.max()) or any(part.variance > 0 for part in parts[1:])
    return Comparison(estimate, p_value, detectable_difference(error, level) if vary else None)


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


def tie_groups(
    values: Mapping[str, float], p_values: Mapping[tuple[str, str], float | None], alpha: float = 0.05
) -> list[list[str]]:
    """Systems in groups of statistical ties, best first.

    The best system opens a group; those after it join until the first whose difference from the group's opener is
    significant, which opens the next. Being tied is not transitive: the last of a group may differ from its second.

    Args:
        values: Score by system.
        p_values: (Adjusted) p-value by pair of systems, in either order; None is no significant difference.
        alpha: Level of the test.

    Returns:
        The groups; equal values are ordered by name.

    Raises:
        UserError: If a pair that is needed has no entry.
    """
    groups: list[list[str]] = []
    for name in sorted(values, key=lambda name: (-values[name], name)):
        if groups and not _differ(groups[-1][0], name, p_values, alpha):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def _differ(a: str, b: str, p_values: Mapping[tuple[str, str], float | None], alpha: float) -> bool:
    if (a, b) not in p_values and (b, a) not in p_values:
        raise UserError(f"tie_groups: no p-value for {a!r} and {b!r}. Expected one for each pair of systems.")
    p = p_values[a, b] if (a, b) in p_values else p_values[b, a]
    return p is not None and p <= alpha
