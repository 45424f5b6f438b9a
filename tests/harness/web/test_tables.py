"""Numbers of the page: rounded as every other table rounds them, and counted by category."""

from __future__ import annotations

import numpy as np
import pytest

from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.web.document import dump
from implicit_if.harness.web.tables import category_table, form_data, score_data


def test_a_score_is_shown_as_in_the_tables() -> None:
    score = Score(
        value=71.25,
        interval=Interval(low=60.05, high=80.0, method="m", level=0.95),
        n_judged=8,
        n_expected=8,
        signature=None,
    )
    shown = score_data(score, 1.25)
    assert shown is not None
    assert f"{shown['shown']} {shown['ends']}" == score.bracketed(1.25)
    assert (shown["value"], shown["low"], shown["high"]) == (71.25, 60.05, 80.0)
    assert score_data(None) is None
    bare = score.model_copy(update={"interval": None})
    assert score_data(bare) == {"value": 71.25, "low": None, "high": None, "shown": "71.2", "ends": ""}


def test_measures_that_are_not_there_are_a_dash() -> None:
    data = form_data({"finish_rate": 71.25, "avg_length": 271.5})
    assert data["shown"] == {"finish_rate": "71.2", "format_leak_rate": "-", "repetition": "-", "avg_length": "272"}
    assert data["format_leak_rate"] is None


def test_categories_count_attempts_of_one_seed_and_average_wins_over_seeds() -> None:
    names = ["b", "a", "b", "b"]
    one = [(np.array([1.0, 0.0, 0.5, 0.0]), np.array([0.9, 0.5, 0.1, 0.4]))]
    two = [(np.array([1.0, 0.0, 1.0, 0.0]), np.zeros(0)), (np.array([0.0, 1.0, 0.0, 1.0]), np.zeros(0))]
    missing = [(np.array([np.nan, 1.0, 1.0, 1.0]), np.zeros(0))]
    rows: list[dict[str, object]] = [{}, {}, {}, {}]
    assert category_table(names, [one, two, missing, []], rows) == {"categories": [("a", 1), ("b", 3)]}
    assert rows[0]["by_category"] == {"attempts": [1, 1], "wins": ["0.0", "50.0"]}
    assert rows[1]["by_category"] == {"attempts": None, "wins": ["50.0", "50.0"]}
    assert rows[2]["by_category"] == {"attempts": None, "wins": ["100.0", None]}
    assert rows[3] == {}


def test_json_in_a_page_cannot_end_its_element() -> None:
    assert "<" not in dump({"x": "</script><!--"})
    with pytest.raises(ValueError, match="JSON"):
        dump(float("nan"))
