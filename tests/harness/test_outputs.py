"""Reading files of outputs that users have."""

from __future__ import annotations

import csv
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if import __version__
from implicit_if.harness import outputs as outputs_module
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output, OutputsMeta, load_meta, load_outputs, save_outputs


def sample(n: int, resps: list[Any], filtered: list[Any] | None) -> dict[str, Any]:
    """A line of lm-eval's samples, as far as it is read."""
    row: dict[str, Any] = {"doc_id": n, "doc": {"instruction": f"Question {n}?", "dataset": "mine"}, "resps": resps}
    return row if filtered is None else {**row, "filtered_resps": filtered}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("resps", "filtered"),
    [
        ([["a"]], ["a"]),
        ([["a"]], [["a"]]),
        ([["a"]], None),
        ([["a"], ["b"]], ["a", "b"]),  # requests to the system and to the reference, as with reference=base
        ([["b", "a"]], ["a"]),  # repeats, of which lm-eval's filter chose one: the one it scored
    ],
)
def test_one_response_is_the_answer(tmp_path: Path, resps: list[Any], filtered: list[Any] | None) -> None:
    path = written(tmp_path / "samples_x.jsonl", [sample(n, resps, filtered) for n in range(3)])
    assert [(o.instruction, o.output) for o in load_outputs(path)] == [(f"Question {n}?", "a") for n in range(3)]


@pytest.mark.parametrize(
    ("resps", "filtered"),
    [([["a", "b"]], [["a", "b"]]), ([["a", "b"]], None), ([["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]])],
)
def test_several_responses_are_not_dropped(tmp_path: Path, resps: list[Any], filtered: list[Any] | None) -> None:
    rows = [sample(0, [["a"]], ["a"]), sample(1, resps, filtered)]
    with pytest.raises(UserError, match="line 2: 2 responses to one instruction, expected one"):
        load_outputs(written(tmp_path / "samples_x.jsonl", rows))


@pytest.mark.parametrize("filtered", [[[-1.0, False]], [[]], [None]])
def test_what_is_no_text_is_no_answer(tmp_path: Path, filtered: list[Any]) -> None:
    path = written(tmp_path / "samples_x.jsonl", [sample(0, [filtered], filtered)])
    with pytest.raises(UserError, match="line 1: output: Input should be a valid string"):
        load_outputs(path)


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "samples_x.jsonl", [sample(n, [["a long answer"]], None) for n in range(12)])
    whole = path.read_text().replace("\n", "\n\n", 1)  # a blank line counts too
    path.write_text(whole[:-10])
    column = whole.splitlines()[-1].index('"a long') + 1
    with pytest.raises(UserError, match=rf"line 13: .* column {column}\b") as caught:
        load_outputs(path)
    assert "line 1 " not in str(caught.value)


def test_a_sidecar_has_one_shape_and_says_what_made_the_answers(tmp_path: Path) -> None:
    answers = [Output(instruction="a", output="b", generator="g")]
    named = OutputsMeta(generator="g", template={"name": "tulu", "sha256": "0" * 64})
    old = OutputsMeta(generator="g", template={"template": "tulu", "template_sha256": "0" * 64})  # version 0.1's task
    assert named == old
    save_outputs(tmp_path / "a.json", answers, old)
    found = load_meta(tmp_path / "a.json")
    assert found is not None
    assert found.template == {"name": "tulu", "sha256": "0" * 64}
    assert found.versions["transformers"] == importlib.metadata.version("transformers")
    assert {"implicit-if", "lm_eval", "torch"} < found.versions.keys()


def test_recorded_versions_stay_and_a_file_without_them_gets_none(tmp_path: Path) -> None:
    save_outputs(tmp_path / "a.json", [], OutputsMeta(generator="g", versions={"torch": "1.0"}))
    assert (load_meta(tmp_path / "a.json") or OutputsMeta(generator="")).versions == {"torch": "1.0"}
    (tmp_path / "b.meta.json").write_text('{"generator": "g", "mine": 1}')
    found = load_meta(tmp_path / "b.json")
    assert found is not None
    assert (found.versions, found.template, found.model_extra) == ({}, {}, {"mine": 1})


def test_versions_of_what_is_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "_PACKAGES", ("implicit-if", "no-such-package"))
    assert outputs_module.package_versions() == {"implicit-if": __version__}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "output": None, "generator": "g"}, "row 2: output: Input should be a valid string"),
        ({"instruction": "a", "output": "b", "generator": None}, "row 2: generator: Input should be a valid string"),
        ({"instruction": "a", "output": 3, "generator": "g"}, "row 2: output: Input should be a valid string"),
        ({"instruction": None, "output": "b", "generator": "g"}, "row 2: instruction_id: Field required"),
        ({"doc": {"instruction": "a"}, "resps": [[None]]}, "row 2: output: Input should be a valid string"),
        ({"doc": {"instruction": "a"}, "resps": [[]]}, "row 2: output: Input should be a valid string"),
    ],
)
def test_a_missing_value_never_becomes_text(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "x", "output": "y", "generator": "g"}, row]))
    with pytest.raises(UserError, match=message):
        load_outputs(tmp_path / "a.json")


def test_columns_of_other_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nName a colour.,Red.\n")
    with pytest.raises(UserError, match=r"line 2: .*Found the fields: question, answer\. Expected objects like"):
        load_outputs(tmp_path / "a.csv")


def test_a_folder_is_no_file_and_its_outputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r": a folder\. Expected a file of outputs\.$"):
        load_outputs(tmp_path)
    (tmp_path / "outputs.json").write_text("[]")
    with pytest.raises(UserError, match=r": a folder\. Expected a file of outputs, e\.g\. .*outputs\.json\.$"):
        load_outputs(tmp_path)


OWN = [("Name a colour.", "Red, or blue."), ("Say hi.", "")]


@pytest.mark.parametrize("names", [("instruction", "output"), ("prompt", "response")])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_own_files_of_two_names_are_read_in_every_form(tmp_path: Path, kind: str, names: tuple[str, str]) -> None:
    rows = [dict(zip(names, row, strict=True)) for row in OWN]
    path = tmp_path / f"my-model.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*names, "n_tokens"])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        written(path, rows)
    else:
        path.write_text(json.dumps(rows))
    found = load_outputs(path)
    assert [(o.instruction, o.output, o.generator, o.n_tokens) for o in found] == [
        (*row, "my-model", None) for row in OWN
    ]


def test_a_file_that_does_not_fit_is_told_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"question": "a", "answer": "b"}]')
    with pytest.raises(UserError) as error:
        load_outputs(path)
    assert '{"instruction": "Name a colour.", "output": "Red."}' in str(error.value)
    assert "generator" not in str(error.value).partition("Expected")[0]  # it has a default
    (tmp_path / "b.csv").write_text("prompt,response\na,b,c\n")
    with pytest.raises(UserError, match=r"b\.csv, line 2: found 3 cells, expected 2"):
        load_outputs(tmp_path / "b.csv")
    for name in ("missing.csv", "missing.json", "missing.jsonl"):
        with pytest.raises(UserError, match=f"{name}: no such file"):
            load_outputs(tmp_path / name)


def test_a_prompt_beside_an_instruction_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "a", "prompt": "<|user|>a", "output": "b", "generator": "g"}]))
    assert load_outputs(path)[0].model_extra == {"prompt": "<|user|>a"}
