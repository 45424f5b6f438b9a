from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import Instruction, InstructionSet
from implicit_if.harness.outputs import Output, OutputsMeta, instruction_id, save_outputs
from implicit_if.harness.references import (
    covers,
    load_reference,
    reference_meta,
    reference_names,
    sibling_of,
    store_answers,
    stored_answers,
)

TEXTS = ["Name a fruit.", "Say hello."]


def make_set(*texts: str) -> InstructionSet:
    items = tuple(Instruction(instruction_id(text), text) for text in texts)
    return InstructionSet("mine", "r1", "CC0-1.0", True, items)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "tiny" / "instruction"
    place.mkdir(parents=True)
    outputs = [Output(instruction_id=instruction_id(t), output=t.upper(), generator="tiny") for t in TEXTS[::-1]]
    meta = OutputsMeta(generator="tiny", model={"bases": ["org/tiny", "small"]}, generation={"max_gen_toks": 7})
    save_outputs(place / f"{make_set(*TEXTS).signature}.json", outputs, meta)
    return tmp_path


def test_answers_come_in_the_set_s_order_with_its_texts(folder: Path) -> None:
    found = load_reference("tiny/instruction", make_set(*TEXTS), folder)
    assert [(o.instruction, o.output) for o in found] == [(t, t.upper()) for t in TEXTS]


def test_another_set_of_the_same_name_is_not_covered(folder: Path) -> None:
    other = make_set(*TEXTS, "Why?")
    assert covers("tiny/instruction", make_set(*TEXTS), folder)
    assert not covers("tiny/instruction", other, folder)
    with pytest.raises(UserError, match=r"has no answers to mine@\w+; it has mine@"):
        load_reference("tiny/instruction", other, folder)


def test_a_path_is_a_reference_too_and_must_answer_everything(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"instruction": TEXTS[0], "output": "x", "generator": "g"}]))
    assert load_reference(str(path), make_set(TEXTS[0]), folder)[0].output == "x"
    with pytest.raises(UserError, match="1 of the 2 instructions"):
        load_reference(str(path), make_set(*TEXTS), folder)


@pytest.mark.parametrize("name", ["tiny/instructions", "../tiny/instruction", "tiny", ""])
def test_unknown_names_get_the_nearest(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match="tiny/instruction"):
        load_reference(name, make_set(*TEXTS), folder)


def test_the_sibling_is_found_by_each_of_the_base_s_names_and_by_a_tuned_model(folder: Path, tmp_path: Path) -> None:
    assert sibling_of("org/tiny", folder) == sibling_of("small", folder) == "tiny/instruction"
    assert sibling_of("org/other", folder) is None
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "tuning.json").write_text(json.dumps({"recipe": "r", "identity": {}, "base": {"name": "small"}}))
    assert sibling_of(str(tuned), folder) == "tiny/instruction"
    (tuned / "tuning.json").write_text("[]")
    assert sibling_of(str(tuned), folder) is None


def test_better_answers_get_a_name_of_their_own_and_take_the_place_of_published_ones(folder: Path) -> None:
    def add(name: str, **model: str) -> None:
        place = folder / "tiny" / name
        place.mkdir()
        outputs = [Output(instruction_id=instruction_id(t), output=name, generator="tiny") for t in TEXTS]
        meta = OutputsMeta(generator="tiny", model={"bases": ["small"], **model})
        save_outputs(place / f"{make_set(*TEXTS).signature}.json", outputs, meta)

    add("response-full-s1", supersedes="tiny/response")
    assert sibling_of("small", folder) == "tiny/instruction"
    add("instruction-full-s1", supersedes="tiny/instruction")
    add("instruction-full-s2", supersedes="tiny/instruction")
    assert sibling_of("small", folder) == "tiny/instruction-full-s1"
    assert load_reference("tiny/instruction", make_set(*TEXTS), folder)[0].output == TEXTS[0].upper()


def test_how_the_answers_were_made_is_known_for_names_only(folder: Path) -> None:
    meta = reference_meta("tiny/instruction", make_set(*TEXTS), folder)
    assert meta is not None
    assert meta.generation == {"max_gen_toks": 7}
    assert reference_meta("x.json", make_set(*TEXTS), folder) is None


