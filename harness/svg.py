"""SVG in a few lines: shapes as text, and panels of bars. The same values give the same bytes; no plotting library.

Coordinates are in pixels, y grows downwards. Texts are escaped here; nothing else reaches the file but numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, MUTED, GRID = "#1f2430", "#5b6474", "#d9dce3"
GREY, GREEN, PALE_GREEN = "#8a93a5", "#0b6e4f", "#6fae98"

_ROW, _BAR, _LEFT, _PANEL, _GAP, _TOP = 30, 16, 150, 200, 34, 48
_NOT_XML = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
"""What XML forbids, and what would change the direction of the text around it."""


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A whole file on a white ground, `title` being what a screen reader says."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{_escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def text(
    x: float, y: float, content: str, *, anchor: str = "start", size: int = 13, weight: int = 400, fill: str = INK
) -> str:
    """A line of text, vertically centred on y."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="middle" font-size="{size}" '
        f'font-weight="{weight}" fill="{fill}">{_escape(content)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str = GRID) -> str:
    """A straight line."""
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{stroke}"/>'


def whisker(low: float, high: float, y: float, stroke: str = INK) -> str:
    """A horizontal interval with end caps."""
    return f'<path d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8" stroke="{stroke}"/>'


def shorten(content: str, length: int) -> str:
    """The text, cut to `length` characters with an ellipsis."""
    return content if len(content) <= length else content[: length - 1] + "…"


@dataclass(frozen=True)
class Bar:
    """One value of a panel.

    Attributes:
        value: Percent; None draws `note` instead.
        interval: Percent, lower and upper end.
        note: Why there is no value.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    note: str = "-"


@dataclass(frozen=True)
class BarRow:
    """One system: its label, its colour, a bar in each panel."""

    label: str
    colour: str
    bars: Sequence[Bar]


def bar_panels(title: str, panels: Sequence[str], rows: Sequence[BarRow], left: int = _LEFT) -> str:
    """Bars from 0 to 100 per cent: systems below each other, a panel a measure.

    Args:
        title: What a screen reader says.
        panels: Heading of each panel.
        rows: From the top.
        left: Room for the labels.

    Returns:
        The SVG file's text.
    """
    width, height = left + len(panels) * (_PANEL + _GAP), _TOP + _ROW * len(rows) + 30
    parts = [text(left - 12, _middle(i), row.label, anchor="end") for i, row in enumerate(rows)]
    for p, heading in enumerate(panels):
        x = left + p * (_PANEL + _GAP)
        parts.append(text(x, _TOP - 26, heading, weight=600))
        for tick in (0, 50, 100):
            at = x + _PANEL * tick / 100
            parts.append(line(at, _TOP - 10, at, height - 24))
            parts.append(text(at, height - 8, str(tick), anchor="middle", size=11))
        for i, row in enumerate(rows):
            parts += _bar(x, _middle(i), row.bars[p], row.colour)
    return document(width, height, title, parts)


def _bar(x: float, y: float, bar: Bar, colour: str) -> list[str]:
    if bar.value is None:
        return [text(x + _PANEL / 2, y, bar.note, anchor="middle", size=11)]
    end = _PANEL * bar.value / 100
    parts = [f'<rect x="{x}" y="{y - _BAR / 2}" width="{end:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>']
    if bar.interval is not None:
        low, high = (x + _PANEL * value / 100 for value in bar.interval)
        parts.append(whisker(low, high, y))
        end = high - x
    return [*parts, text(x + end + 5, y, f"{bar.value:.0f}", size=11)]


def _middle(i: int) -> float:
    return _TOP + _ROW * i + _ROW / 2


def _escape(content: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", content), quote=True)
