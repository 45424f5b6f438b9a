"""What docs/rules.md tells people to write works as it is printed there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from implicit_if.model_wrappers.rules import rules
from implicit_if.model_wrappers.rules.presets import customise, load_preset, preset_names
from implicit_if.model_wrappers.rules.product import BoundRules

DOC = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
YAML, PYTHON = (re.findall(rf"^```{kind}\n(.*?)^```", DOC, re.M | re.S) for kind in ("yaml", "python"))


def saved(text: str, path: Path) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_preset_loads_and_can_be_changed(tmp_path: Path, tokenizer: Any) -> None:
    preset = load_preset(saved(YAML[0], tmp_path / "brief.yaml"))
    assert preset.name == "brief"
    assert BoundRules.bind(preset, tokenizer, [1]).missing == ()
    assert customise(preset, "lists", {"eos.maximum": 5}).name == "brief-lists,eos.maximum=5"


def test_the_fourth_rule_works_while_decoding_and_scoring(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("fourth", saved(PYTHON[0], tmp_path / "fourth.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(rules.RULES, "minimum_length", module.minimum_length)
    preset = load_preset(saved(YAML[1], tmp_path / "own.yaml"))
    bound = BoundRules.bind(customise(preset, overrides={"minimum.tokens": 30}), tokenizer, [1])
    for index in (5, torch.tensor([29, 30])):
        scores = torch.zeros(2, len(tokenizer))
        bound.apply_(scores, rules.Step(index, bound.eos_ids, torch.zeros(2, 0, dtype=torch.long)))
        expected = [15 * i / 250 - 30 * (i < 30) for i in (index.tolist() if torch.is_tensor(index) else [5, 5])]
        assert scores[:, 1].tolist() == pytest.approx(expected)
        assert scores.count_nonzero() == 2


def test_the_options_are_the_functions_own() -> None:
    """A row of the page for each function that a shipped preset uses, whatever the preset calls its rules."""
    rows = {row.split("`")[3]: row for row in DOC.splitlines() if re.match(r"\| `\w+` \| `\w+` \|", row)}
    for name in preset_names():
        for rule in load_preset(name).rules:
            assert rule.function in rows, f"docs/rules.md: add a row for {rule.function}, which {name} uses"
            assert all(f"`{option}`" in rows[rule.function] for option in rule.options)
