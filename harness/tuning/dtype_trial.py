"""Which number type this machine multiplies faster: bfloat16 with AMX, AVX512-BF16 or on a GPU, else float32."""

from __future__ import annotations

import time
from typing import Any

_SHAPES = (512, 1024, 1024)
_MARGIN = 1.2
"""How much faster bfloat16 must be: float32 is closer to the weights, and equal on every machine."""


def faster_type() -> tuple[str, str]:
    """The type to compute in, "float32" or "bfloat16", and what was measured, as a sentence; takes half a second."""
    import torch

    speed = {name: _speed(getattr(torch, name)) for name in ("float32", "bfloat16")}
    chosen = "bfloat16" if speed["bfloat16"] > _MARGIN * speed["float32"] else "float32"
    measured = " and ".join(f"{name} at {value:.0f}" for name, value in speed.items())
    return chosen, f"frozen weights are {chosen}: this machine multiplies {measured} GFLOP/s"


def _speed(dtype: Any) -> float:
    """GFLOP per second of one product, the best of at least three."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, inner, columns = _SHAPES
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(columns, inner, dtype=dtype, device=device)
    best, runs, end = float("inf"), 0, time.monotonic() + 0.2
    while runs < 3 or time.monotonic() < end:
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return 2e-9 * rows * inner * columns / best
