from __future__ import annotations

from typing import Any

import pytest

from implicit_if.harness.answer_form import form_of
from implicit_if.harness.outputs import Output


def output(text: str, **noted: Any) -> Output:
    return Output(instruction_id="0" * 16, output=text, generator="g", **noted)


def test_means_over_answers() -> None:
    answers = [
        output("one two three four", finish_reason="eos"),
        output("ok\n<|user|>\nmore", finish_reason="length"),
        output("a b c d a b c d", finish_reason="stop"),
        output("", finish_reason="eos"),
    ]
    form = form_of(answers, ["<|user|>", "<|assistant|>"])
    assert form["finish_rate"] == 50
    assert form["format_leak_rate"] == 25
    assert form["repetition"] == pytest.approx(100 * (1 / 5) / 4)  # one of the third answer's five 4-grams
    assert form["avg_length"] == sum(len(a.output) for a in answers) / 4


def test_only_answers_that_say_how_they_ended_count_as_finished_or_not() -> None:
    assert form_of([output("a"), output("b", finish_reason="eos")], [])["finish_rate"] == 100
    assert form_of([output("a")], [])["finish_rate"] is None
