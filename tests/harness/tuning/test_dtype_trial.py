"""The type of frozen weights: measured, said, recorded, and kept by a run that has begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_runs import Interrupted, assert_same, interrupt_at, weights

from implicit_if.harness.tuning import dtype_trial
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import tune

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
MakeRecipe = Callable[..., Recipe]


def measures(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> None:
    monkeypatch.setattr(dtype_trial, "_speeds", lambda: {"float32": float32, "bfloat16": bfloat16})


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(98, 222, "bfloat16"), (160, 86, "float32"), (100, 110, "float32"), (100, 121, "bfloat16"), (0.5, 0.5, "float32")],
)
def test_bfloat16_must_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float, expected: str
) -> None:
    measures(monkeypatch, float32, bfloat16)
    chosen, note = dtype_trial.faster_type()
    assert chosen == expected
    assert note.startswith(f"frozen weights are {expected}: ")


def test_the_trial_measures_this_machine() -> None:
    chosen, note = dtype_trial.faster_type()
    assert chosen in ("float32", "bfloat16")
    assert "float32 at 0 " not in note


@pytest.mark.parametrize(("speeds", "expected"), [((98, 222), "bfloat16"), ((160, 86), "float32")])
def test_the_choice_is_recorded_and_kept(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speeds: Any, expected: str
) -> None:
    adapters = {"lora": {"r": 4}, "save_dtype": "float32", "epochs": 2}
    whole = tune(make_recipe(weights=expected, **adapters), tmp_path / "whole")
    measures(monkeypatch, *speeds)
    recipe = make_recipe(weights="auto", **adapters)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "out")
    measures(monkeypatch, *reversed(speeds))  # a busy machine might measure otherwise
    out = tune(recipe, tmp_path / "out")
    assert load_recipe(out / "recipe.yaml").train.weights == expected
    assert (
        f"frozen weights are {expected}, as when this run began"
        in json.loads((out / "tuning.json").read_text())["notes"]
    )
    assert_same(weights(whole), weights(out))
    assert tune(recipe, out) == out  # finished, and not of another recipe