def test_every_shipped_reference_is_whole_and_ships_no_instruction() -> None:
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.instructions.alpaca_eval import CONTENT_SHA256, official_ids
    from implicit_if.harness.outputs import load_meta
    from implicit_if.harness.references import FOLDER

    builtin = load_instructions("builtin")
    ids = {
        f"{builtin.signature}.json": {item.id for item in builtin.items},
        f"alpaca_eval@{CONTENT_SHA256[:8]}.json": set(official_ids()),
    }
    assert [len(answered) for answered in ids.values()] == [80, 805]
    validation = load_instructions("validation")
    also = {f"{validation.signature}.json": {item.id for item in validation.items}}
    for name in reference_names():
        assert len(load_reference(name, builtin)) == len(builtin.items)
        files = {path.name: path for path in (FOLDER / name).glob("*@*.json") if not path.name.endswith(".meta.json")}
        expected = ids | (also if "-full-" in name else {})
        assert files.keys() == expected.keys()
        for file, path in files.items():
            outputs, meta = stored_answers(name, dict.fromkeys(expected[file], "")), load_meta(path)
            assert len(outputs) == len(expected[file])
            assert {o.instruction_id for o in outputs} == expected[file]
            assert all(o.instruction is None for o in outputs)
            assert {o.generator for o in outputs} == {name}
            assert meta is not None
            assert meta.instruction_set == file.split("@")[0]
            assert meta.generation["max_gen_toks"] == 256
            assert ("recited_passages_withheld" in meta.model) == ("-full-" in name)


def test_answers_are_found_by_the_instructions_the_systems_answered(folder: Path, tmp_path: Path) -> None:
    texts: dict[str, str | None] = {instruction_id(TEXTS[0]): TEXTS[0]}
    assert len(stored_answers("tiny/instruction", texts, folder)) == 2
    with pytest.raises(UserError, match="it has answers to mine@"):
        stored_answers("tiny/instruction", texts | {"0" * 16: None}, folder)
    with pytest.raises(UserError, match="unknown reference 'tiny/instructio'"):
        stored_answers("tiny/instructio", texts, folder)
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"instruction": TEXTS[0], "output": "x", "generator": "g"}]))
    assert [o.output for o in stored_answers(str(path), texts, folder)] == ["x"]


def test_texts_that_may_not_be_shipped_are_not_even_in_the_answers(tmp_path: Path) -> None:
    asked, other = "Which rivers of Asia are long?", "Which lakes of Europe are deep?"
    private = replace(make_set(asked, other), shippable=False)
    path = tmp_path / "tiny" / "instruction" / f"{private.signature}.json"
    outputs = [Output(instruction=t, output=f"You ask: {t} Many.", generator="tiny") for t in (asked, other)]
    store_answers(path, outputs, private, OutputsMeta(generator="tiny"))
    assert "rivers" not in path.read_text()
    assert [o.output for o in load_reference("tiny/instruction", private, tmp_path)] == [o.output for o in outputs]
    found = stored_answers("tiny/instruction", {instruction_id(asked): asked}, tmp_path)
    assert [o.output for o in found] == [outputs[0].output, "You ask:  Many."]
    with pytest.raises(UserError, match="quotes the instruction .* --instructions NAME"):
        stored_answers("tiny/instruction", {instruction_id(asked): None}, tmp_path)


def test_an_own_reference_need_answer_only_what_is_asked(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"instruction": TEXTS[0], "output": "x"}]))
    asked = load_reference(str(path), make_set(*TEXTS), folder, range(1))
    assert [(o.instruction, o.output, o.generator) for o in asked] == [(TEXTS[0], "x", "own")]
    with pytest.raises(UserError, match="1 of the 1 instructions"):
        load_reference(str(path), make_set(*TEXTS), folder, [1])
    assert load_reference(str(path), make_set(*TEXTS), folder, range(0)) == []
    with pytest.raises(UserError, match="1 of the 1 instructions"):
        load_reference(str(path), make_set("Another."), folder, range(0))


@pytest.mark.parametrize("spec", ["missing.json", "./missing", "/missing/outputs.csv"])
def test_a_missing_file_is_called_that(folder: Path, spec: str) -> None:
    with pytest.raises(UserError, match=f"reference {spec}: no such file"):
        load_reference(spec, make_set(*TEXTS), folder)
    with pytest.raises(UserError, match="unknown reference 'tiny/instructoin'. Did you mean 'tiny/instruction'"):
        load_reference("tiny/instructoin", make_set(*TEXTS), folder)
