"""The attempt rate: decisions at one half, Wilson's interval, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats import attempt_rate
from implicit_if.harness.stats.attempt_rate import decisions


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 80), (3, 80), (40, 80), (61, 80), (80, 80), (402, 805)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_value_and_interval_are_scipy_s(k: int, n: int, level: float) -> None:
    score = attempt_rate([0.75] * k + [0.25] * (n - k), level=level)
    expected = binomtest(k, n).proportion_ci(level, method="wilson")
    assert score.value == pytest.approx(100 * k / n)
    assert score.interval is not None
    assert score.interval.ends == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert (score.interval.method, score.n_judged, score.n_expected) == ("share;wilson", n, n)
    if n > 1:
        values = np.array([1.0] * k + [0.0] * (n - k))
        assert score.standard_error == pytest.approx(100 * values.std(ddof=1) / n**0.5)
    else:
        assert score.standard_error is None


def test_one_half_is_an_attempt() -> None:
    assert decisions([0.0, 0.4999, 0.5, 1.0]).tolist() == [0, 0, 1, 1]


def test_missing_verdicts_are_no_refusals() -> None:
    score = attempt_rate([0.9, 0.9], n_expected=5)
    assert (score.value, score.n_judged, score.n_expected) == (100, 2, 5)
    assert attempt_rate([], n_expected=5).value is None
    assert attempt_rate([], n_expected=5).interval is None
    for wrong in ([float("nan")], [1.5], [-0.1]):
        with pytest.raises(UserError, match="probabilities"):
            attempt_rate(wrong)
