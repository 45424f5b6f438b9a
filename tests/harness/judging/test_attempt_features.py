from __future__ import annotations

import time

import pytest

from implicit_if.harness.judging.attempt_features import (
    MAX_SEGMENTS,
    attempt_features,
    language,
    own_text,
    segments,
    tag_spans,
    without_shared_words,
)
from implicit_if.harness.judging.text_features import MAX_CHARS, clean, words

BREAD = "Why does bread go stale faster in the fridge than on the counter?"


def features(instruction: str, answer: str) -> dict[str, float]:
    return attempt_features(instruction, answer, segments(instruction, answer))


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("Hello.\n### Human: and?", ["### Human:"]),
        ("Hello.\n[USR] and?\n[BOT] this", ["[USR]", "[BOT]"]),
        ("Q> and?", ["Q>"]),
        ("a\n<|passenger>\nb", ["<|passenger>"]),
        ("a\n</user>\nb", ["</user>"]),
        ("a\n[zork] b\n[zork] c", ["[zork]", "[zork]"]),
        ("a\n[zork] b", []),
        ("## Ingredients\n- egg\n## Steps\n- whisk", []),
        ("<div>\n<p>a</p>\n</div>", []),
        ("Step 1: mix\nStep 2: bake", []),
    ],
)
def test_tags_of_any_shape(text: str, tags: list[str]) -> None:
    assert [text[start:end] for start, end in tag_spans(text)] == tags


def test_an_echo_has_no_own_text() -> None:
    parts = segments(BREAD, f"{BREAD}\n<|assistant|>\n{BREAD}")
    assert [(s.copied, s.repeated, s.tagged) for s in parts] == [(1.0, False, False), (1.0, True, True)]
    assert own_text(parts) == ""


def test_own_text_is_neither_copied_nor_repeated_nor_asked() -> None:
    answer = f"{BREAD}\nStarch sets sooner in the cold.\nStarch sets sooner in the cold.\nWhat else do you bake?"
    parts = segments(BREAD, answer)
    assert own_text(parts) == "Starch sets sooner in the cold."
    assert own_text(segments(BREAD, "What else do you bake?")) == "What else do you bake?"


def test_a_template_leaves_nothing_without_the_instructions_words() -> None:
    assert without_shared_words("Repot a snake plant", "The snake plant is a plant.") == "the is a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat is on the mat and it is happy", "en"),
        ("Die Katze ist auf der Matte und sie ist froh", "de"),
        ("Le chat est sur le tapis et il est content", "fr"),
        ("zorp blim quux", ""),
        ("", ""),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(words(text)) == expected


def test_features_by_hand() -> None:
    found = features(BREAD, f"{BREAD}\nStarch sets sooner in the cold.")
    # 13 copied words and 6 own ones, of which "in" and "the" are function words and none else is in the question
    assert found["copied_3"] == pytest.approx(13 / 19)
    assert found["told_share"] == pytest.approx(6 / 19)
    assert found["own_new_share"] == 1.0
    assert found["own_shared"] == pytest.approx(2 / 6)
    assert found["covered"] == 1.0
    assert found["asks_share"] == 0.5
    assert found["other_language"] == 0.0


def test_an_empty_answer_has_features() -> None:
    assert features(BREAD, "")["own_words"] == 0.0
    assert features("", "")["covered"] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "a" * MAX_CHARS,
        "a b " * 5000,
        "[x]\n" * 5000,
        "<|" * 9999,
        "漢字。" * 6000,
        "#" * MAX_CHARS,
        "🙂\n" * 9000,
        "? " * 9999,
    ],
)
def test_hostile_text_takes_bounded_time(text: str) -> None:
    start = time.process_time()
    parts = segments(clean(text), clean(text))
    attempt_features(clean(text), clean(text), parts)
    assert len(parts) <= MAX_SEGMENTS
    assert time.process_time() - start < 2
