"""`implicit-if response-ranking` as a user runs it, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from implicit_if.harness import cli
from implicit_if.harness.analysis.response_pairs import load_pairs
from implicit_if.harness.analysis.response_ranking import rank_responses
from implicit_if.harness.analysis.systems import check_made_from, parse_system
from implicit_if.harness.errors import UserError


def test_the_command_prints_and_writes_what_the_function_gives(
    tiny_model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["response-ranking", "base", "rules", "--base", tiny_model_folder, "--device", "cpu", "--limit", "4"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    rows = json.loads((out / "ranking.json").read_text())
    assert [(row["system"], row["tags"]) for row in rows] == [
        ("base", True),
        ("base", False),
        ("rules", True),
        ("rules", False),
    ]
    lm = parse_system("rules", tiny_model_folder, device="cpu", dtype="float32").load()
    expected = rank_responses(lm, load_pairs().first(4), "tulu", system="rules")
    assert rows[2]["scores"] == expected.as_dict()["scores"]
    assert str(expected.scores["pmi"]) in shown
    assert "Llama-2-7B base 80.4, instruction-tuned 77.4" in shown
    ElementTree.fromstring((out / "ranking.svg").read_text())
    assert cli.main([*arguments, "--tags", "with", "--out", str(out)]) == 0
    assert json.loads((out / "ranking.json").read_text()) == [rows[0], rows[2]]


def test_an_adapter_is_put_on_the_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    spec = parse_system(str(tmp_path), "some/base", device="cpu")
    assert spec.arguments == {"pretrained": "some/base", "peft": str(tmp_path), "rules": None, "device": "cpu"}


def test_the_embedded_base_has_a_name() -> None:
    assert parse_system("base", "embedded") == parse_system("base")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without config.json"):
        parse_system(str(tmp_path))


def test_a_model_made_from_another_base_is_named_before_anything_loads(tmp_path: Path) -> None:
    shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    for name, told in (("model", shape), ("base", shape), ("wide", shape | {"hidden_size": 128})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(told))
    check_made_from(str(tmp_path / "model"), str(tmp_path / "base"))
    check_made_from("rules", None)
    check_made_from("some/model", "embedded")
    with pytest.raises(UserError, match="some/model: no base given.*--base MODEL"):
        check_made_from("some/model", None)
    with pytest.raises(UserError, match="hidden_size is 64, and 128 in base .*--base MODEL"):
        check_made_from(str(tmp_path / "model"), str(tmp_path / "wide"))
    with pytest.raises(UserError, match="model_type is llama, and gemma3_text in base 'embedded'"):
        check_made_from(str(tmp_path / "model"), None)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base-7b"}')
    check_made_from(str(tmp_path / "adapter"), "some/base-7b")
    with pytest.raises(UserError, match="an adapter of some/base-7b, not of the embedded model"):
        check_made_from(str(tmp_path / "adapter"), None)
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "x/gemma-3-270m-a5fd3b62-1"}'
    )
    check_made_from(str(tmp_path / "adapter"), None)
