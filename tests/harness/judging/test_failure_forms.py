"""Forms of failure: each found where it is, and none in an ordinary answer."""

from __future__ import annotations

import pytest

from implicit_if.harness.judging.failure_forms import FAILURE_FORMS, failure_forms

ASKED = "Why does bread go stale faster in the fridge than on the counter?"
TAGS = ("<|user|>", "<|assistant|>")


@pytest.mark.parametrize(
    ("answer", "ended", "expected"),
    [
        ("Starch crystallises faster just above freezing, so the crumb firms within a day.", "eos", []),
        ("", "eos", ["empty"]),
        ("<think>hm</think>\n ", "eos", ["empty"]),
        (ASKED, "eos", ["echo"]),
        ("In the cold. " + "The air is cold and dry there. " * 8, "eos", ["loop"]),
        ("Because it is cold.\n<|assistant|>\nIt dries.", "eos", ["leak"]),
        ("Starch crystallises faster just above", "length", ["cut"]),
        (f"{ASKED}\n<|assistant|>\n" * 6, "length", ["echo", "loop", "leak", "cut"]),
    ],
)
def test_forms(answer: str, ended: str, expected: list[str]) -> None:
    assert failure_forms(answer, ended, ASKED, TAGS) == expected


def test_without_the_instruction_nothing_is_an_echo_and_every_name_is_explained() -> None:
    assert failure_forms(ASKED, None, "", TAGS) == []
    assert list(FAILURE_FORMS) == ["empty", "echo", "loop", "leak", "cut"]
