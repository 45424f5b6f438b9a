"""The batched Newton fits against scikit-learn's logistic regression and scipy's optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from implicit_if.harness.stats.length_control.logistic import fit, influence, sigmoid

Floats = NDArray[np.float64]


def data(n: int = 200, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.uniform(-1, 1, n), rng.integers(0, 2, n) - 0.5, rng.standard_normal(n), np.ones(n)])
    p = sigmoid(features @ np.array([-1.5, 0.5, -0.4, -1.0]))
    return features, rng.beta(0.4 * p, 0.4 * (1 - p))


def test_equals_sklearn() -> None:
    from sklearn.linear_model import LogisticRegression

    features, outcomes = data()
    doubled = np.vstack([features, features])  # graded outcomes as weighted wins and losses
    model = LogisticRegression(C=4.0, fit_intercept=False, tol=1e-12, max_iter=10_000)
    model.fit(doubled, np.repeat([1, 0], len(outcomes)), sample_weight=np.concatenate([outcomes, 1 - outcomes]))
    ours = fit(features, outcomes, np.ones((1, len(outcomes))), np.zeros(4), np.full(4, 2.0))[0]
    assert ours == pytest.approx(model.coef_[0], abs=1e-6)


def test_equals_scipy_with_priors_and_weights_in_one_batch() -> None:
    features, outcomes = data()
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, (3, len(outcomes))).astype(float)
    means = rng.standard_normal((3, 4))
    spreads = np.array([0.3, 1.0, 2.0, 50.0])
    ours = fit(features, outcomes, weights, means, spreads)
    for w, m, c in zip(weights, means, ours, strict=True):

        def loss(at: Floats, w: Floats = w, m: Floats = m) -> float:
            logits = features @ at
            nll = np.sum(w * (np.logaddexp(0, logits) - outcomes * logits))
            return float(nll + 0.5 * np.sum(((at - m) / spreads) ** 2))

        theirs = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
        assert c == pytest.approx(theirs.x, abs=1e-4)
        assert loss(c) <= theirs.fun + 1e-9


def test_each_fit_may_have_features_of_its_own() -> None:
    features, outcomes = data()
    own = np.stack([features * scale for scale in (1.0, 0.5, 2.0)])
    weights = np.random.default_rng(2).integers(0, 3, (3, len(outcomes))).astype(float)
    together = fit(own, outcomes, weights, np.zeros(4), np.full(4, 2.0))
    for x, w, c in zip(own, weights, together, strict=True):
        assert c == pytest.approx(fit(x, outcomes, w[None], np.zeros(4), np.full(4, 2.0))[0], abs=1e-8)


@pytest.mark.parametrize("outcomes", [np.zeros(30), np.ones(30), (np.arange(30) < 15).astype(float)])
def test_separable_data_converge(outcomes: Floats) -> None:
    features = np.column_stack([np.arange(30.0) - 14.5, np.ones(30)])
    c = fit(features, outcomes, np.ones((1, 30)), np.zeros(2), np.array([10.0, 100.0]))
    assert np.isfinite(c).all()


def test_influence_is_the_derivative_by_the_weights() -> None:
    features, outcomes = data(60)
    spreads = np.array([0.3, 1.0, 1.0, 100.0])
    means = np.array([-1.4, 0.0, 0.0, 0.0])
    at_zero = features * np.array([0.0, 1.0, 1.0, 1.0])

    def controlled(weights: Floats) -> float:
        c = fit(features, outcomes, weights[None], means, spreads)[0]
        return float(np.average(sigmoid(at_zero @ c), weights=weights))

    c = fit(features, outcomes, np.ones((1, 60)), means, spreads)[0]
    values, pulls = influence(features, outcomes, at_zero, c, spreads)
    assert values.mean() == pytest.approx(controlled(np.ones(60)))
    step = 1e-4
    for i in (0, 17, 59):
        weights = np.ones(60)
        weights[i] += step
        slope = (controlled(weights) - controlled(np.ones(60))) / step
        # the values are centred, the raw derivative of the fit is not: they differ by one constant
        weights[i], weights[30] = 1.0, 1 + step
        other = (controlled(weights) - controlled(np.ones(60))) / step
        assert (values[i] - values[30]) / 60 == pytest.approx(slope - other, abs=1e-5)
    moved = fit(features, outcomes, np.ones((1, 60)), means + np.array([0.03, 0, 0, 0]), spreads)[0]
    change = sigmoid(at_zero @ moved).mean() - sigmoid(at_zero @ c).mean()
    assert pulls[0] == pytest.approx(change / 0.03, rel=0.05)
