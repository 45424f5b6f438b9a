"""Draws the systems of a board as an SVG, attempt rate and win rate side by side, and prints the table behind it.

    python tools/systems_figure.py leaderboards docs/figures/systems.svg

Both are made of `leaderboard.json` and `rules.json` alone: the same numbers give the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.svg import Bar, BarRow, bar_panels
from implicit_if.harness.system_kinds import SYSTEM_KINDS

SCORES = (ATTEMPTS, "win_rate", "lc")


def main(source: str, target: str) -> None:
    """Reads the first board of systems and of rules, writes the figure and prints the table."""
    systems, rules = (_board(Path(source) / name) for name in ("leaderboard.json", "rules.json"))
    known = {row["name"]: row for row in (*systems["rows"], *rules["rows"]) if row["kind"] != "control"}
    order = list(SYSTEM_KINDS)
    rows = sorted(known.values(), key=lambda row: (order.index(row["kind"]), row["system"].startswith("only")))
    title = f"Attempt rate, and win rate against {systems['reference']}, on {systems['n']} instructions, by system"
    figure = bar_panels(title, ("attempts, %", "win rate, %"), [_bars(row) for row in rows])
    Path(target).write_text(figure, encoding="utf-8", newline="\n")
    head = ["system", "attempts %", "win rate %", "LC win rate %"]
    print(tabulate([[row["system"], *(_text(row[name]) for name in SCORES)] for row in rows], head, "github"))
    print(f"\nattempts: `{systems['attempts_signature']}`\nwin rate: `{systems['signature']}`")


def _board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["boards"][0]
    return found


def _text(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    interval = score["interval"]
    return f"{score['value']:.1f}" + (f" [{interval['low']:.1f}, {interval['high']:.1f}]" if interval else "")


def _bars(row: dict[str, Any]) -> BarRow:
    return BarRow(row["system"], SYSTEM_KINDS[row["kind"]].colour, [_bar(row[name]) for name in SCORES[:2]])


def _bar(score: dict[str, Any] | None) -> Bar:
    interval = score and score["interval"]
    return Bar(score and score["value"], (interval["low"], interval["high"]) if interval else None)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
