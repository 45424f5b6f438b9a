"""The benchmark of threads runs, and ends with its JSON line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_quick_prints_every_ratio(run_quick: Callable[..., tuple[list[str], dict[str, Any]]]) -> None:
    table, ratios = run_quick("decoding")
    assert ratios.keys() == {
        "beside_other_work_over_one_free_thread",
        "measured_threads_beside_other_work_over_one_free_thread",
        "quiet_over_pytorch_alone",
    }
    assert all(ratio["value"] > 0 and ratio["better"] == "higher" for ratio in ratios.values())
    assert [row.split("  ")[0] for row in table[-4:]] == [
        "implicit-if",
        "measured threads",
        "PyTorch alone",
        "one thread",
    ]
