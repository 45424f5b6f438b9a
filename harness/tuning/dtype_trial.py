"""Which number type this machine multiplies faster: bfloat16 with AMX, AVX512-BF16 or on a GPU, else float32."""

from __future__ import annotations

import time
from typing import Any

_SHAPES = (512, 1024, 1024)
_MARGIN = 1.2
"""How much faster bfloat16 must be: float32 is closer to the weights, and equal on every machine."""


def faster_type() -> tuple[str, str]:
    """The type to compute in, "float32" or "bfloat16", and what was measured, as a sentence; takes half a second."""
    speed = _speeds()
    chosen = "bfloat16" if speed["bfloat16"] > _MARGIN * speed["float32"] else "float32"
    measured = " and ".join(f"{name} at {value:.0f}" for name, value in speed.items())
    return chosen, f"frozen weights are {chosen}: this machine multiplies {measured} GFLOP/s"


def _speeds() -> dict[str, float]:
    """GFLOP per second of each type: the best product of 0.4 seconds, in turns, so that other work slows both alike."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, inner, columns = _SHAPES
    factors, best = {}, {}
    for name in ("float32", "bfloat16"):
        like: dict[str, Any] = {"dtype": getattr(torch, name), "device": device}
        factors[name] = torch.ones(rows, inner, **like), torch.ones(columns, inner, **like)
        best[name] = float("inf")
    turns, end = 0, time.monotonic() + 0.4
    while turns < 3 or time.monotonic() < end:
        for name, pair in factors.items():
            start = time.perf_counter()
            torch.nn.functional.linear(*pair)
            if device == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
        turns += 1
    return {name: 2e-9 * rows * inner * columns / seconds for name, seconds in best.items()}
