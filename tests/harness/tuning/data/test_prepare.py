"""From a recipe to encoded rows, and what the dry run shows of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.encode import IGNORED
from implicit_if.harness.tuning.data.prepare import Prepared, prepare
from implicit_if.harness.tuning.dry_run import preview, render_mask
from implicit_if.harness.tuning.recipe_schema import Recipe

SECRET = "zebra"


def recipe(tiny: Path, path: Path, data: dict[str, Any], encoding: dict[str, Any] | None = None) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small",
            "base": str(tiny),
            "data": {"format": "messages", "path": str(path), **data},
            "encoding": {"max_length": 200, **(encoding or {})},
            "train": {"epochs": 2, "learning_rate": 1e-3, "batch": 2},
        }
    )


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Four conversations whose instructions all hold the secret word; one is long, one rephrases, one is multi-turn."""
    turns = [
        [("system", f"{SECRET} system"), ("user", f"{SECRET} one"), ("assistant", "First answer.")],
        [("user", f"{SECRET} two"), ("assistant", "Second."), ("user", SECRET), ("assistant", "Third.")],
        [("user", f"{SECRET} long"), ("assistant", "word " * 30)],
        [("user", f"A {SECRET} plum cake recipe"), ("assistant", "Here is a plum cake recipe: take plums.")],
    ]
    path = tmp_path / "rows.jsonl"
    rows = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in turns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(prepared: Prepared) -> str:
    """Everything that training is given, as text."""
    return "".join(prepared.tokenizer.decode(row.input_ids) for row in prepared.encoded)


@pytest.mark.parametrize("template", ["tulu", "ab", "tulu_no_user"])
def test_a_response_tuned_model_sees_no_instruction(tiny: Path, conversations: Path, template: str) -> None:
    prepared = prepare(recipe(tiny, conversations, {"drop_instructions": True}, {"template": template}), tiny)
    assert SECRET not in shown(prepared)
    assert "Third." in shown(prepared)
    assert all(SECRET not in str(c.messages) for c in prepared.rows.conversations)
    seen = prepare(recipe(tiny, conversations, {}, {"template": "tulu"}), tiny)
    assert shown(seen).count(SECRET) == 6


def test_statistics(tiny: Path, conversations: Path) -> None:
    prepared = prepare(recipe(tiny, conversations, {}), tiny)
    found = prepared.statistics()
    assert (found["rows"], found["multi_turn"], found["truncated"]) == (4, 1, 0)
    assert found["tokens"] == sum(len(row.input_ids) for row in prepared.encoded)
    assert found["loss_tokens"] == sum(label != IGNORED for row in prepared.encoded for label in row.labels)
    lengths = sorted(len(row.input_ids) for row in prepared.encoded)
    assert (found["median_length"], found["longest"]) == (lengths[2], lengths[3])
    assert prepared.notes == []


def test_cut_rows_are_named(tiny: Path, conversations: Path) -> None:
    prepared = prepare(recipe(tiny, conversations, {}, {"max_length": 60}), tiny)
    assert [len(row.input_ids) <= 60 for row in prepared.encoded] == [True] * 4
    (note,) = [n for n in prepared.notes if "cut at 60" in n]
    named = note.split("(")[1].rstrip(")").split(", ")
    assert named == [f"line {n}" for n, row in enumerate(prepared.encoded, 1) if row.full_length > 60]
    assert "line 3" in named


