"""The benchmark of training runs, compares equal losses, and ends with its JSON line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.filterwarnings("ignore")
def test_quick_prints_every_ratio(run_quick: Callable[..., tuple[list[str], dict[str, Any]]]) -> None:
    _, ratios = run_quick("tuning")
    assert ratios.keys() == {
        "tokens_per_second",
        "speed_over_sft_trainer",
        "speed_over_bare_loop",
        "loss_difference_to_sft_trainer",
        "loss_difference_to_bare_loop",
    }
    assert ratios["loss_difference_to_sft_trainer"]["value"] < 0.01
    assert ratios["loss_difference_to_bare_loop"]["value"] < 0.01
