from __future__ import annotations

import pytest
from pydantic import ValidationError

from implicit_if.harness.judging.tree_ensemble import TreeEnsemble


def test_the_mean_of_the_leaves_that_are_reached() -> None:
    trees = ([[0, 1.5, 1, 2], 0.25, 0.75], [0.5])
    ensemble = TreeEnsemble.model_validate({"features": ["a"], "trees": trees})
    assert ensemble.predict({"a": 1.5}) == (0.25 + 0.5) / 2
    assert ensemble.predict({"a": 1.6}) == (0.75 + 0.5) / 2


@pytest.mark.parametrize(
    "tree", [[[0, 1.0, 0, 1], 0.5], [[0, 1.0, 1, 3], 0.5, 0.5], [[1, 1.0, 1, 2], 0.5, 0.5], [[-1, 1.0, 1, 2], 0.5, 0.5]]
)
def test_a_walk_that_would_not_end_or_would_leave_the_tree_is_refused(tree: list[object]) -> None:
    with pytest.raises(ValidationError, match="no such feature or child"):
        TreeEnsemble.model_validate({"features": ["a"], "trees": [tree]})
