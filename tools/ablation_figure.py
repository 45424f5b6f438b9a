"""Draws an ablation as an SVG: win rate with interval, finish rate and format leakage of each system, side by side.

    python tools/ablation_figure.py ablation/table.json docs/figures/ablation.svg

The figure is made of the table alone: the same table gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from implicit_if.harness.svg import GREEN, GREY, PALE_GREEN, Bar, BarRow, bar_panels


def main(source: str, target: str) -> None:
    """Reads `table.json` of `implicit-if ablate` and writes the figure."""
    table = json.loads(Path(source).read_text(encoding="utf-8"))
    rows = [bars(row) for row in table["rows"] if not row["system"].startswith("only ")]
    panels = (f"win rate against {table['setting']['reference']}, %", "finish rate, %", "format leak, %")
    title = f"Base and rules on {table['setting']['model']}, {table['n_expected']} instructions"
    Path(target).write_text(bar_panels(title, panels, rows), encoding="utf-8", newline="\n")


def bars(row: dict[str, Any]) -> BarRow:
    """One system's bars."""
    if row["scores"]:
        score = row["scores"]["win_rate"]
        interval = score["interval"]
        win_rate = Bar(score["value"], (interval["low"], interval["high"]) if interval else None)
    else:
        win_rate = Bar(None, note="reference")  # the base model against itself
    colour = GREY if row["system"] == "base" else GREEN if row["system"] == "rules" else PALE_GREEN
    return BarRow(row["system"], colour, [win_rate, Bar(row["finish_rate"]), Bar(row["format_leak_rate"])])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
