from __future__ import annotations

import pytest

from implicit_if.harness.judging.backends.embedded_attempts import attempt_probabilities, fingerprint

FJORD = "What separates a fjord from an estuary? I always mix them up."
ANSWER = "A fjord is a deep inlet of the sea that a glacier carved; an estuary is where a river meets the sea."


def test_an_answer_is_an_attempt_and_an_echo_is_none() -> None:
    answer, echo, empty = attempt_probabilities([(FJORD, ANSWER), (FJORD, FJORD), (FJORD, "...")])
    assert answer > 0.6
    assert echo < 0.1
    assert empty == 0.0


def test_a_probability_depends_on_its_own_pair_alone() -> None:
    pairs = [(FJORD, ANSWER), (FJORD, FJORD)]
    assert attempt_probabilities(pairs) == [*attempt_probabilities(pairs[:1]), *attempt_probabilities(pairs[1:])]
    assert attempt_probabilities([]) == []


def test_the_fingerprint_is_a_hash() -> None:
    assert len(fingerprint()) == 64


@pytest.mark.parametrize("text", ["\ud800" * 50, "漢" * 20_000, "🙂 " * 10_000, "x" * 20_000, "\x00"])
def test_hostile_answers_get_a_probability(text: str) -> None:
    (found,) = attempt_probabilities([(FJORD, text)])
    assert 0 <= found < 0.6
