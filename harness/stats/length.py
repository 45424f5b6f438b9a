"""Length-controlled win rate without hub data: what the win rate would be if both answers were equally long.

Judges prefer longer answers. As in alpaca-eval's GLM (Dubois et al. 2024, arXiv 2404.04475), a logistic regression
explains the preferences by `tanh(length difference / sd)` and is then asked at difference 0. Where theirs has the
hub's difficulty of each instruction, this one has the log length of the reference's answer; where theirs regularises
on judged length-gamed baselines, this one has a normal prior on the length coefficient. `glm` is the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.stats.estimate import (
    Estimate,
    Floats,
    as_preferences,
    as_vector,
    canonical_order,
    check_expected,
    check_lengths,
    check_level,
)
from implicit_if.harness.stats.intervals import score_interval
from implicit_if.harness.stats.logistic import fit, influence, sigmoid

METHOD = "offline"
PRIOR_MEAN = -1.4
"""Mean of the length coefficient: reference minus system, so a taste for long answers is negative."""
PRIOR_SD = 0.15
_COVARIATE_SD = 0.3
_INTERCEPT_SD = 100.0  # as good as flat, yet finite: it keeps the fit of an all-lost replicate from diverging


@dataclass(frozen=True)
class LengthModel:
    """The design of the length regression.

    Attributes:
        features: `[n, 4]`: tanh of the length difference (reference minus system, over its standard deviation),
            share of orders in which the system was shown first minus 0.5, standardised log length of the
            reference's answer, 1.
        outcomes: `[n]` preferences for the system.
        prior_mean: `[4]`.
        prior_sd: `[4]`.
    """

    features: Floats
    outcomes: Floats
    prior_mean: Floats
    prior_sd: Floats

    def controlled(self, weights: Floats, prior_mean: Floats | None = None) -> Floats:
        """Mean prediction at length difference 0, as a fraction, fitted anew for each row of weights.

        Args:
            weights: `[r, n]`.
            prior_mean: `[r, 4]`, another one for each fit; the model's own if not given.

        Returns:
            `[r]`.
        """
        means = self.prior_mean if prior_mean is None else prior_mean
        c = fit(self.features, self.outcomes, weights, means, self.prior_sd)
        at_zero = sigmoid(c[:, 1:] @ self.features[:, 1:].T)
        return np.asarray((weights * at_zero).sum(axis=1) / weights.sum(axis=1))

    def pseudo_values(self) -> tuple[Floats, float]:
        """Per-instruction values for statistics that need some, and the error they do not hold.

        Returns:
            `[n]` values whose mean is the estimate and whose variance over n is its sampling variance (infinitesimal
            jackknife), and the standard error that the prior on the length coefficient adds, both as fractions.
        """
        c = fit(self.features, self.outcomes, np.ones((1, len(self.outcomes))), self.prior_mean, self.prior_sd)[0]
        at_zero = self.features * np.array([0.0, 1.0, 1.0, 1.0])
        values, prior_errors = influence(self.features, self.outcomes, at_zero, c, self.prior_sd)
        return values, float(prior_errors[0])


def length_controlled_win_rate(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    first_shown: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    prior_mean: float = PRIOR_MEAN,
    prior_sd: float = PRIOR_SD,
) -> Estimate:
    """Win rate at equal lengths, in percent, with a bootstrap over instructions that refits each time.

    Args:
        preferences: `[n]` in [0, 1], no missing values.
        system_lengths: `[n]` characters of the system's answers.
        reference_lengths: `[n]` characters of the reference's answers.
        first_shown: `[n]` share of the presentation orders in which the system's answer came first: 1 or 0 where one
            order was judged, 0.5 for the mean of both. None: 0.5 everywhere.
        ids: `[n]` instruction ids, each once. Row order changes no number, with or without them.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.
        n_resamples: Bootstrap resamples; 0 for the value alone.
        seed: Seed of the resampling.
        prior_mean: Prior mean of the length coefficient.
        prior_sd: Its prior standard deviation. Each replicate draws its prior mean from this prior, so error and
            interval hold what the data cannot tell about length.

    Returns:
        Percent. Standard error: standard deviation of the replicates. Interval: `intervals.score_interval` with that
        error. Only losses give 0, only wins 100, whatever the lengths. With equal lengths it is the win rate. n = 0
        has neither value nor interval, n = 1 neither error nor interval.

    Raises:
        UserError: If a value is missing or out of range, vectors differ in length, or an id comes twice.
    """
    check_level(level)
    model = length_model(preferences, system_lengths, reference_lengths, first_shown, ids, prior_mean, prior_sd)
    n = len(model.outcomes)
    expected = check_expected(n, n_expected)
    if not n:
        return Estimate(None, None, None, None, METHOD, n, expected)
    one_sided = model.outcomes.min() == model.outcomes.max() and model.outcomes[0] in (0, 1)
    value = float(model.outcomes[0] if one_sided else model.controlled(np.ones((1, n)))[0])
    if n < 2 or not n_resamples:
        return Estimate(100 * value, None, None, None, METHOD, n, expected)
    if one_sided:
        error, (low, high) = 0.0, _one_sided_interval(model, value, level)
    else:
        error = _bootstrap_error(model, n_resamples, seed)
        low, high = score_interval(value, error, n, level)
    return Estimate(100 * value, 100 * error, (100 * low, 100 * high), level, f"{METHOD};score", n, expected, seed)


def prior_sensitivity(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    first_shown: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    *,
    prior_mean: float = PRIOR_MEAN,
    prior_sd: float = PRIOR_SD,
) -> tuple[float, float] | None:
    """The estimate with the prior mean moved by one standard deviation down and up.

    Arguments and errors as in `length_controlled_win_rate`. Two percentages, far apart where the answers' lengths
    say little by themselves (e.g. the system always shorter); None for n = 0.
    """
    values = []
    for shifted in (prior_mean - prior_sd, prior_mean + prior_sd):
        estimate = length_controlled_win_rate(
            preferences,
            system_lengths,
            reference_lengths,
            first_shown,
            ids,
            n_resamples=0,
            prior_mean=shifted,
            prior_sd=prior_sd,
        )
        if estimate.value is None:
            return None
        values.append(estimate.value)
    return values[0], values[1]


def length_model(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    first_shown: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    prior_mean: float = PRIOR_MEAN,
    prior_sd: float = PRIOR_SD,
) -> LengthModel:
    """The regression's design, rows in canonical order; arguments and errors as in `length_controlled_win_rate`.

    A column that does not vary is 0, so that equal lengths are no special case.
    """
    y = as_preferences(preferences)
    system = as_vector(system_lengths, "system_lengths")
    reference = as_vector(reference_lengths, "reference_lengths")
    shown = np.full(y.size, 0.5) if first_shown is None else as_preferences(first_shown, "first_shown")
    check_lengths(y.size, system_lengths=system, reference_lengths=reference, first_shown=shown, ids=ids)
    if y.size and min(system.min(), reference.min()) < 0:
        raise UserError("lengths: found a negative one. Expected characters of each answer, 0 or more.")
    if not (math.isfinite(prior_mean) and 0 < prior_sd < math.inf):
        raise UserError(f"prior: found N({prior_mean}, {prior_sd}^2). Expected finite numbers, prior_sd above 0.")
    order = canonical_order(ids, y, system, reference, shown)
    y, system, reference, shown = y[order], system[order], reference[order], shown[order]
    log_reference = np.log1p(reference)
    features = np.column_stack(
        [
            np.tanh(_over_spread(reference - system)),
            shown - 0.5,
            _over_spread(log_reference - log_reference.mean()) if y.size else y,
            np.ones(y.size),
        ]
    )
    spreads = [prior_sd, _COVARIATE_SD, _COVARIATE_SD, _INTERCEPT_SD]
    return LengthModel(features, y, np.array([prior_mean, 0.0, 0.0, 0.0]), np.array(spreads))


def _bootstrap_error(model: LengthModel, n_resamples: int, seed: int) -> float:
    priors = np.random.default_rng([seed, 1])

    def statistic(weights: Floats) -> Floats:
        means = np.tile(model.prior_mean, (len(weights), 1))
        means[:, 0] += model.prior_sd[0] * priors.standard_normal(len(weights))
        return model.controlled(weights, means)

    return float(replicates(statistic, len(model.outcomes), n_resamples, seed).std(ddof=1))


def _one_sided_interval(model: LengthModel, value: float, level: float) -> tuple[float, float]:
    """For only losses or only wins: the win rate's interval, its open end moved to equal lengths by the prior."""
    n = len(model.outcomes)
    ends = np.array(score_interval(value, 0.0, n, level))
    bound = replace(model, outcomes=np.full(n, ends[0] if value else ends[1]))
    moved = float(bound.controlled(np.ones((1, n)))[0])
    return (moved, 1.0) if value else (0.0, moved)


def _over_spread(values: Floats) -> Floats:
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return values / spread if spread > 1e-12 * np.abs(values).max(initial=0) else np.zeros_like(values)
