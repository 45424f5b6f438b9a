"""Token shift: shares against counts by hand, and pages on which no text acts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from implicit_if.harness.analysis.token_shift import RankedToken, shift_tokens
from implicit_if.harness.analysis.token_shift_cli import check_tokenizer
from implicit_if.harness.analysis.token_shift_report import colour_answer, shift_figure, shift_page, shift_table
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.references.recitation import MARK


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


def test_an_answer_counts_up_to_a_withheld_passage() -> None:
    rows = [*outputs()[1:], outputs()[0].model_copy(update={"output": f"12 {MARK} 99", "finish_reason": "eos"})]
    found = shift_tokens(Ranks(), rows, str, system="s", base="b", template="t")
    assert [token.rank for token in found.answers[2].tokens] == [1, 2]
    assert found.answers[2].end is None, "where it ended is not known to follow from what is there"
    assert [answer.cut for answer in found.answers] == [False, False, True]
    assert found.as_dict()["cut_where_withheld"] == 1
    assert "s: 1 of 3 answers count up to a passage of training data" in shift_table([found])


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "ranks.jsonl"
    whole = shift(rules="paper")
    shift_tokens(Ranks(), outputs()[:2], str, system="s|<i>", base="b", template="t", rules="paper", store=store)
    ranked = []

    def rank_tokens(self: Ranks, prompt: str, answer: str, **_: Any) -> Any:
        ranked.append(prompt)
        return (), None, True

    monkeypatch.setattr(Ranks, "rank_tokens", rank_tokens)
    found = shift(rules="paper", store=store)
    assert ranked == ["three"]
    assert found.answers[:2] == whole.answers[:2]


class Spelling:
    """A tokenizer with a token a letter, or a token a word."""

    def __init__(self, words: bool) -> None:
        self.words = words

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return SimpleNamespace(input_ids=text.split() if self.words else list(text))

    def __len__(self) -> int:
        return 100

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids)


@pytest.mark.parametrize(
    "more",
    [{"n_tokens": 4}, {"token_ids": [65, 66, 67, 300]}, {"token_ids": [65, 66, 67, 68]}],
    ids=["fewer tokens", "an id beyond the vocabulary", "another text"],
)
def test_answers_of_another_tokenizer_are_refused(more: dict[str, Any]) -> None:
    made = [Output.model_validate({"instruction": "i", "output": "a text of eight", "generator": "g"} | more)]
    with pytest.raises(UserError, match="1 of 1 answers have other tokens than base 'b'"):
        check_tokenizer(Spelling(words=False), "s", made, "b")
    check_tokenizer(Spelling(words=True), "s", [made[0].model_copy(update={"n_tokens": 4, "token_ids": None})], "b")


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
