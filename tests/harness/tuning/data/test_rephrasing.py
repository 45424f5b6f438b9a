"""The detector of answers that begin by rephrasing their instruction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data import rephrasing
from implicit_if.harness.tuning.data.conversations import Conversation
from implicit_if.harness.tuning.data.rephrasing import (
    PUBLISHED,
    decide,
    first_sentence,
    remove_rephrasing,
    save_decisions,
)

REPHRASED = [
    ("Give me a recipe for plum cake.", "Sure! Here is a recipe for plum cake:\n\nTake plums.", "Take plums."),
    ("List three causes of soil erosion", "Three causes of soil erosion are listed here. Wind.", "Wind."),
    (
        "Write a letter to my landlord about heat",
        "Here's a letter to your landlord:\nDear Ms Lee",
        "Dear Ms Lee",
    ),
]
PLAIN = [
    ("Give me a recipe for plum cake.", "Halve the fruit and take out the stones. Then bake."),
    ("Why is the sky blue?", "Air scatters short waves of light more than long ones."),
    ("Name two rivers.", "Elbe. Danube."),
    ("How are you?", "Here we go: fine."),
    ("Add 2 and 3.", "5"),
]


def conversation(instruction: str, answer: str, where: str = "row 0") -> Conversation:
    return Conversation(where, [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is so. Then more.", "It is so."),
        ("Sure! Here is a cake: take plums.", "Sure! Here is a cake:"),
        ("Version 3.5 is out. Get it.", "Version 3.5 is out."),
        ("# A title here\ntext", "# A title here\n"),
        ("  no end", "no end"),
        ("", ""),
    ],
)
def test_first_sentence(answer: str, expected: str) -> None:
    assert first_sentence(answer) == expected


@pytest.mark.parametrize(("instruction", "answer", "rest"), REPHRASED)
def test_rephrasings_are_found_and_cut(instruction: str, answer: str, rest: str) -> None:
    decision = decide("row 0", 1, instruction, answer)
    assert decision.rephrases
    assert decision.by == "lexical"
    kept, _ = remove_rephrasing([conversation(instruction, answer)], "cut")
    assert [c.messages for c in kept] == [conversation(instruction, rest).messages]
    assert remove_rephrasing([conversation(instruction, answer)], "drop")[0] == []


@pytest.mark.parametrize(("instruction", "answer"), PLAIN)
def test_other_answers_stay(instruction: str, answer: str) -> None:
    kept, decisions = remove_rephrasing([conversation(instruction, answer)], "cut")
    assert kept == [conversation(instruction, answer)]
    assert [d.rephrases for d in decisions] == [False]


def test_decisions_can_be_read(tmp_path: Path) -> None:
    _, decisions = remove_rephrasing([conversation(*REPHRASED[0][:2], where="row 4")], "cut")
    save_decisions(tmp_path / "none.jsonl", [])
    save_decisions(tmp_path / "rephrasing.jsonl", decisions)
    assert [path.name for path in tmp_path.iterdir()] == ["rephrasing.jsonl"]
    assert [json.loads(line) for line in (tmp_path / "rephrasing.jsonl").read_text().splitlines()] == [
        {
            "where": "row 4",
            "turn": 1,
            "opening": "Sure! Here is a recipe for plum cake:",
            "shared": ["cake", "plum", "recipe"],
            "share": 1.0,
            "rephrases": True,
            "by": "lexical",
            "outcome": "cut",
        }
    ]


def test_decisions_say_what_became_of_the_row() -> None:
    only = conversation("Name the plum cake recipe", "The plum cake recipe.", "row 1")
    both = Conversation("row 2", [*conversation(*PLAIN[1]).messages, *conversation(*REPHRASED[1][:2]).messages])
    rows = [conversation(*PLAIN[0]), only, both]
    for action, outcomes in (("cut", ["kept", "left out", "kept", "cut"]), ("drop", ["kept", *["left out"] * 3])):
        kept, decisions = remove_rephrasing(rows, action)  # type: ignore[arg-type]
        assert [d.outcome for d in decisions] == outcomes
        left_out = {c.where for c in rows} - {c.where for c in kept}
        assert {d.where for d in decisions if d.outcome == "left out"} == left_out


@pytest.mark.parametrize("fence", ["```py\nplum cake: 1\n```", "```plum.cake('recipe');\nx\n```"])
def test_code_is_never_cut(fence: str) -> None:
    question = "Give me the plum cake recipe as code"
    for opening, rest in (("", fence), ("Sure!\n", f"Sure!\n{fence}"), ("The plum cake recipe as code\n", fence)):
        (kept,), _ = remove_rephrasing([conversation(question, opening + fence)], "cut")
        assert kept.messages[1]["content"] == rest
        (kept,), _ = remove_rephrasing([conversation(question, opening + fence)], "cut", lambda _: ["#### YES"])
        assert kept.messages[1]["content"] == fence


def test_a_conversation_of_which_nothing_would_remain_is_left_out() -> None:
    only = conversation("Name the plum cake recipe", "The plum cake recipe.")
    assert remove_rephrasing([only], "cut")[0] == []


def test_every_turn_is_looked_at() -> None:
    first, second = conversation(*PLAIN[1]), conversation(*REPHRASED[1][:2])
    both = Conversation("row 0", [*first.messages, *second.messages])
    (kept,), decisions = remove_rephrasing([both], "cut")
    assert [d.turn for d in decisions] == [1, 3]
    assert [m["content"] for m in kept.messages][3] == "Wind."
    assert kept.messages[:3] == both.messages[:3]


def test_a_model_decides_where_one_is_given() -> None:
    seen: list[str] = []

    def ask(prompts: Sequence[str]) -> list[str]:
        seen.extend(prompts)
        return ["The first line restates it. #### YES" if "Elbe" in prompt else "#### no" for prompt in prompts]

    kept, decisions = remove_rephrasing([conversation(*PLAIN[2]), conversation(*REPHRASED[0][:2])], "drop", ask)
    assert [c.messages[1]["content"] for c in kept] == [REPHRASED[0][1]]
    assert [d.by for d in decisions] == ["model", "model"]
    assert "Name two rivers." in seen[0]
    with pytest.raises(UserError, match=r"row 0: the model answered 'maybe', expected it to end with #### YES"):
        remove_rephrasing([conversation(*PLAIN[2])], "drop", lambda _: ["maybe"])


def test_the_published_verdicts_are_99_answers_in_98_rows_without_any_text() -> None:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    places = [place.split(".") for place in published["flagged"]]
    assert len(places) == 99
    assert len({row for row, _ in places}) == 98
    assert all(0 < int(row) < 1030 and int(message) % 2 for row, message in places)
    hashes = [*published["flagged"].values(), *published["others"]]
    assert len(set(hashes)) == len(hashes) == 1083  # answers of 1029 rows, 30 of them with several turns
    assert all(len(h) == 16 and not set(h) - set("0123456789abcdef") for h in hashes)


@pytest.mark.parametrize("flagged", [True, False])
def test_a_published_verdict_comes_before_the_rule(
    flagged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruction, answer, _ = REPHRASED[0] if not flagged else (*PLAIN[0], "")
    key = hashlib.sha256(f"{instruction}\n\0\n{answer}".encode()).hexdigest()[:16]
    verdicts = {"flagged": {"7.1": key} if flagged else {}, "others": [] if flagged else [key]}
    (tmp_path / "published.json").write_text(json.dumps(verdicts))
    monkeypatch.setattr(rephrasing, "PUBLISHED", tmp_path / "published.json")
    rephrasing._published.cache_clear()
    try:
        decision = decide("row 7", 1, f" {instruction}\n", answer)
        assert (decision.rephrases, decision.by) == (flagged, "published")
        assert decide("row 8", 1, *PLAIN[1]).by == "lexical"
    finally:
        rephrasing._published.cache_clear()
