"""The rows a model was tuned on: of a recipe of the user's own, as `implicit-if tune` takes it, and of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.analysis.training_rows import load_training_rows
from implicit_if.harness.errors import UserError

RECIPE = """
summary: my support tickets
data:
  path: tickets.csv
  user: "{product}: {question}"
  assistant: "{reply}"
  licence: internal
train: {epochs: 5}
"""
ROWS = [("bike: Where is it?", "In the shed."), ("lamp: Old?", "No.")]


@pytest.mark.parametrize(("spec", "name"), [("tickets.yaml", "tickets"), ("mine=tickets.yaml", "mine")])
def test_a_recipe_of_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tickets.yaml").write_text(RECIPE)
    Path("tickets.csv").write_text("product,question,reply\nbike,Where is it?,In the shed.\nlamp,Old?,No.\n")
    assert load_training_rows(spec) == (name, ROWS)


def test_a_file_of_pairs_and_one_that_is_not_there(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f'{{"instruction": "{i}", "response": "{r}"}}\n' for i, r in ROWS))
    assert load_training_rows(f"mine={pairs}") == ("mine", ROWS)
    with pytest.raises(UserError, match="nowhere"):
        load_training_rows(str(tmp_path / "nowhere.yaml"))
