"""Writes the tables of docs/replicate.md that plan the paper's run: GPUs, hours, disk, judges.

    python tools/replication_budget.py [--check]

`--check` writes nothing and has the exit status 1 if they are out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tabulate import tabulate

from implicit_if.harness.judging.api.options import price_list
from implicit_if.harness.replicate.budget import assumptions, budget, render
from implicit_if.harness.replicate.costs import judge_price
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.replicate.plan import plan
from implicit_if.harness.storage import atomic_write

PAGE = Path(__file__).resolve().parents[1] / "docs" / "replicate.md"
GPUS = (1, 8, 64)
JUDGES = ("gpt-4.1-mini-2025-04-14", "gpt-4.1-2025-04-14", "gpt-4o-2024-11-20", "gpt-4-1106-preview")


def main(*arguments: str) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = replaced(old)
    if new != old and "--check" not in arguments:
        with atomic_write(PAGE) as file:
            file.write(new)
    print(f"docs/replicate.md: {'current' if new == old else 'out of date'}")
    return int(new != old and "--check" in arguments)


def replaced(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("budget", budget_table()), ("judges", judges_table())):
        text, found = re.subn(
            rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.S
        )
        if found != 1:
            raise SystemExit(f"{PAGE}: expected <!-- {name}:start --> and <!-- {name}:end --> once, found {found}")
    return text


def budget_table() -> str:
    """A row a number of GPUs and speed of training."""
    matrix = load_matrix("paper")
    cells = plan(matrix)
    return render([(name, [budget(matrix, cells, n, flops=flops) for n in GPUS]) for name, flops in assumptions()])


def judges_table() -> str:
    """What all verdicts of the paper's matrix cost with some judges, by list prices."""
    calls = sum(cell.costs.judge_calls for cell in plan(load_matrix("paper")))
    month, prices = price_list()
    rows = [[name, *(f"{p:.2f}" for p in prices[name]), f"{judge_price(calls, prices[name]):,.0f}"] for name in JUDGES]
    head = ["model", f"USD a million read ({month})", "written", f"USD for {calls:,} calls"]
    return str(tabulate(rows, head, "github", disable_numparse=True, colalign=("left", "right", "right", "right")))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
