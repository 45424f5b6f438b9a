from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import make_pairs
from implicit_if.harness.outputs import Output, instruction_id


def outputs(texts: list[str], generator: str = "sys", *, keep_text: bool = True) -> list[Output]:
    return [
        Output(
            instruction=text if keep_text else None,
            instruction_id=instruction_id(text),
            output=f"{generator}: {text}",
            generator=generator,
        )
        for text in texts
    ]


@given(st.permutations(["a", "b", "c", "d", "e"]), st.permutations(["a", "b", "c", "d", "e"]))
def test_pairs_are_aligned_by_instruction_in_the_systems_order(system: list[str], reference: list[str]) -> None:
    pairs = make_pairs(outputs(system), outputs(reference, "ref"))
    assert [(p.instruction, p.system.output, p.reference.output) for p in pairs] == [
        (text, f"sys: {text}", f"ref: {text}") for text in system
    ]
    assert [p.instruction_id for p in pairs] == [instruction_id(text) for text in system]


def test_sets_that_do_not_match_name_how_many_and_which() -> None:
    with pytest.raises(UserError) as caught:
        make_pairs(outputs(["a", "b", "x1", "x2", "x3", "x4"]), outputs(["b", "a", "y"], "ref"))
    message = str(caught.value)
    assert "2 shared, 4 only in the system outputs" in message
    assert "1 only in the reference outputs" in message
    assert ", ".join(f"{instruction_id(f'x{i}')} 'x{i}'" for i in (1, 2, 3)) + ", ..." in message
    assert instruction_id("x4") not in message
    assert f"({instruction_id('y')} 'y')" in message


def test_the_reference_may_have_more_only_if_allowed() -> None:
    system, reference = outputs(["b", "a"]), outputs(["a", "b", "c"], "ref")
    with pytest.raises(UserError, match="--allow-missing"):
        make_pairs(system, reference)
    assert [p.instruction for p in make_pairs(system, reference, allow_missing=True)] == ["b", "a"]
    with pytest.raises(UserError, match="Generate the reference's missing answers"):
        make_pairs(reference, system, allow_missing=True)


@pytest.mark.parametrize("allow_missing", [False, True])
def test_sets_that_share_nothing(allow_missing: bool) -> None:
    with pytest.raises(UserError, match="the 2 system and 1 reference outputs share no instruction"):
        make_pairs(outputs(["a", "b"]), outputs(["c"], "ref"), allow_missing=allow_missing)


@pytest.mark.parametrize(("system", "reference"), [([], ["a"]), (["a"], []), ([], [])])
def test_no_outputs_at_all(system: list[str], reference: list[str]) -> None:
    with pytest.raises(UserError, match="expected at least one each"):
        make_pairs(outputs(system), outputs(reference), allow_missing=True)


@pytest.mark.parametrize("side", ["system", "reference"])
def test_an_instruction_answered_twice(side: str) -> None:
    twice, once = outputs(["a", "a "]), outputs(["a"])  # the id ignores white space around the text
    with pytest.raises(UserError, match=f"{side} outputs: instruction {instruction_id('a')} is answered twice"):
        make_pairs(*((twice, once) if side == "system" else (once, twice)))


def test_the_text_comes_from_either_side() -> None:
    with_text, without = outputs(["a"]), outputs(["a"], "ref", keep_text=False)
    assert make_pairs(with_text, without)[0].instruction == "a"
    assert make_pairs(without, with_text)[0].instruction == "a"
    with pytest.raises(UserError, match="--instructions"):
        make_pairs(without, without)


def test_a_system_judged_against_itself_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="every comparison is a tie"):
        assert len(make_pairs(outputs(["a"]), outputs(["a"]))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_pairs(outputs(["a"]), outputs(["a"], "ref"))


@pytest.mark.parametrize("side", [0, 1])
def test_answers_with_thoughts_are_counted(side: int) -> None:
    texts = ["<think>a</think>b", "<think>a", "b", "the tag </think> is closed"]
    sides = [[Output(instruction=f"i{i}", output=f"{g}{i}", generator=g) for i in range(4)] for g in "sr"]
    sides[side] = [o.model_copy(update={"output": text}) for o, text in zip(sides[side], texts, strict=True)]
    name = ("system", "reference")[side]
    with pytest.warns(UserWarning, match=f"^2 of the {name}'s 4 answers .*; 1 of them are nothing else"):
        make_pairs(*sides)
