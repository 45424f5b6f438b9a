"""Thoughts, told from answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.thoughts import after_thoughts, without_thoughts


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>hm</think>\n\nYes.", "Yes."),
        (" <think>a</think> <think>b</think>Yes.", "Yes."),
        ("<Thinking>hm</Thinking>Yes.", "Yes."),
        ("[THINK]hm[/THINK]Yes.", "Yes."),
        ("<seed:think>hm</seed:think>Yes.", "Yes."),
        ("◁think▷hm◁/think▷Yes.", "Yes."),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Yes.", "Yes."),
        ("<|start|>assistant<|channel|>commentary to=f<|message|>{}<|channel|>final json<|message|>Yes.", "Yes."),
        ("<|channel|>final<|message|>Yes.", "Yes."),
        ("<|channel|>analysis<|message|>hm, and so on", ""),
        ("<|channel>thought\nhm<channel|>Yes.", "Yes."),
        ("<unused94>thought\nhm<unused95>Yes.", "Yes."),
        ("<|inner_prefix|>hm<|inner_suffix|>Yes.", "Yes."),
        ("hm, so\n</think>\nYes.", "Yes."),
        ("hm, so</think>", ""),
        ("<think>hm, and so on", ""),
        ("<think></think>", ""),
    ],
)
def test_thoughts_before_an_answer_go(answer: str, rest: str) -> None:
    assert without_thoughts(answer) == rest


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " Yes. ",
        "Models write <think>...</think> before they answer.",
        "The tag </think> ends it.",
        "A channel is written <|channel|>final<|message|> here.",
        "I think</b> so",
        "<thinker>no</thinker>",
        "```\n<think>\n```",
    ],
)
def test_an_answer_about_thoughts_is_left_alone(answer: str) -> None:
    assert without_thoughts(answer) == answer


@given(st.text(alphabet="<>/think a\n"))
def test_cutting_ends(text: str) -> None:
    assert not without_thoughts(without_thoughts(text)).startswith("<think>")


def test_what_a_judge_says_is_what_follows_its_last_thought() -> None:
    final = "<|channel|>analysis<|message|>M?<|channel|>final<|message|>m"
    assert after_thoughts(final) == ("m", False)
    assert after_thoughts("<|channel|>analysis<|message|>m")[1]
    assert after_thoughts("<think>M?</think> m") == (" m", False)
    assert after_thoughts("<think>Verdict: m") == ("<think>Verdict: m", True)
    assert after_thoughts("<think>a</think><reasoning>Verdict: m") == ("<reasoning>Verdict: m", True)
