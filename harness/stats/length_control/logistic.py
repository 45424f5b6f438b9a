"""Penalised logistic regression on graded outcomes, many reweighted fits at once.

Shapes: `r` fits (1, or one per bootstrap replicate), `n` instructions, `k` coefficients.
"""

from __future__ import annotations

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.vectors import Floats

_MAX_STEPS = 100
_TOLERANCE = 1e-10


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit(
    features: Floats,
    outcomes: Floats,
    weights: Floats,
    prior_mean: Floats,
    prior_sd: Floats,
    start: Floats | None = None,
) -> Floats:
    """Maximum a posteriori coefficients by Newton steps, all fits together.

    Maximises, per fit, `sum_i w_i (y_i log p_i + (1 - y_i) log(1 - p_i)) - sum_j ((c_j - m_j) / s_j)^2 / 2` with
    `p = sigmoid(features @ c)`. Finite `prior_sd` for every coefficient makes the optimum unique and finite, also
    for separable data, constant outcomes and constant columns. A step that would move a logit by more than 1 is
    shortened to that: it then lowers the loss without a line search (Bach 2010, Self-concordant analysis for logistic
    regression, proposition 1).

    Args:
        features: `[n, k]` for all fits, or `[r, n, k]`.
        outcomes: `[n]` in [0, 1].
        weights: `[r, n]`, not negative.
        prior_mean: `[r, k]`, or `[k]` for all fits.
        prior_sd: `[k]`, positive and finite.
        start: `[k]` coefficients from which all fits set out; None starts at the prior. It changes how many steps are
            taken, not where they lead.

    Returns:
        `[r, k]` coefficients.

    Raises:
        UserError: If a fit does not converge, which no finite input is known to cause.
    """
    features = np.broadcast_to(features, (len(weights), *features.shape[-2:]))
    precision = np.asarray(prior_sd**-2.0)
    means = np.array(np.broadcast_to(prior_mean, (len(weights), features.shape[2])))
    coefficients = means.copy() if start is None else np.tile(start, (len(weights), 1))
    active = np.arange(len(weights))
    for _ in range(_MAX_STEPS):
        x, w, c, m = features[active], weights[active], coefficients[active], means[active]
        transposed = x.transpose(0, 2, 1)
        p = sigmoid(_products(x, c))
        gradient = _products(transposed, w * (p - outcomes)) + precision * (c - m)
        hessian = transposed @ (x * (w * p * (1 - p))[:, :, None]) + np.diag(precision)
        step = np.asarray(np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], dtype=np.float64)
        moved = np.abs(_products(x, step)).max(axis=1, initial=0.0)
        coefficients[active] = c - step / np.maximum(1, moved)[:, None]
        active = active[(gradient * step).sum(axis=1) > _TOLERANCE]
        if not active.size:
            return coefficients
    raise UserError(f"{active.size} of {len(weights)} logistic fits did not converge in {_MAX_STEPS} Newton steps.")


def _products(matrices: Floats, vectors: Floats) -> Floats:
    """`[r, a]` products of `[r, a, b]` matrices with `[r, b]` vectors."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def influence(
    features: Floats, outcomes: Floats, prediction_features: Floats, coefficients: Floats, prior_sd: Floats
) -> tuple[Floats, Floats]:
    """Pseudo-values of the mean prediction at other features than the fitted ones, by the infinitesimal jackknife.

    Args:
        features: `[n, k]` the fit's features.
        outcomes: `[n]`.
        prediction_features: `[n, k]` where predictions are made.
        coefficients: `[k]` the unweighted fit.
        prior_sd: `[k]`.

    Returns:
        `[n]` values whose mean is the mean prediction and whose variance over n is its sampling variance, and `[k]` the
        derivative of the mean prediction by each coefficient's prior mean.
    """
    n = len(outcomes)
    fitted, predicted = sigmoid(features @ coefficients), sigmoid(prediction_features @ coefficients)
    hessian = (features * (fitted * (1 - fitted))[:, None]).T @ features + np.diag(prior_sd**-2.0)
    slope = (predicted * (1 - predicted)) @ prediction_features / n
    direction = np.linalg.solve(hessian, slope)
    scores = (features @ direction) * (outcomes - fitted)
    values = predicted + n * (scores - scores.mean())
    return values, direction / prior_sd**2
