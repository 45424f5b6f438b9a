"""What tests of whole runs share: what a tuned model holds, gradients, and a way to end a run in its middle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from implicit_if.harness.tuning.callbacks import Progress
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.trainer import RecipeTrainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def losses(folder: Path) -> list[float]:
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def gradient_by_hand(recipe: Recipe, per_example: bool) -> dict[str, torch.Tensor]:
    """The gradient of the first step, from the rows and the model alone, in float64."""
    model = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=torch.float64)
    encoded = prepare(recipe, recipe.base).encoded
    sums, counts = [], []
    for row in encoded:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        targets = torch.tensor(row.labels[1:])
        sums.append(F.cross_entropy(logits, targets, reduction="sum", ignore_index=-100))
        counts.append(int((targets != -100).sum()))
    if per_example:
        loss = sum(s / c for s, c in zip(sums, counts, strict=True)) / len(encoded)
    else:
        loss = sum(sums) / sum(counts)
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def gradient_of_last_step(trainer: RecipeTrainer) -> dict[str, torch.Tensor]:
    """Trains, and returns the gradient of the last step as it was before the optimiser used it."""
    caught: dict[str, torch.Tensor] = {}

    class Catch(Progress):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            caught.update({name: p.grad.clone() for name, p in model.named_parameters()})

    trainer.add_callback(Catch(tokens=1))
    trainer.train()
    return caught


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Progress.on_log

    def on_log(self: Progress, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        original(self, args, state, control, logs, **kwargs)
        if state.global_step == step:
            raise Interrupted

    monkeypatch.setattr(Progress, "on_log", on_log)
