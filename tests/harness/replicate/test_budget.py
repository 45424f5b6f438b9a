"""Budgets: the schedule by hand, the sums of the plan, and the tables of docs/replicate.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from implicit_if.harness.judging.api.options import price_list
from implicit_if.harness.replicate.budget import budget, makespan, render
from implicit_if.harness.replicate.cells import Cell
from implicit_if.harness.replicate.costs import GPU_FLOPS, Work, costs
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.replicate.plan import plan

ROOT = Path(__file__).parents[3]


def cell(name: str, *needs: str, gpus: int = 1, api: bool = False, kind: str = "answer") -> Cell:
    return Cell(name, kind, needs, (), (), gpus=gpus, api=api)


def test_cells_start_as_gpus_become_free() -> None:
    cells = [cell("a", gpus=2), cell("b", gpus=2), cell("c", "a"), cell("d", "a", "b", gpus=0)]
    hours = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.5}
    assert makespan(cells, hours, 2) == 6  # a, then b, then c; d from 5 on
    assert makespan(cells, hours, 3) == 5.5  # a; b waits for its two until 3; c beside b; d from 5
    assert makespan(cells, hours, 4) == 4  # a and b at once; c after a
    assert makespan(cells, hours, 1) == 6
    asking = [cell(str(i), gpus=0, api=True) for i in range(9)]
    assert makespan(asking, {one.name: 1.0 for one in asking}, 1) == 3  # four at once


def test_the_paper_s_run() -> None:
    matrix = load_matrix("paper")
    cells = plan(matrix)
    one, eight, many = (budget(matrix, cells, n) for n in (1, 8, 64))
    assert one.trainings == 180
    # 125 systems, 805 instructions, both orders; 18 sweeps of 5 models, 56 instructions, both orders
    assert one.judge_calls == 125 * 805 * 2 + 18 * 5 * 56 * 2
    assert one.judge_cost == pytest.approx(one.judge_calls * (1100 * 0.40 + 1 * 1.60) / 1e6, abs=0.02)
    assert one.disk_kept_gb == pytest.approx(4 * 5 * (10 * 6.74 + 8 * 6.89))
    assert one.hours > eight.hours > many.hours
    assert eight.gpu_hours == pytest.approx(many.gpu_hours)
    assert eight.gpu_hours / 8 <= eight.hours
    # of the longest sweep alone: 57 epochs of LIMA on two GPUs
    assert many.hours > 6 * 6.89e9 * 57 * 645_458 / (2 * GPU_FLOPS) / 3600
    slow = budget(matrix, cells, 8, flops=GPU_FLOPS / 5)
    assert slow.gpu_hours < 5 * eight.gpu_hours
    assert slow.hours > 2 * eight.hours


def test_one_gpu_trains_alone_with_weights_on_the_host() -> None:
    matrix = load_matrix("paper")
    tuning = next(one for one in plan(matrix) if one.kind == "tune")
    alone, pair = (budget(matrix, [tuning], n) for n in (1, 2))
    assert alone.hours == pytest.approx(4 * pair.hours)  # one instead of two, and twice the time a step
    assert pair.gpu_hours == pytest.approx(2 * tuning.costs.hours)


def test_prices_are_those_of_the_price_list() -> None:
    into, out = price_list()[1]["gpt-4.1-mini-2025-04-14"]
    found = costs(Work(verdicts=1000, judge="weighted-gpt-4.1-mini", paid=True)).judge_cost
    assert found == pytest.approx(1000 * (1100 * into + out) / 1e6)
    assert costs(Work(verdicts=1000, judge="openai:of-nobody", paid=True)).judge_cost is None


def test_a_judge_without_prices_is_unknown() -> None:
    matrix = load_matrix("embedded")
    made = budget(matrix, plan(matrix), 1)
    assert render([("x", [made])]).split("|")[-2].strip() == "0"
    assert render([("x", [replace(made, judge_cost=None)])]).split("|")[-2].strip() == "unknown"


def test_the_page_s_tables_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import replication_budget as tool  # type: ignore[import-not-found]

    text = (ROOT / "docs" / "replicate.md").read_text(encoding="utf-8")
    assert tool.replaced(text) == text, "run python tools/replication_budget.py"
    with pytest.raises(SystemExit, match="expected <!-- budget:start -->"):
        tool.replaced("no markers")
