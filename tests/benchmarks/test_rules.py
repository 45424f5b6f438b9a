"""The benchmark of the rules runs and ends with its JSON line; what it measures is for quiet machines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from implicit_if.model_wrappers.rules.presets import load_preset
from implicit_if.model_wrappers.rules.product import BoundRules


@pytest.fixture(scope="module")
def benchmark(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("rules")


def test_quick_prints_every_ratio(run_quick: Callable[..., tuple[list[str], dict[str, Any]]]) -> None:
    _, ratios = run_quick("rules", "--dtype", "float32")
    assert {f"rules_over_plain_batch{b}_tokens{t}" for b in (1, 4) for t in (8, 16)} <= ratios.keys()
    assert {"speed_up_over_released_batch4_tokens16", "processor_262k_over_32k_columns"} <= ratios.keys()
    assert all(entry.keys() == {"value", "goal", "better"} and entry["value"] > 0 for entry in ratios.values())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_both_ways_decode_the_same_tokens(
    benchmark: ModuleType, tiny_model: Any, tokenizer: Any, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(tiny_model).to(device)
    rules = BoundRules.bind(load_preset("paper"), tokenizer, [1]).to(device)
    setting = benchmark.Setting(model, tokenizer, rules, lambda: 0.0, [20], 1)
    prompts = setting.encode(1)
    seen: dict[str, list[int]] = {}
    forward = model.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen[kind].append(int(kwargs["input_ids"][0, -1]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", noted)
    for kind, decode in (
        ("ours", lambda: benchmark.rules_decode(setting, prompts)),
        ("released", lambda: benchmark.released_decode(setting, prompts.ids)),
    ):
        seen[kind] = []
        decode()
    assert seen["ours"] == seen["released"]
    assert len(seen["ours"]) == 21


def test_spread_rules_touch_ids_all_over_the_columns(benchmark: ModuleType, tokenizer: Any) -> None:
    rules = BoundRules.bind(load_preset("paper"), tokenizer, [1])
    wide = benchmark.spread(benchmark.Setting(None, tokenizer, rules, lambda: 0.0, [1], 1), 1000)
    touched = wide.touched(torch.empty(0, dtype=torch.long))
    assert len(touched) == 16
    assert (int(touched.min()), int(touched.max())) == (0, 999)
