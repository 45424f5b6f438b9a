"""The benchmark of threads runs, and ends with its JSON line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


def test_quick_prints_every_ratio(
    load_benchmark: Callable[[str], ModuleType],
    tiny_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = load_benchmark("decoding")
    monkeypatch.setattr(sys, "argv", ["decoding.py", "--quick", "--pretrained", tiny_model_folder])
    module.main()
    *table, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    assert line["name"] == "decoding"
    assert line["ratios"].keys() == {
        "beside_other_work_over_one_free_thread",
        "measured_threads_beside_other_work_over_one_free_thread",
        "quiet_over_pytorch_alone",
    }
    assert all(ratio["value"] > 0 and ratio["better"] == "higher" for ratio in line["ratios"].values())
    assert [row.split("  ")[0] for row in table[-4:]] == [
        "implicit-if",
        "measured threads",
        "PyTorch alone",
        "one thread",
    ]
