"""The benchmark of response ranking runs and ends with its JSON line; what it measures is for quiet machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


def test_quick_prints_the_ratio_and_both_ways_agree(
    load_benchmark: Callable[[str], ModuleType],
    tiny_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    benchmark = load_benchmark("response_ranking")
    monkeypatch.setattr(sys, "argv", ["response_ranking.py", "--quick", "--pretrained", tiny_model_folder])
    benchmark.main()
    *table, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    assert line["name"] == "response_ranking"
    assert line["ratios"]["alone over shared"].keys() == {"value", "goal", "better"}
    assert float(table[-1].rsplit(" ", 1)[1]) < 2e-3
