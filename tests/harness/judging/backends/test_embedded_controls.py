"""No control beats a tuned system, and hardly one is taken for an attempt, on builtin instructions."""

from __future__ import annotations

from functools import cache

import pytest

from implicit_if.harness.controls import CONTROLS, WORTHLESS, Control, control_answers
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.backends.embedded_attempts import attempt_probabilities
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.outputs import load_outputs
from implicit_if.harness.references import FOLDER

TUNED = ("instruction", "response", "gsm", "mbpp")
INSTRUCTIONS = load_instructions("builtin")


@cache
def answers(system: str) -> dict[str, str]:
    path = FOLDER / "gemma-3-270m" / system / f"{INSTRUCTIONS.signature}.json"
    return {o.instruction_id: o.output for o in load_outputs(path)}


@cache
def control(name: Control) -> dict[str, str]:
    return control_answers(name, INSTRUCTIONS.texts(), (answers("instruction"), answers("mbpp")))


def win_rate(own: dict[str, str]) -> float:
    texts, other = INSTRUCTIONS.texts(), answers("instruction")
    judge = get_judge("embedded")
    verdicts = judge.judge([Comparison(key, texts[key], own[key], other[key]) for key in texts])
    return sum(v.prefers_first or 0.0 for v in verdicts) / len(texts)


@pytest.mark.slow
def test_every_control_is_below_every_tuned_system() -> None:
    lowest = min(win_rate(answers(system)) for system in TUNED)
    rates = {name: win_rate(control(name)) for name in WORTHLESS}
    assert {name: rate for name, rate in rates.items() if rate >= lowest} == {}


@pytest.mark.slow
def test_controls_are_hardly_taken_for_attempts() -> None:
    texts = INSTRUCTIONS.texts()
    shares = {}
    for name in WORTHLESS:
        found = attempt_probabilities([(texts[key], text) for key, text in control(name).items()])
        shares[name] = sum(p >= 0.5 for p in found) / len(found)
    looped = shares.pop("first_looped")  # the first sentence of an attempt may be one
    assert shares.pop("template") < 0.15
    assert {name: share for name, share in shares.items() if share > 0.08} == {}
    assert looped < 0.45


@pytest.mark.parametrize("name", [c for c in CONTROLS if c not in ("longest_of_two", "first_looped")])
def test_a_control_loses_against_a_good_answer(name: Control) -> None:
    question = "What separates a fjord from an estuary? I always mix them up."
    answer = (
        "A fjord is a deep and narrow inlet of the sea that a glacier carved into rock. An estuary is the wide mouth "
        "of a river, where its fresh water mixes with the salt water of the tides."
    )
    bad = control_answers(name, {"a": question, "b": ""}, ({"a": "", "b": answers("instruction").popitem()[1]},) * 2)
    (verdict,) = get_judge("embedded").judge([Comparison("k", question, answer, bad["a"])])
    assert (verdict.prefers_first or 0) > 0.6
    good, wrong = attempt_probabilities([(question, answer), (question, bad["a"])])
    assert good > 0.5
    assert name == "template" or wrong < 0.5  # a template's words are the instruction's: at times it is taken for one
