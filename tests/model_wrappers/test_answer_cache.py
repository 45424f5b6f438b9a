"""What is remembered is what was kept, and only for what made it."""

from __future__ import annotations

from pathlib import Path

from implicit_if.harness.generation import Generation
from implicit_if.model_wrappers.answer_cache import AnswerMemory


def test_answers_come_back_for_the_same_prompt_and_maker_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "answers.jsonl"
    texts = ["", 'line\n"two"', "\ud800 half a pair"]
    kept = [Generation.of(text, "length", n) for n, text in enumerate(texts)]
    AnswerMemory(path, ["model", {"max": 3}]).add(["a", "b", "c"], kept)
    again = AnswerMemory(path, ["model", {"max": 3}])
    found = [again.get(prompt) for prompt in "abc"]
    assert found == texts
    assert [(a.finish_reason, a.n_tokens) for a in found if a is not None] == [("length", n) for n in range(3)]
    assert again.get("d") is None
    assert AnswerMemory(path, ["model", {"max": 4}]).get("a") is None


def test_a_later_answer_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    for text in ("old", "new"):
        AnswerMemory(path).add(["a"], [Generation.of(text, "eos", 1)])
    assert AnswerMemory(path).get("a") == "new"


def test_without_a_file_nothing_is_remembered() -> None:
    memory = AnswerMemory(None)
    memory.add(["a"], [Generation.of("x", "eos", 1)])
    assert memory.get("a") is None
