"""The control answers."""

from __future__ import annotations

from typing import get_args

from implicit_if.harness.controls import CONTROLS, WORTHLESS, Control, control_answers

INSTRUCTIONS = {"b": "Write a poem about Danube steamboats.", "a": "Sing!", "c": ""}
SYSTEMS = ({"a": "one", "b": "two", "c": "three"}, {"a": "four", "b": "!!", "c": "x"})


def answers(control: Control) -> dict[str, str]:
    return control_answers(control, INSTRUCTIONS, SYSTEMS)


def test_every_control_answers_every_instruction_in_their_order() -> None:
    assert tuple(CONTROLS) == get_args(Control)
    for control in CONTROLS:
        assert list(answers(control)) == ["b", "a", "c"]
        assert answers(control) == answers(control)


def test_what_each_control_says() -> None:
    assert set(answers("empty").values()) == {""}
    assert len(set(answers("constant").values())) == 1
    assert answers("echo") == INSTRUCTIONS
    lead = answers("echo_lead_in")
    assert all(lead[key].endswith(text) and len(lead[key]) > len(text) + 20 for key, text in INSTRUCTIONS.items())
    assert answers("other_instruction") == {"a": "two", "b": "three", "c": "one"}
    assert answers("longest_of_two") == {"a": "four", "b": "two", "c": "three"}
    assert "steamboats, danube and write go hand in hand" in answers("template")["b"]
    assert "sing, this and this" in answers("template")["a"]
    soup = answers("token_soup")
    assert len(set(soup.values())) == len(soup)
    assert all(len(text.split()) == 80 for text in soup.values())


def test_what_the_controls_of_version_2_say() -> None:
    assert answers("quoted")["a"] == 'You asked: "Sing!" That is the question.'
    assert answers("echo_and_answers")["a"] == "Sing!\n\ntwo\n\nthree\n\none\n\ntwo\n\nthree"
    assert answers("first_looped")["b"] == " ".join(["two"] * 12)
    assert len(set(answers("refusal").values())) == 1
    assert answers("word_by_word") == {"b": "Schreibe ein poem über Danube steamboats.", "a": "Sing!", "c": ""}
    assert len(set(answers("random_words").values())) == 3
    assert set(answers("plausible_other").values()).isdisjoint(INSTRUCTIONS.values())


def test_the_first_sentence_is_looped_without_the_rest() -> None:
    looped = control_answers("first_looped", {"a": "x"}, ({"a": "It rains. It pours."},))
    assert looped["a"] == " ".join(["It rains."] * 12)


def test_all_but_the_longer_of_two_deserve_no_win() -> None:
    assert set(CONTROLS) - set(WORTHLESS) == {"longest_of_two"}
