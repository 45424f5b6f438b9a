"""The benchmark of training runs, compares equal losses, and ends with its JSON line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.filterwarnings("ignore")
def test_quick_prints_every_ratio(
    load_benchmark: Callable[[str], ModuleType],
    tiny_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = load_benchmark("tuning")
    monkeypatch.setattr(sys, "argv", ["tuning.py", "--quick", "--pretrained", tiny_model_folder])
    module.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "tuning"
    ratios = line["ratios"]
    assert ratios.keys() == {
        "tokens_per_second",
        "speed_over_sft_trainer",
        "speed_over_bare_loop",
        "loss_difference_to_sft_trainer",
        "loss_difference_to_bare_loop",
    }
    assert ratios["loss_difference_to_sft_trainer"]["value"] < 0.01
    assert ratios["loss_difference_to_bare_loop"]["value"] < 0.01
