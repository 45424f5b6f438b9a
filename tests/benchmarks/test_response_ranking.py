"""The benchmark of response ranking runs and ends with its JSON line; what it measures is for quiet machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_quick_prints_the_ratio_and_both_ways_agree(
    run_quick: Callable[..., tuple[list[str], dict[str, Any]]],
) -> None:
    table, ratios = run_quick("response_ranking")
    assert ratios["alone over shared"].keys() == {"value", "goal", "better"}
    assert float(table[-1].rsplit(" ", 1)[1]) < 2e-3
