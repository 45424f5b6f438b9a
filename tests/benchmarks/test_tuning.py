"""The benchmark of training runs, compares equal losses, and ends with its JSON line."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tuning.py"


@pytest.mark.filterwarnings("ignore")
def test_quick_prints_every_ratio(
    tiny_model_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_tuning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["tuning.py", "--quick", "--pretrained", tiny_model_folder])
    module.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "tuning"
    ratios = line["ratios"]
    assert ratios.keys() == {
        "speed_over_sft_trainer",
        "speed_over_bare_loop",
        "loss_difference_to_sft_trainer",
        "loss_difference_to_bare_loop",
    }
    assert ratios["loss_difference_to_sft_trainer"]["value"] < 0.01
    assert ratios["loss_difference_to_bare_loop"]["value"] < 0.01
