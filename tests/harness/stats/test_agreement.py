"""Agreement against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import stats
from implicit_if.harness.errors import UserError

verdicts = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), min_size=2, max_size=30)


@settings(deadline=None)
@given(st.data())
def test_kappa_equals_sklearn(data: st.DataObject) -> None:
    from sklearn.metrics import cohen_kappa_score

    first = data.draw(verdicts)
    second = data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=len(first), max_size=len(first)))
    classes = [np.sign(np.array(v) - 0.5).astype(int) for v in (first, second)]
    result = stats.agreement(first, second)
    if len(set(np.concatenate(classes).tolist())) == 1:
        assert result.kappa is None
    else:
        assert result.kappa == pytest.approx(cohen_kappa_score(*classes))


def test_accuracy_counts_only_pairs_both_decided() -> None:
    result = stats.agreement([1, 0, 0.5, 0.8, 0.2], [0.9, 0.6, 1, 0.5, 0.1])
    assert result.accuracy.value == pytest.approx(200 / 3)
    assert (result.accuracy.n_judged, result.accuracy.n_expected, result.n_draws) == (3, 5, 2)


def test_agreement_edges() -> None:
    nothing = stats.agreement([], [])
    assert (nothing.accuracy.value, nothing.kappa) == (None, None)
    assert stats.agreement([0.5], [0.5]).accuracy.value is None
    with pytest.raises(UserError, match="second: found 1 values, expected 2"):
        stats.agreement([0.5, 1], [0.5])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_spearman_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    first, second = zip(*pairs, strict=True)
    ours = stats.spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(spearmanr(first, second).statistic)


def test_spearman_edges() -> None:
    assert stats.spearman([], []) is None
    assert stats.spearman([1.0], [2.0]) is None
    assert stats.spearman([1, 2, 3], [10, 20, 25]) == pytest.approx(1)
