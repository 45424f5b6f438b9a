from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.judging.text_features import (
    MAX_CHARS,
    NAMES,
    Effective,
    clean,
    effective,
    text_features,
    words,
)

PARIS = "The capital of France is Paris. It lies on the Seine and has about two million inhabitants."


def features(instruction: str, answer: str) -> dict[str, float]:
    return text_features(clean(instruction), effective(clean(answer)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 20 km, isn’t it?", ["it's", "20", "km", "isn’t", "it"]),
        ("snake_case", ["snake", "case"]),
        ("Größe naïve Привет", ["größe", "naïve", "привет"]),
        ("北京是中国的首都。", ["北京", "是中", "国的", "首都"]),
        ("!?… \n", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\x00b\u200b \n", "ab"),
        ("line\r\nline", "line\nline"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ufeff\x1b\x07", ""),
        ("x" * (MAX_CHARS + 1), "x" * MAX_CHARS),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "marker",
    ["<|user|>", "<|im_end|>", "</s>", "[INST]", "<end_of_turn>", "### Instruction:", "Human:", "user :", "Question:"],
)
def test_effective_cuts_at_the_next_turn(marker: str) -> None:
    kept = effective(f"{PARIS}\n{marker}\nWhat about Spain?")
    assert kept.text == PARIS
    tail = len(f"{marker}\nWhat about Spain?")
    assert kept.cut == pytest.approx(tail / (len(PARIS) + 1 + tail))


@pytest.mark.parametrize(
    "text",
    [
        "### Instructions for the dough\nMix flour and water.",
        "The user: a person. Ask a question: always.",
        "def f(x):\n    # Output: a number\n    return x | 2",
        "Question 1: What is it?\nQuestion 2: Why is it?",
        "a <| b |> c is no tag because it is much too long" + " indeed" * 9,
    ],
)
def test_effective_leaves_headings_and_code_alone(text: str) -> None:
    if "<|" in text:
        text = text.replace("<| b |>", "<| " + "b" * 30 + " |>")
    assert effective(text).cut == 0


def test_effective_skips_leading_markers() -> None:
    kept = effective(f"<|assistant|>\n### Response: {PARIS}")
    assert kept.text == PARIS
    assert kept.cut == 0


def test_effective_drops_repeated_sentences() -> None:
    kept = effective(f"{PARIS} {PARIS}\n{PARIS}")
    assert kept.text == PARIS
    assert kept.loops == pytest.approx(2 / 3)


def test_effective_drops_repeated_runs_of_five() -> None:
    shared_four = "we like to eat red apples and we like to eat green ones"
    assert effective(shared_four).fresh == [shared_four.split()]
    loop = effective(" ".join(["one two three four five six"] * 10))
    assert loop.fresh == [["one", "two", "three", "four", "five", "six", "one", "two", "three", "four"]]
    assert loop.loops == pytest.approx(50 / 60)


def test_effective_keeps_short_repeated_lines() -> None:
    code = "if a:\n    return\nif b:\n    return"
    assert effective(code).text == code


def test_effective_of_nothing() -> None:
    assert effective("") == Effective(sentences=[], fresh=[], cut=0.0, loops=0.0)
    assert features("Say hello.", "") == dict.fromkeys(NAMES, 0.0)


def test_content_counts_distinct_own_content_words() -> None:
    # capital, france, is, paris, lies, seine, about, two, million, inhabitants: "is" is a function word, 9 are left
    assert features("Hello there, my friend.", PARIS)["content"] == pytest.approx(math.log1p(9))


def test_content_leaves_out_what_is_copied() -> None:
    instruction = "Please tell me what the capital of France is."
    assert features(instruction, instruction)["content"] == 0
    assert features(instruction, f"{instruction} Paris.")["content"] == pytest.approx(math.log1p(1))


def test_content_leaves_out_further_requests_unless_they_are_asked_for() -> None:
    requests = "Write a poem about the sea.\nWhich planet is the largest?\nExplain photosynthesis to a child."
    assert features("Name three rivers.", requests)["content"] == 0
    assert features("Write three quiz questions.", requests)["content"] > math.log1p(8)
    assert features("Translate to French: Where is the station?", "Où est la gare ?")["content"] > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One sentence. two sentence. Three sentences.", 1 / 3),
        ("One sentence. Two sentences. Three sentences.", 0.0),
        ("One line.\nanother line.", 0.0),
        ("これは文です。これも文です。", 0.0),
    ],
)
def test_broken(text: str, expected: float) -> None:
    assert features("x", text)["broken"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PARIS, 0),
        (PARIS + " There are also many museums and", 1),
        (PARIS + "\nThere are also many museums and", 1),
        ("Yes", 0),
        ("A list of things without any full stops at all", 0),
        ("- apples from the garden of my aunt\n- pears from the garden of my uncle", 0),
        ("```python\nprint(1)", 1),
        ("```python\nprint(1)\n```", 0),
        ("巴黎是法国的首都。它位于塞纳河畔。", 0),
        ("巴黎是法国的首都，也是法国最大的城市。\n它位于塞纳河畔，拥有约两百万", 1),
    ],
)
def test_unfinished(text: str, expected: int) -> None:
    assert features("x", text)["unfinished"] == expected


def test_values_of_this_version() -> None:
    """If this fails, what a verdict rests on has changed: raise FEATURES_VERSION and fit again."""
    before = f"{PARIS} {PARIS} and so on, as we have seen and\n"
    after = "<|user|>\nWhat is the capital of Spain?"
    assert features("What is the capital of France?", before + after) == pytest.approx(
        {
            "content": math.log1p(10),  # the nine of PARIS, and "seen"
            "loops": 17 / 42,
            "cut": len(after) / len(before + after),
            "broken": 1 / 3,
            "unfinished": 1.0,
        }
    )


@given(st.text(), st.text())
def test_every_text_has_finite_features_in_their_ranges(instruction: str, answer: str) -> None:
    values = features(instruction, answer)
    assert tuple(values) == NAMES
    assert 0 <= values.pop("content") < 20
    assert all(0 <= value <= 1 for value in values.values())


@pytest.mark.parametrize(
    "unit",
    [
        "a", " ", "\n", "\n ", ". ", "a.", "a. ", "?", "'", "'a", "’", "1", "1.", "- ", "#", "### ", "<|", "<|a", "|>",
        "<|user|>", "[/", "user", "user ", "\nq ", "```", "的", "。", "ก", "\u0301", "e\u0301", "\U0001f600", "\x00",
        "\ud800",
        "write ", "can you ", "* a\n", "human:\n", "a b c d e f ", "a\tb\n",
    ],
)  # fmt: skip
def test_a_megabyte_of_anything_is_quick(unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    start = time.process_time()
    features(text, text)
    features(text, "x" + text)
    assert time.process_time() - start < 2
