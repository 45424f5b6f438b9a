"""What a whole matrix takes on so many GPUs: its cells put on them one after the other as they become free."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from implicit_if.harness.replicate.cells import API_JOBS, Cell
from implicit_if.harness.replicate.costs import GPU_FLOPS, MEASURED_FLOPS, OFFLOAD
from implicit_if.harness.replicate.matrix import Matrix

TRAININGS = ("tune", "select")
_FLOAT32 = 4
_CHECKPOINT = 12
"""Bytes a parameter of a resumable checkpoint: weights and two moments in float32."""


@dataclass(frozen=True)
class Budget:
    """What a matrix takes.

    Attributes:
        gpus: GPUs there are.
        hours: From the first cell's start to the last one's end.
        gpu_hours: GPUs times hours that they are at work.
        trainings: Trained models, those of the sweep included.
        disk_kept_gb: Finished models in float32, which stay.
        disk_peak_gb: What trainings need beside that while they run: a checkpoint and the one that replaces it, or the
            models of one sweep.
        judge_calls: Questions to the judge.
        judge_cost: US dollars; None if its prices are not known.
    """

    gpus: int
    hours: float
    gpu_hours: float
    trainings: int
    disk_kept_gb: float
    disk_peak_gb: float
    judge_calls: int
    judge_cost: float | None


def budget(matrix: Matrix, cells: Sequence[Cell], gpus: int, *, flops: float = GPU_FLOPS) -> Budget:
    """The budget of a matrix.

    Args:
        matrix: The matrix.
        cells: Its plan.
        gpus: GPUs there are, at least 1; a training that asks for more of them than that runs on these, for longer,
            with its weights and moments on the host.
        flops: Floating-point operations of a GPU in a second of training; `MEASURED_FLOPS` is what was measured, with a
            small model.
    """
    hours = {cell.name: _hours(cell, gpus, flops) for cell in cells}
    known = [cell.costs.judge_cost for cell in cells]
    models = {model.name: model for model in matrix.models}
    largest = max(model.parameters for model in models.values())
    at_once = max(1, min(gpus // max(1, max(cell.gpus for cell in cells)), sum(c.kind in TRAININGS for c in cells)))
    sweep = len(matrix.sweep.epochs) if matrix.sweep else 0
    each = max(2 * _CHECKPOINT, _CHECKPOINT + sweep * _FLOAT32) * largest / 1e9
    kept = sum(model.parameters * len(model.recipes) * len(matrix.seeds) for model in models.values()) * _FLOAT32 / 1e9
    return Budget(
        gpus=gpus,
        hours=makespan(cells, hours, gpus),
        gpu_hours=sum(hours[cell.name] * min(cell.gpus, gpus) for cell in cells),
        trainings=sum(cell.kind == "tune" for cell in cells) + sweep * sum(cell.kind == "select" for cell in cells),
        disk_kept_gb=kept,
        disk_peak_gb=at_once * each,
        judge_calls=sum(cell.costs.judge_calls for cell in cells),
        judge_cost=None if None in known else sum(cost or 0 for cost in known),
    )


def makespan(cells: Sequence[Cell], hours: dict[str, float], gpus: int) -> float:
    """Hours until all cells are done, if each starts as soon as what it needs of them is there, in the plan's order.

    Args:
        cells: The plan.
        hours: By cell.
        gpus: GPUs there are.
    """
    waiting, done = list(cells), set[str]()
    running: list[tuple[float, str]] = []
    kinds = {cell.name: cell for cell in cells}
    now, free, asking = 0.0, gpus, API_JOBS
    while waiting or running:
        left = []
        for cell in waiting:
            wanted, asks = min(cell.gpus, gpus), cell.api and not cell.gpus
            if done.issuperset(kinds.keys() & set(cell.needs)) and wanted <= free and (asking or not asks):
                free, asking = free - wanted, asking - asks
                heapq.heappush(running, (now + hours[cell.name], cell.name))
            else:
                left.append(cell)
        waiting = left
        now, name = heapq.heappop(running)
        cell = kinds[name]
        done.add(name)
        free, asking = free + min(cell.gpus, gpus), asking + (cell.api and not cell.gpus)
    return now


def render(budgets: Sequence[tuple[str, Sequence[Budget]]]) -> str:
    """A Markdown table, a row a budget.

    Args:
        budgets: By what is assumed.
    """
    from tabulate import tabulate

    head = [
        "GPUs",
        "training speed",
        "hours",
        "GPU-hours",
        "disk kept, TB",
        "disk while it runs, TB",
        "judge calls",
        "judge USD",
    ]
    rows = [
        [
            one.gpus,
            name,
            f"{one.hours:,.0f}",
            f"{one.gpu_hours:,.0f}",
            f"{one.disk_kept_gb / 1000:.1f}",
            f"{one.disk_peak_gb / 1000:.1f}",
            f"{one.judge_calls:,}",
            "unknown" if one.judge_cost is None else f"{one.judge_cost:,.0f}",
        ]
        for name, several in budgets
        for one in several
    ]
    return str(tabulate(rows, head, "github", disable_numparse=True, colalign=("right", "left", *["right"] * 6)))


def assumptions() -> tuple[tuple[str, float], ...]:
    """The two speeds of training that a plan shows: the assumed one, and the measured one of a far smaller model."""
    return (
        (f"assumed, {GPU_FLOPS / 1e12:.0f} TFLOP/s", GPU_FLOPS),
        (f"measured, {MEASURED_FLOPS / 1e12:.0f} TFLOP/s", MEASURED_FLOPS),
    )


def _hours(cell: Cell, gpus: int, flops: float) -> float:
    hours = cell.costs.hours
    if cell.kind in TRAININGS:
        hours *= GPU_FLOPS / flops
        if cell.gpus > gpus:
            hours *= cell.gpus / gpus * OFFLOAD
    return hours
