"""Groups of systems that the verdicts cannot tell apart, instead of false ranks. Vectorised: 1,000 systems a table.

Shapes: `k` systems, `s` seeds of one of them, `n` instructions.

Systems are ordered by win rate. The best opens group 1 and is tested against every system below it, by Student's
paired t on the same instructions (`stats.comparison`), with Holm's correction over these tests. Systems join
its group from the top until the first that differs significantly, which opens the next group and is tested against all
below it, and so on. So a system differs from its group's best no more than chance allows; two others of the group may
differ from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.stats.comparison import added_variance, holm, student_p
from implicit_if.harness.stats.seeds import Part, seed_part
from implicit_if.harness.stats.vectors import Floats

ALPHA = 0.05
_NONE = Part(0.0, 0.0, 1)


@dataclass(frozen=True)
class Sample:
    """A system's verdicts.

    Attributes:
        win_rate: Percent.
        preferences: `[s, n]`, all systems on the same instructions in the same order.
    """

    win_rate: float
    preferences: Floats


def tie_groups(samples: Mapping[str, Sample], alpha: float = ALPHA) -> dict[str, int]:
    """The group of each system, from 1; see the module.

    Args:
        samples: By system; equal win rates are ordered by name.
        alpha: Level of the tests of one group.

    Returns:
        Group by system, best first.
    """
    order = sorted(samples, key=lambda name: (-samples[name].win_rate, name))
    if not order:
        return {}
    means = 100 * np.stack([samples[name].preferences.mean(axis=0) for name in order])
    seeds = [_seed_part(samples[name].preferences) for name in order]
    groups: dict[str, int] = {}
    opener, group = 0, 1
    while opener < len(order):
        p_values = holm(paired_p(means, seeds, opener).tolist())
        differing = (i for i, p in enumerate(p_values, start=opener + 1) if p is not None and p <= alpha)
        end = next(differing, len(order))
        groups |= dict.fromkeys(order[opener:end], group)
        opener, group = end, group + 1
    return groups


def paired_p(means: Floats, seeds: Sequence[Part], first: int) -> NDArray[np.float64]:
    """Two-sided p-values of one system against each below it.

    These are the tests that belong to the intervals of `stats.compare`: with what few differences leave
    uncertain, and for several seeds with the variance between them, by Satterthwaite's degrees of freedom. That
    function's sign flips, for one seed, agree with them and would take hours for 1,000 systems.

    Args:
        means: `[k, n]` preferences in percent, averaged over seeds.
        seeds: `[k]`, what seeds add to each system's variance.
        first: The system's row.

    Returns:
        `[k - first - 1]`; 1 where two systems are equal everywhere, and where there are fewer than two instructions.
    """
    differences = means[first + 1 :] - means[first]
    n = differences.shape[1]
    if n < 2 or not len(differences):
        return np.ones(len(differences))
    others = np.array(seeds[first + 1 :], dtype=np.float64)
    own = seeds[first]
    between = differences.var(axis=1, ddof=1) / n + added_variance(differences)
    variance = between + own.variance + others[:, 0]
    doubt = between**2 / (n - 1) + own.spread**2 / own.degrees + others[:, 1] ** 2 / others[:, 2]
    return student_p(differences.mean(axis=1), np.sqrt(variance), variance**2 / doubt, n)


def _seed_part(preferences: Floats) -> Part:
    several = preferences.shape[0] > 1 and preferences.shape[1] > 1
    return seed_part(100 * preferences) if several else _NONE