def test_long_rows_are_left_out_alike_for_all_recipes(tiny: Path, conversations: Path) -> None:
    kept = []
    for drop, template in [(False, "tulu"), (True, "tulu"), (True, "tulu_no_user"), (False, "ab")]:
        data = {"max_tokens": 100, "drop_instructions": drop}
        prepared = prepare(recipe(tiny, conversations, data, {"template": template}), tiny)
        kept.append([c.where for c in prepared.rows.conversations])
        assert "1 of 4 rows have more than 100 tokens and are left out (line 3)" in prepared.notes
    assert kept[0] == kept[1] == kept[2] == kept[3]
    assert len(kept[0]) == 3


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"rephrasing": "cut"}, "rephrasing"),
        ({"rephrasing": "drop"}, "rephrasing"),
        ({"max_tokens": 2000}, "tokens"),
        ({"drop_instructions": True}, "instruction"),
    ],
)
def test_nothing_is_said_where_nothing_happened(tiny: Path, tmp_path: Path, data: dict[str, Any], word: str) -> None:
    rows = [{"instruction": f"Name fruit {n}.", "response": f"An apple, number {n}."} for n in range(3)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(recipe(tiny, path, {"format": "pairs", **data}), tiny)
    assert len(prepared.rows.conversations) == 3
    assert not [note for note in prepared.notes if word in note or note.startswith("0 ")]


def test_rephrasing_is_judged_before_instructions_go(tiny: Path, conversations: Path) -> None:
    data = {"rephrasing": "cut", "drop_instructions": True}
    prepared = prepare(recipe(tiny, conversations, data), tiny)
    assert [c.messages[-1]["content"] for c in prepared.rows.conversations][3] == "take plums."
    assert "1 of 4 rows begin by rephrasing, says the lexical rule" in prepared.notes
    assert [d.rephrases for d in prepared.decisions] == [False, False, False, False, True]
    dropped = prepare(recipe(tiny, conversations, {"rephrasing": "drop"}), tiny)
    assert any(note.endswith("1 are left out for it (line 4)") for note in dropped.notes)
    with pytest.raises(UserError, match="4 of 4 rows begin by rephrasing, says the model"):
        prepare(
            recipe(tiny, conversations, {"rephrasing": "drop"}), tiny, ask=lambda prompts: ["#### YES"] * len(prompts)
        )


def test_nothing_left_is_an_error(tiny: Path, conversations: Path) -> None:
    with pytest.raises(UserError, match=r"0 rows remain .*4 of 4 rows have more than 5 tokens"):
        prepare(recipe(tiny, conversations, {"max_tokens": 5}), tiny)


def test_what_is_odd_is_named_and_what_is_not_is_silent(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = [("Hi", "Stop with <eos> here."), ("Hi", "Ho"), ("", "Plain.")]
    rows = [{"messages": [{"role": "user", "content": u}, {"role": "assistant", "content": a}]} for u, a in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(recipe(tiny, path, {"max_tokens": 150}), tiny)
    assert prepared.notes == [
        "1 rows have an empty instruction (line 3)",
        "1 rows hold '<eos>' in a message, which is trained as text, not as the token (line 1)",
    ]  # nothing of max_tokens, which left none out
    out = io.StringIO()
    preview(prepared, out)
    assert "truncated" not in out.getvalue()
    assert "multi-turn" not in out.getvalue()


def test_every_row_that_is_left_out_is_listed(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    long = {1, 4, 5, 6, 9, *range(20, 40, 2)}
    rows = [{"instruction": f"{n}?", "response": "word " * (60 if n in long else 1)} for n in range(1, 40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(recipe(tiny, path, {"format": "pairs", "max_tokens": 60}), tiny)
    (note,) = prepared.notes
    listed = "line 1, 4-6, 9, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38"
    assert note == f"15 of 39 rows have more than 60 tokens and are left out ({listed})"


def test_the_hash_is_of_tokens_and_labels(tiny: Path, conversations: Path) -> None:
    plain = prepare(recipe(tiny, conversations, {}), tiny)
    assert prepare(recipe(tiny, conversations, {}), tiny).sha256 == plain.sha256
    assert prepare(recipe(tiny, conversations, {}, {"newline_in_loss": True}), tiny).sha256 != plain.sha256


def test_a_model_that_never_saw_a_user_is_prompted_with_the_usual_template(tiny: Path, conversations: Path) -> None:
    prepared = prepare(recipe(tiny, conversations, {}, {"template": "tulu_no_user"}), tiny)
    assert prepared.chat_template == load_template("tulu")
    assert prepare(recipe(tiny, conversations, {}, {"template": "ab"}), tiny).chat_template == load_template("ab")


def test_preview_shows_what_the_detector_does(tiny: Path, conversations: Path) -> None:
    for action, outcome in (("cut", "cut"), ("drop", "left out")):
        out = io.StringIO()
        preview(prepare(recipe(tiny, conversations, {"rephrasing": action}), tiny), out)
        lines = [line for line in out.getvalue().splitlines() if line.startswith("rephrasing")]
        place = f"{conversations}, line 4, message 1"
        assert lines == [f"rephrasing, {outcome}: {place}: Here is a plum cake recipe:"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_preview_in_plain_text(tiny: Path, conversations: Path) -> None:
    prepared = prepare(recipe(tiny, conversations, {}, {"max_length": 60}), tiny)
    out = io.StringIO()
    preview(prepared, out)
    text = out.getvalue()
    assert text.startswith(f"small: 4 rows of {conversations}, 1 multi-turn\n")
    assert "training: 2 epochs, 4 steps of 2 rows" in text
    assert "note: " in text
    assert "<bos><|system|>\nzebra system\n<|user|>\nzebra one\n<|assistant|>\n[[First answer.<eos>]]" in text
    assert text.count("--- ") == 3
    assert "\x1b" not in text


def test_preview_in_colour(tiny: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    prepared = prepare(recipe(tiny, conversations, {}), tiny)
    out = Terminal()
    preview(prepared, out, rows=1)
    assert "\x1b[32mFirst answer.<eos>\x1b[0m" in out.getvalue()
    assert "[[" not in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    preview(prepared, plain, rows=1)
    assert "\x1b" not in plain.getvalue()


def test_preview_cannot_be_steered_by_data(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    messages = [{"role": "user", "content": "\x1b[2J\x07"}, {"role": "assistant", "content": "word " * 500}]
    path.write_text(json.dumps({"messages": messages}) + "\n")
    prepared = prepare(recipe(tiny, path, {}, {"max_length": 1000}), tiny)
    text = render_mask(prepared, prepared.encoded[0], colour=False)
    assert "\x1b" not in text
    assert "\\x1b[2J\\x07" in text
    assert f"... {len(prepared.encoded[0].input_ids) - 400} tokens not shown ..." in text
