"""Paired comparison of length-controlled win rates: two systems on the same instructions, by one judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.stats.comparison import PairedDifference, added_variance, compared
from implicit_if.harness.stats.length_control.offline_model import LengthModel
from implicit_if.harness.stats.seeds import Part, seed_part
from implicit_if.harness.stats.vectors import Floats, check_expected, check_level


def compare_controlled(
    first: Sequence[LengthModel],
    second: Sequence[LengthModel],
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of two systems' offline length-controlled win rates.

    With one seed each, instructions are resampled for both systems together, and both are fitted again with one draw of
    the judge's taste for length, which they share. With several seeds, per-instruction pseudo-values stand for the
    fits, and the variance between seeds is added as in `stats.compare`. Interval and p-value are Student's t. The
    variance holds what few raw differences leave uncertain (`comparison.added_variance`): resampling verdicts that
    are all wins or all losses, or a handful of others, hardly varies.

    Args:
        first: One model a seed (`offline_model.length_model`), made with ids.
        second: Likewise, on the same instructions, with the same prior.
        n_expected: Instructions in the set; those of the models if not given.
        level: Nominal coverage of the interval.
        n_resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        In percentage points, first minus second. Fewer than two instructions have neither interval nor p-value. Equal
        systems give difference 0 and p 1. `detectable` is None where nothing varies or a system has only wins or only
        losses: what it would do at equal lengths is then not known.

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
        return PairedDifference(Score.estimate(None, "paired lc", n, expected), None, None)
    difference = 100 * float(np.mean([m.value() for m in first]) - np.mean([m.value() for m in second]))
    outcomes = [np.mean([model.outcomes for model in part], axis=0) for part in (first, second)]
    added = float(added_variance(100 * (outcomes[0] - outcomes[1])))
    if len(models) == 2:
        variance = _bootstrap_variance(first[0], second[0], n_resamples, seed)
        parts, method, used_seed = [Part(variance, variance, n - 1)], "paired lc;t", seed
    else:
        parts, method, used_seed = _parts_over_seeds(first, second), "paired lc seeds;t", None
    vary = any(part.variance > 0 for part in parts) and not any(model.is_one_sided for model in models)
    parts[0] = parts[0]._replace(variance=parts[0].variance + added, spread=parts[0].spread + added)
    return compared(difference, parts, n, expected, level, method, vary, seed=used_seed)


def _bootstrap_variance(first: LengthModel, second: LengthModel, n_resamples: int, seed: int) -> float:
    tastes = np.random.default_rng([seed, 1])

    def statistic(weights: Floats) -> Floats:
        shift = first.prior.sd * tastes.standard_normal(len(weights))
        return first.controlled(weights, shift) - second.controlled(weights, shift)

    return 100**2 * float(replicates(statistic, len(first.outcomes), n_resamples, seed).var(ddof=1))


def _parts_over_seeds(first: Sequence[LengthModel], second: Sequence[LengthModel]) -> list[Part]:
    """The parts of the variance, that of instructions and prior first."""
    a, b = ([model.pseudo_values() for model in models] for models in (first, second))
    values = [100 * np.stack([v for v, _ in part]) for part in (a, b)]
    moved = [100 * float(np.mean([shift for _, shift in part])) for part in (a, b)]
    n = values[0].shape[1]
    variance = float((values[0].mean(axis=0) - values[1].mean(axis=0)).var(ddof=1)) / n
    instructions = Part(variance + (moved[0] - moved[1]) ** 2, variance, n - 1)
    return [instructions, *(seed_part(v) for v in values if len(v) > 1)]
