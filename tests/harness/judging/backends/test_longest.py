from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import Comparison, get_judge


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("aa", "a", 1.0), ("a", "aa", 0.0), ("ab", "cd", 0.5), ("", "", 0.5), ("", " ", 0.0), ("ééé", "abcd", 0.0)],
)
def test_more_characters_win(first: str, second: str, expected: float) -> None:
    (verdict,) = get_judge("longest").judge([Comparison("k", "i", first, second)])
    assert (verdict.key, verdict.prefers_first, verdict.error) == ("k", expected, None)


@given(st.text(), st.text())
def test_swapping_the_answers_swaps_the_verdict(first: str, second: str) -> None:
    one, other = get_judge("longest").judge([Comparison("1", "", first, second), Comparison("2", "", second, first)])
    assert one.prefers_first is not None
    assert other.prefers_first == 1 - one.prefers_first


def test_it_costs_nothing_and_sees_no_order() -> None:
    judge = get_judge("longest")
    assert (judge.ordered, judge.paid) == (False, False)
    assert (judge.estimate([]).calls, judge.estimate([]).cost) == (0, 0.0)
    assert len(judge.fingerprint) == 64


def test_options_are_refused() -> None:
    with pytest.raises(UserError, match="temperature"):
        get_judge("longest", temperature=1)
