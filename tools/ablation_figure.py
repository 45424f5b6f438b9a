"""Draws an ablation as an SVG: win rate with interval, finish rate and format leakage of each system, side by side.

    python tools/ablation_figure.py ablation/table.json docs/figures/ablation.svg

The figure is made of the table alone: the same table gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

ROW, BAR, LEFT, PANEL, GAP, TOP = 30, 16, 150, 200, 34, 48
INK, GRID, BASE, RULES, OTHER = "#1f2430", "#d9dce3", "#8a93a5", "#0b6e4f", "#6fae98"
PANELS = (
    ("win rate against base, %", "win_rate"),
    ("finish rate, %", "finish_rate"),
    ("format leak, %", "format_leak_rate"),
)


def main(source: str, target: str) -> None:
    """Reads `table.json` of `implicit-if ablate` and writes the figure."""
    table = json.loads(Path(source).read_text(encoding="utf-8"))
    rows = [row for row in table["rows"] if not row["system"].startswith("only ")]
    Path(target).write_text(draw(rows, table), encoding="utf-8", newline="\n")


def draw(rows: list[dict[str, Any]], table: dict[str, Any]) -> str:
    """The figure's SVG text."""
    width, height = LEFT + len(PANELS) * (PANEL + GAP), TOP + ROW * len(rows) + 30
    title = f"Base and rules on {table['setting']['model']}, {table['n_expected']} instructions"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title, quote=True)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for i, row in enumerate(rows):
        parts.append(_text(LEFT - 12, _middle(i), row["system"], anchor="end"))
    for p, (label, measure) in enumerate(PANELS):
        x = LEFT + p * (PANEL + GAP)
        parts.append(_text(x, TOP - 26, label, weight=600))
        for tick in (0, 50, 100):
            at = x + PANEL * tick / 100
            parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP - 10}" y2="{height - 24}" stroke="{GRID}"/>')
            parts.append(_text(at, height - 8, str(tick), anchor="middle", size=11))
        for i, row in enumerate(rows):
            parts += _bar(x, i, row, measure)
    return "\n".join([*parts, "</svg>", ""])


def _bar(x: float, i: int, row: dict[str, Any], measure: str) -> list[str]:
    if measure == "win_rate":
        if not row["scores"]:  # the base model against itself
            return [_text(x + PANEL / 2, _middle(i), "reference", anchor="middle", size=11)]
        score = row["scores"]["win_rate"]
        value, interval = score["value"], score["interval"]
    else:
        value, interval = row[measure], None
    colour = BASE if not row["scores"] else RULES if row["system"] == "rules" else OTHER
    length = PANEL * value / 100
    parts = [f'<rect x="{x}" y="{_middle(i) - BAR / 2}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>']
    end = length
    if interval:
        low, high = (x + PANEL * interval[k] / 100 for k in ("low", "high"))
        y, end = _middle(i), PANEL * interval["high"] / 100
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8" stroke="{INK}"/>')
    return [*parts, _text(x + end + 5, _middle(i), f"{value:.0f}", size=11)]


def _middle(i: int) -> float:
    return TOP + ROW * i + ROW / 2


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="middle" font-size="{size}" '
        f'font-weight="{weight}" fill="{INK}">{escape(text)}</text>'
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
