"""Length-controlled win rate without hub data: what the win rate would be if both answers were equally long.

Judges prefer longer answers. As in alpaca-eval's GLM (Dubois et al. 2024, arXiv 2404.04475), a logistic regression
explains the preferences by `tanh(length difference / sd)` and is then asked at difference 0. The sd leaves runaway
answers out (`length_scale`), which would else change every answer's weight, and is computed again in each resample.
Where theirs has the hub's difficulty of each instruction, this one has the log length of the reference's answer; where
theirs regularises on judged length-gamed baselines, this one has a normal prior on the length coefficient, the judge's
(`priors`). `alpaca_eval_glm` is the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.stats.intervals import score_interval
from implicit_if.harness.stats.length_control.length_scale import (
    far_lengths,
    length_scales,
    scale_influence,
    scaled,
    slope_of_scaled,
)
from implicit_if.harness.stats.length_control.logistic import fit, influence, sigmoid
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LengthPrior
from implicit_if.harness.stats.vectors import (
    Floats,
    as_preferences,
    as_vector,
    canonical_order,
    check_expected,
    check_lengths,
    check_level,
)

METHOD = "offline"
_COVARIATE_SD = 0.3
_UNTIED = np.array([0.0, 1.0, 1.0, 1.0, 1.0])  # features without the judge's taste for length
_INTERCEPT_SD = 100.0  # as good as flat, yet finite: it keeps the fit of an all-lost replicate from diverging


@dataclass(frozen=True)
class LengthModel:
    """The design of the length regression.

    Attributes:
        covariates: `[n, 3]`: share of orders in which the system was shown first minus 0.5, standardised log length of
            the reference's answer, 1.
        delta: `[n]` length differences, reference minus system.
        usual: `[n]` which of them are not far off.
        outcomes: `[n]` preferences for the system.
        lengths: `[n, 2]` characters of the system's and the reference's answers; 0 where they are far off.
        prior: Of the length coefficient.
    """

    covariates: Floats
    delta: Floats
    usual: NDArray[np.bool_]
    outcomes: Floats
    lengths: Floats
    prior: LengthPrior

    def features(self, weights: Floats) -> Floats:
        """`[r, n, 5]` for `[r, n]` weights: tanh of the length difference over its scale there, twice, and covariates.

        The first is the judge's taste for length, the second what else goes with length (`LengthPrior.confounding`;
        0 if that is 0). The scale of the reference's log length stays that of the sample: log lengths have no
        runaways.
        """
        length = scaled(self.delta, length_scales(self.delta, self.usual, weights))[:, :, None]
        covariates = np.broadcast_to(self.covariates, (len(weights), *self.covariates.shape))
        return np.concatenate([length, length * self._is_confounded, covariates], axis=2)

    def value(self) -> float:
        """The estimate, as a fraction: equal verdicts (only losses, wins or ties) give theirs, whatever the lengths."""
        return float(self.outcomes[0] if self.is_constant else self.controlled(np.ones((1, len(self.outcomes))))[0])

    @property
    def is_constant(self) -> bool:
        """True if all verdicts are equal."""
        return bool(self.outcomes.min() == self.outcomes.max())

    @property
    def is_one_sided(self) -> bool:
        """True if there are only losses or only wins."""
        return self.is_constant and self.outcomes[0] in (0, 1)

    @property
    def _is_confounded(self) -> bool:
        return self.prior.confounding > 0

    @property
    def spreads(self) -> Floats:
        """`[5]` prior standard deviations."""
        confounding = self.prior.confounding or 1.0  # of a column that is 0
        return np.array([self.prior.sd, confounding, _COVARIATE_SD, _COVARIATE_SD, _INTERCEPT_SD])

    @cached_property
    def coefficients(self) -> Floats:
        """`[5]` of the fit to all instructions."""
        ones = np.ones((1, len(self.outcomes)))
        return np.asarray(fit(self.features(ones), self.outcomes, ones, self._prior_means(ones), self.spreads)[0])

    def controlled(self, weights: Floats, shift: Floats | float = 0.0) -> Floats:
        """Mean prediction at length difference 0, as a fraction, fitted again for each row of weights.

        Args:
            weights: `[r, n]`.
            shift: `[r]`, or one for all fits: added to the prior mean of the length coefficient.

        Returns:
            `[r]`.
        """
        start = self.coefficients if len(weights) > 1 else None  # replicates end near it
        features, means = self.features(weights), self._prior_means(weights, shift)
        c = fit(features, self.outcomes, weights, means, self.spreads, start)
        at_zero = sigmoid((features[:, :, 1:] @ c[:, 1:, None])[:, :, 0])
        return np.asarray((weights * at_zero).sum(axis=1) / weights.sum(axis=1))

    def pseudo_values(self) -> tuple[Floats, float]:
        """Per-instruction values for statistics that need some, and the error they do not hold.

        Returns:
            `[n]` values whose mean is the estimate and whose variance over n is its sampling variance (infinitesimal
            jackknife), and by how much the estimate moves if the mean of the prior on the length coefficient rises by
            its standard deviation: the error that the prior adds. Both as fractions.
        """
        features = self.features(np.ones((1, len(self.outcomes))))[0]
        at_zero = features * _UNTIED
        values, pulls = influence(features, self.outcomes, at_zero, self.coefficients, self.spreads)
        by_scale = self._slope_by_scale(features, pulls) * scale_influence(self.delta, self.usual)
        return values + by_scale + pulls[0] * self._prior_influence(), float(pulls[0]) * self.prior.sd

    def _slope_by_scale(self, features: Floats, pulls: Floats) -> float:
        """Derivative of the estimate by the logarithm of the scale: of the fit's gradient, by the implicit function."""
        c, scales = self.coefficients, length_scales(self.delta, self.usual, np.ones((1, len(self.delta))))
        slope = slope_of_scaled(self.delta, scales)[0]
        moved = np.zeros_like(features)
        moved[:, 0], moved[:, 1] = slope, slope * self._is_confounded
        fitted, at_zero = sigmoid(features @ c), sigmoid((features * _UNTIED) @ c)
        gradient = (fitted - self.outcomes) @ moved + (fitted * (1 - fitted) * (moved @ c)) @ features
        directly = float(np.mean(at_zero * (1 - at_zero) * ((moved * _UNTIED) @ c)))
        return directly - float((pulls * self.spreads**2) @ gradient)

    def _prior_means(self, weights: Floats, shift: Floats | float = 0.0) -> Floats:
        """`[r, 5]`: the prior's mean is that of the win rate and the lengths at these weights."""
        means = np.zeros((len(weights), 5))
        rates = weights @ self.outcomes / weights.sum(axis=1)
        means[:, 0] = self.prior.means(np.clip(rates, 0, 1), _ratios(weights @ self.lengths)) + shift
        return means

    def _prior_influence(self) -> Floats:
        """`[n]`: n times what each instruction does to the prior's mean; the mean over instructions is 0."""
        rate, lengths = float(self.outcomes.mean()), self.lengths.mean(axis=0)
        by_rate, by_length = self.prior.slopes(rate, float(_ratios(lengths[None])[0]))
        relative = self.lengths / np.where(lengths > 0, lengths, 1.0)
        return np.asarray(by_rate * (self.outcomes - rate) + by_length * (relative[:, 0] - relative[:, 1]))


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
    prior: LengthPrior = GPT4_TURBO,
) -> Score:
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
        prior: Of the length coefficient: the judge's (`judging.registry.length_prior`). Each replicate draws its
            prior mean from it, so error and interval hold what the data cannot tell about length.

    Returns:
        Percent. Standard error: standard deviation of the replicates. Interval: `intervals.score_interval` with that
        error. Only losses give 0, only wins 100, whatever the lengths. With equal lengths it is the win rate. n = 0
        has neither value nor interval, n = 1 neither error nor interval. The method names the prior.

    Raises:
        UserError: If a value is missing or out of range, vectors differ in length, or an id comes twice.
    """
    model = length_model(preferences, system_lengths, reference_lengths, first_shown, ids, prior)
    return controlled_win_rate(model, n_expected=n_expected, level=level, n_resamples=n_resamples, seed=seed)


def controlled_win_rate(
    model: LengthModel,
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """What `length_controlled_win_rate` gives for the verdicts of a model, by arguments and errors as there."""
    check_level(level)
    n, method = len(model.outcomes), method_name(model.prior)
    expected = check_expected(n, n_expected)
    if not n:
        return Score.estimate(None, method, n, expected)
    value = model.value()
    if n < 2 or not n_resamples:
        return Score.estimate(100 * value, method, n, expected)
    if model.is_constant:
        error, (low, high) = 0.0, _constant_interval(model, value, level)
    else:
        error = _bootstrap_error(model, n_resamples, seed)
        low, high = score_interval(value, error, n, level)
    return Score.estimate(
        100 * value, f"{method};score", n, expected, 100 * error, (100 * low, 100 * high), level, seed
    )


def prior_sensitivity(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    first_shown: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    *,
    prior: LengthPrior = GPT4_TURBO,
) -> tuple[float, float] | None:
    """The estimate with the prior mean moved by one standard deviation down and up.

    Arguments and errors as in `length_controlled_win_rate`. Two percentages, far apart where the answers' lengths
    say little by themselves (e.g. the system always shorter); None for n = 0.
    """
    model = length_model(preferences, system_lengths, reference_lengths, first_shown, ids, prior)
    n = len(model.outcomes)
    if not n:
        return None
    if model.is_constant:
        return 100 * float(model.outcomes[0]), 100 * float(model.outcomes[0])
    low, high = 100 * model.controlled(np.ones((2, n)), np.array([-prior.sd, prior.sd]))
    return float(low), float(high)


def method_name(prior: LengthPrior) -> str:
    """How signatures and records call the offline estimator: "offline(weak)", with confounding "offline(llm,c0.3)"."""
    return f"{METHOD}({prior.name}{f',c{prior.confounding:g}' if prior.confounding else ''})"


def length_model(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    first_shown: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    prior: LengthPrior = GPT4_TURBO,
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
    order = canonical_order(ids, y, system, reference, shown)
    y, system, reference, shown = y[order], system[order], reference[order], shown[order]
    log_reference, usual = np.log1p(reference), ~far_lengths(system, reference)
    size = _over_spread(log_reference - log_reference.mean()) if y.size else y
    covariates = np.column_stack([shown - 0.5, size, np.ones(y.size)])
    lengths = np.column_stack([system, reference]) * usual[:, None]
    return LengthModel(covariates, reference - system, usual, y, lengths, prior)


def _bootstrap_error(model: LengthModel, n_resamples: int, seed: int) -> float:
    priors = np.random.default_rng([seed, 1])

    def statistic(weights: Floats) -> Floats:
        return model.controlled(weights, model.prior.sd * priors.standard_normal(len(weights)))

    return float(replicates(statistic, len(model.outcomes), n_resamples, seed).std(ddof=1))


def _constant_interval(model: LengthModel, value: float, level: float) -> tuple[float, float]:
    """The win rate's interval; for only losses or only wins its open end is moved to equal lengths by the prior."""
    n = len(model.outcomes)
    ends = score_interval(value, 0.0, n, level)
    if not model.is_one_sided:
        return ends
    bound = replace(model, outcomes=np.full(n, ends[0] if value else ends[1]))
    moved = float(bound.controlled(np.ones((1, n)))[0])
    return (moved, 1.0) if value else (0.0, moved)


def _over_spread(values: Floats) -> Floats:
    """The values over their standard deviation."""
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return values / spread if spread > 1e-12 * np.abs(values).max(initial=0) else np.zeros_like(values)


def _ratios(lengths: Floats) -> Floats:
    """`[r]` ratios, system to reference, of `[r, 2]` total lengths; 1 where both are 0."""
    system, reference = lengths.T
    with np.errstate(divide="ignore"):
        ratios: Floats = np.divide(system, reference, out=np.ones_like(system), where=(system > 0) | (reference > 0))
    return ratios
