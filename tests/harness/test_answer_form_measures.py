"""Measures of an answer's form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import answer_form

TAGS = ["<|user|>\n", "<|assistant|>\n"]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Paris.\n<|user|>\nAnd Rome?", True),
        ("Paris.<|assistant|>", True),
        ("Paris. <|user said so", True),
        ("Paris. user|> said so", True),
        ("Paris. <|us", True),
        ("Paris. <|as", True),
        ("Paris. <|", False),
        ("The user asked the assistant.", False),
        ("| user | age |\n|user|3|", False),
        ("<|username|> is a placeholder", False),
        ("a <| b |> c", False),
        ("", False),
    ],
)
def test_format_leak(text: str, leaks: bool) -> None:
    assert answer_form.format_leak(text, TAGS) is leaks


@pytest.mark.parametrize(
    ("tag", "text", "leaks"),
    [
        ("[INST]", "x [INST] y", True),
        ("[INST]", "an INST] of it, [INSTITUTE]", False),
        ("### Instruction:", "### Instruction: go", True),
        ("### Instruction:", "Instruction: go", False),
        ("<|A|>", "<|A|> hi", True),
        ("<|A|>", "Plan A", False),
        ("</s>", "</span>", False),
        ("<|im_start|>user", "<|im_start|>user", True),
        ("", "anything", False),
    ],
)
def test_format_leak_of_other_templates(tag: str, text: str, leaks: bool) -> None:
    assert answer_form.format_leak(text, [tag]) is leaks


def naive_leak(text: str, tag: str) -> bool:
    """The docstring's three cases, letter by letter."""
    match = re.fullmatch(r"([^\w\s]*)(\w+)([^\w\s]*)", tag)
    left, word, right = match.groups() if match else ("", "", "")
    for start in range(len(text)):
        rest, before = text[start:], text[:start]
        if rest.startswith(tag):
            return True
        if len(left) >= 2 and rest.startswith(left + word) and not rest[len(left + word) :][:1].isalnum():
            return True
        if len(left) >= 2 and len(rest) >= 3 and (left + word).startswith(rest):
            return True
        if len(right) >= 2 and rest.startswith(word + right) and not before[-1:].isalnum():
            return True
    return False


@pytest.mark.parametrize("tag", ["<|user|>", "user:", "<|a|>", "### b", "[a]", "ab", "<a", "b>>", "<<<<a", "####b####"])
@given(st.text(alphabet="ab <|user>#[]:\n\t\x1c\u3042\u00a0", max_size=40), st.integers(0, 40))
def test_leaks_are_those_of_a_plain_search(tag: str, text: str, place: int) -> None:
    for made in (text, text[:place] + tag + text[place:], text + tag[: 1 + place % len(tag)]):
        assert answer_form.format_leak(made, [tag]) == naive_leak(made, tag)


def naive_share(tokens: list[str], n: int) -> float:
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    seen: list[tuple[str, ...]] = []
    repeats = 0
    for gram in grams:
        repeats += gram in seen
        seen.append(gram)
    return repeats / len(grams) if grams else 0.0


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30), st.integers(1, 5))
def test_repetition_equals_a_naive_loop(words: list[str], n: int) -> None:
    assert answer_form.repeated_ngram_share(" ".join(words), n) == pytest.approx(naive_share(words, n))


@given(st.text(alphabet="ab\t\n\x0b\x0c\x1c\x1f\x85\u00a0 ", max_size=40))
def test_repetition_parts_words_at_every_kind_of_white_space(text: str) -> None:
    words = re.findall(r"\S+", text)
    tokens = list(words[0]) if len(words) == 1 else words
    assert answer_form.repeated_ngram_share(text) == pytest.approx(naive_share(tokens, 4))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("only three words", 0.0),
        ("one two three four", 0.0),
        ("a a a a a a", 2 / 3),
        ("Paris", 0.0),
        ("!!!!!!!!", 0.8),
        ("好的好的好的好的", 0.6),
        ("今天天气很好。", 0.0),
    ],
)
def test_repetition(text: str, share: float) -> None:
    assert answer_form.repeated_ngram_share(text) == pytest.approx(share)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_repetition_is_a_share(text: str) -> None:
    assert 0 <= answer_form.repeated_ngram_share(text) < 1
