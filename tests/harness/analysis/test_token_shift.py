"""Token shift: shares against counts by hand, and pages on which no text acts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from implicit_if.harness.analysis.token_shift import RankedToken, shift_tokens
from implicit_if.harness.analysis.token_shift_report import colour_answer, shift_figure, shift_page, shift_table
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output


class Ranks:
    """A base model that gives a word's tokens the ranks it spells."""

    def rank_tokens(
        self, prompt: str, answer: str, *, ended: bool, token_ids: Sequence[int] | None = None, rules: Any = None
    ) -> tuple[tuple[RankedToken, ...], RankedToken | None, bool]:
        tokens = [
            RankedToken(f"{digit}", int(digit), "<b>", {"eos": -1.0, "used": float(digit)} if rules else {})
            for digit in answer
        ]
        return tuple(tokens), RankedToken("</s>", 2, "x", {"eos": 3.0}) if ended else None, prompt != "two"


def outputs() -> list[Output]:
    texts = [("one", "1123", "eos"), ("two", "149", "length"), ("three", "", "eos")]
    return [
        Output.model_validate({"instruction": i, "output": o, "generator": "g", "finish_reason": f})
        for i, o, f in texts
    ]


def shift(**more: Any) -> Any:
    return shift_tokens(Ranks(), outputs(), str, system="s|<i>", base="b", template="t", **more)


def test_shares_equal_a_count_by_hand() -> None:
    found = shift(rules="paper")
    assert {name: share.percent for name, share in found.shares.items()} == pytest.approx(
        {"unshifted": 100 * 3 / 7, "marginal": 100 * 2 / 7, "shifted": 100 * 2 / 7}
    )
    assert found.by_position[:3] == [("1", 2, 0.0), ("2", 2, 50.0), ("3-4", 3, pytest.approx(100 / 3))]
    assert found.movers == {"used": 4, "eos": 2}, "the two ends are moved by eos; first choices by no rule"
    assert found.most_shifted() == [("4", 1, "<b>"), ("9", 1, "<b>")]
    assert found.as_dict()["not_exact"] == 1
    json.dumps(found.as_dict())


def test_the_interval_keeps_an_answers_tokens_together() -> None:
    found = shift()
    # three answers with 4, 3 and 0 tokens, of which 0, 2 and 0 are shifted: the widest resamples have 0 and 2/3
    assert found.shares["shifted"].interval.ends == pytest.approx((0, 100 * 2 / 3))


def test_no_text_acts_where_it_is_shown() -> None:
    found = shift(rules="paper")
    page = shift_page([found])
    assert "<i>" not in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "\\|" in shift_table([found]) or "&#124;" in shift_table([found])
    ElementTree.fromstring(shift_figure([found]))
    assert colour_answer(found.answers[1]) == "1\x1b[1;31m4\x1b[0m\x1b[1;31m9\x1b[0m"
    evil = RankedToken("\x1b[2J", 1, "x")
    assert "\x1b" not in colour_answer(type(found.answers[0])("i", (evil,)))


def test_answers_without_a_token_are_refused() -> None:
    with pytest.raises(UserError, match="hold no token"):
        shift_tokens(Ranks(), outputs()[2:], str, system="s", base="b", template="t")
