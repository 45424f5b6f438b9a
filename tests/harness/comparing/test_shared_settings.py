"""What shaped the answers: shown by `compare`, and the same for all systems of a table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from compare_samples import GOOD, POOR, annotate, answers, run

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import OutputsMeta, save_outputs

TULU = {"name": "tulu", "sha256": "f96a4d3f" + "0" * 56}
TOLD = {"system_instruction": "Be brief."}
DIGITS = hashlib.sha256(b"Be brief.").hexdigest()[:8]
PLAIN: dict[str, Any] = {
    "template": TULU,
    "generation": {"max_gen_toks": 256, "do_sample": False},
    "model": {"model_dtype": "float32"},
}


def judged(folder: Path, name: str, preferences: list[float], meta: dict[str, Any] | None) -> Path:
    sidecar = None if meta is None else OutputsMeta(generator=name, **meta)
    save_outputs(folder / f"{name}.json", answers(name), sidecar)
    return annotate(folder / f"{name}.annotations.jsonl", preferences, name=name)


def signature(folder: Path, first: dict[str, Any] | None, second: dict[str, Any] | None) -> tuple[str, list[str]]:
    run(judged(folder, "a", GOOD, first), judged(folder, "b", POOR, second), "--out", folder / "out.json")
    written = json.loads((folder / "out.json").read_text())
    return written["signature"], written["notes"]


def test_compare_signs_what_shaped_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signed, notes = signature(tmp_path, PLAIN | TOLD, PLAIN | TOLD)
    assert f"|orders:2|sys:{DIGITS}|tpl:tulu@f96a4d3f|gen:greedy,256|dtype:float32|v:" in signed
    assert signed in capsys.readouterr().out
    assert notes == []


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (TOLD, f"system instruction: none, {DIGITS}"),
        ({"template": {"name": "model"}}, "template: tulu@f96a4d3f, model"),
        ({"generation": {"max_gen_toks": 512, "do_sample": False}}, "generation arguments: greedy,256, greedy,512"),
    ],
)
def test_answers_under_other_settings_are_refused(tmp_path: Path, other: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        signature(tmp_path, PLAIN, PLAIN | other)


def test_types_of_weights_may_differ_and_are_named(tmp_path: Path) -> None:
    signed, notes = signature(tmp_path, PLAIN, PLAIN | {"model": {"model_dtype": "torch.bfloat16"}})
    assert "|gen:greedy,256|v:" in signed
    assert notes == ["note: the weights that answered were of different types (a: float32; b: bfloat16)."]


def test_what_is_not_recorded_is_left_out_and_said(tmp_path: Path) -> None:
    signed, notes = signature(tmp_path, PLAIN, None)
    assert "|orders:2|v:" in signed
    assert notes == ["note: how b answered is not recorded, so the signature leaves it out."]


def test_a_sidecar_beside_verdicts_about_other_answers_tells_nothing(tmp_path: Path) -> None:
    first, second = (judged(tmp_path, name, GOOD, PLAIN | TOLD) for name in ("a", "b"))
    for name in ("a", "b"):
        save_outputs(tmp_path / f"{name}.json", [o.model_copy(update={"output": "New."}) for o in answers(name)])
    run(first, second, "--out", tmp_path / "out.json")
    assert "|orders:2|v:" in json.loads((tmp_path / "out.json").read_text())["signature"]
