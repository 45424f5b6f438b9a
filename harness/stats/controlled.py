"""Paired comparison of length-controlled win rates: two systems on the same instructions, by one judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.stats.estimate import Estimate, Floats, check_expected, check_level
from implicit_if.harness.stats.intervals import student_interval
from implicit_if.harness.stats.length import LengthModel
from implicit_if.harness.stats.paired import Comparison, detectable_difference, student_p
from implicit_if.harness.stats.seeds import Part, error_and_degrees, seed_part


def compare_controlled(
    first: Sequence[LengthModel],
    second: Sequence[LengthModel],
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Difference of two systems' offline length-controlled win rates.

    With one seed each, instructions are resampled for both systems together, and both are fitted anew with one draw of
    the judge's taste for length, which they share. With several seeds, per-instruction pseudo-values stand for the
    fits, and the variance between seeds is added as in `paired.compare`. Interval and p-value are Student's t.

    Args:
        first: One model a seed (`length.length_model`), made with ids.
        second: Likewise, on the same instructions, with the same prior.
        n_expected: Instructions in the set; those of the models if not given.
        level: Nominal coverage of the interval.
        n_resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        In percentage points, first minus second. Fewer than two instructions have neither interval nor p-value. Equal
        systems give difference 0, p 1 and an interval of width 0.

    Raises:
        UserError: If there is no seed, or instructions or priors differ.
    """
    check_level(level)
    models = [*first, *second]
    if not first or not second or len({(len(m.outcomes), m.prior) for m in models}) > 1:
        raise UserError(
            "compare_controlled: expected at least one seed each, on the same instructions, with one prior."
        )
    n = len(models[0].outcomes)
    expected = check_expected(n, n_expected)
    if n < 2:
        return Comparison(Estimate(None, None, None, None, "paired lc", n, expected), None, None)
    difference = 100 * float(np.mean([m.value() for m in first]) - np.mean([m.value() for m in second]))
    if len(models) == 2:
        error, degrees = _bootstrap_error(first[0], second[0], n_resamples, seed), n - 1.0
        method, used_seed = "paired lc;t", seed
    else:
        error, degrees = _error_over_seeds(first, second)
        method, used_seed = "paired lc seeds;t", None
    interval = student_interval(difference, error, degrees, level)
    estimate = Estimate(difference, error, interval, level, method, n, expected, used_seed)
    p_value = student_p(difference, error, degrees)
    return Comparison(estimate, p_value, detectable_difference(error, level) if error > 0 else None)


def _bootstrap_error(first: LengthModel, second: LengthModel, n_resamples: int, seed: int) -> float:
    tastes = np.random.default_rng([seed, 1])

    def statistic(weights: Floats) -> Floats:
        shift = first.prior.sd * tastes.standard_normal(len(weights))
        return first.controlled(weights, shift) - second.controlled(weights, shift)

    return 100 * float(replicates(statistic, len(first.outcomes), n_resamples, seed).std(ddof=1))


def _error_over_seeds(first: Sequence[LengthModel], second: Sequence[LengthModel]) -> tuple[float, float]:
    a, b = ([model.pseudo_values() for model in models] for models in (first, second))
    values = [100 * np.stack([v for v, _ in part]) for part in (a, b)]
    moved = [100 * float(np.mean([shift for _, shift in part])) for part in (a, b)]
    n = values[0].shape[1]
    variance = float((values[0].mean(axis=0) - values[1].mean(axis=0)).var(ddof=1)) / n
    parts = [Part(variance + (moved[0] - moved[1]) ** 2, variance, n - 1)]
    return error_and_degrees([*parts, *(seed_part(v) for v in values if len(v) > 1)])
