"""SVG in a few lines: shapes as text, and panels of bars. The same values give the same bytes; no plotting library.

Coordinates are in pixels, y grows downwards. Texts are escaped here; nothing else reaches the file but numbers. A file
follows the reader's light or dark scheme: its colours are written for light, and the dark ones are computed from them.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, MUTED, GRID, GROUND = "#1f2430", "#5b6474", "#d9dce3", "#ffffff"
GREY, GREEN, PALE_GREEN = "#8a93a5", "#0b6e4f", "#6fae98"

_ROW, _BAR, _PANEL, _GAP, _LINE, _LABELS = 30, 16, 200, 40, 18, 340
_COLOUR = re.compile("#[0-9a-f]{6}")
_NARROW, _WIDE = frozenset(" !'(),./:;I[]fijlrt|"), frozenset("%@MWmw\N{HORIZONTAL ELLIPSIS}")
_NOT_XML = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
"""What XML forbids, and what would change the direction of the text around it."""


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A whole file on a ground of its own, `title` being what a screen reader says."""
    ground = f'<rect width="{width:g}" height="{height:g}" fill="{GROUND}"/>'
    colours = sorted({colour for part in (ground, *parts) for colour in _COLOUR.findall(_markup(part))})
    dark = "".join(f'[fill="{c}"]{{fill:{d}}}[stroke="{c}"]{{stroke:{d}}}' for c in colours for d in [_dark(c)])
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{_escape(title)}" font-family="system-ui, sans-serif" '
        'font-size="13">',
        f"<style>@media (prefers-color-scheme:dark){{{dark}}}</style>",
        ground,
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _markup(part: str) -> str:
    return re.sub(">[^<]*<", "><", part)


def _dark(colour: str) -> str:
    """A colour for a dark ground: greys with their lightness turned round, others as light as is legible there."""
    if colour == GROUND:
        return "#0d1117"
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness, saturation = (0.65, 0.7 * saturation) if saturation > 0.3 else (1 - 0.93 * lightness, saturation)
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, lightness, saturation))


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
    return f'<line x1="{x1:g}" x2="{x2:g}" y1="{y1:g}" y2="{y2:g}" stroke="{stroke}"/>'


def whisker(low: float, high: float, y: float, stroke: str = INK, width: float = 1.2) -> str:
    """A horizontal interval with end caps."""
    return (
        f'<path d="M{low:.1f} {y:g}H{high:.1f}M{low:.1f} {y - 4:g}v8M{high:.1f} {y - 4:g}v8" fill="none" '
        f'stroke="{stroke}" stroke-width="{width:g}"/>'
    )


def vertical_whisker(x: float, top: float, bottom: float, stroke: str = INK) -> str:
    """A vertical interval with end caps."""
    return (
        f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 3:.1f} {top:.1f}h6M{x - 3:.1f} {bottom:.1f}h6" fill="none" '
        f'stroke="{stroke}" stroke-width="1.2"/>'
    )


def shorten(content: str, length: int) -> str:
    """The text, cut to `length` characters with an ellipsis."""
    return content if len(content) <= length else content[: length - 1] + "…"


def text_width(content: str, size: int = 13, weight: int = 400) -> float:
    """Pixels that a text takes at most in a usual sans-serif font: fonts differ, and none is at hand to measure."""
    ems = sum(
        0.4 if c in _NARROW else 1.0 if c in _WIDE or ord(c) > 0x2E7F else 0.7 if c.isupper() or c.isdigit() else 0.62
        for c in content
    )
    return ems * size * (1.1 if weight > 500 else 1)


def fitted(content: str, room: float, size: int = 13, weight: int = 400) -> str:
    """The text, cut with an ellipsis where it would take more than `room` pixels."""
    if text_width(content, size, weight) <= room:
        return content
    end = len(content) - 1
    while end and text_width(f"{content[:end]}…", size, weight) > room:
        end -= 1
    return f"{content[:end]}…"


def wrapped(content: str, room: float, size: int = 13, weight: int = 400) -> list[str]:
    """The text in lines of at most `room` pixels, broken at spaces; a longer word is cut with an ellipsis."""
    lines: list[str] = []
    for word in content.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= room:
            lines[-1] = longer
        else:
            lines.append(fitted(word, room, size, weight))
    return lines


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


def bar_panels(title: str, panels: Sequence[str], rows: Sequence[BarRow], notes: Sequence[str] = ()) -> str:
    """Bars from 0 to 100 per cent: systems below each other, a panel a measure.

    Args:
        title: Above the panels, and what a screen reader says.
        panels: Heading of each panel.
        rows: From the top; as much room is made for their labels as they need, within bounds.
        notes: Small print below the panels, e.g. signatures.

    Returns:
        The SVG file's text.
    """
    left = min(max((text_width(row.label) for row in rows), default=0.0), _LABELS) + 28
    width = left + len(panels) * (_PANEL + _GAP)
    titles = wrapped(title, width - 32, 13, 600)
    headings = [wrapped(heading, _PANEL + _GAP - 12, 12, 600) for heading in panels]
    below = 18 + _LINE * len(titles)
    top = below + 16 * max(map(len, headings), default=0) + 20
    bottom = top + _ROW * len(rows) + 30
    small = [part for note in notes for part in wrapped(note, width - 32, 9)]
    height = bottom + (12 * len(small) + 12 if small else 0)
    parts = [text(16, bottom + 8 + 12 * i, part, size=9, fill=MUTED) for i, part in enumerate(small)]
    parts += [text(16, 20 + _LINE * i, part, weight=600) for i, part in enumerate(titles)]
    middles = [top + _ROW * i + _ROW / 2 for i in range(len(rows))]
    parts += [
        text(left - 12, y, fitted(row.label, _LABELS), anchor="end") for y, row in zip(middles, rows, strict=True)
    ]
    for p, heading in enumerate(headings):
        x = left + p * (_PANEL + _GAP)
        parts += [text(x, below + 12 + 16 * i, part, size=12, weight=600) for i, part in enumerate(heading)]
        for tick in (0, 50, 100):
            at = x + _PANEL * tick / 100
            parts.append(line(at, top - 6, at, bottom - 24))
            parts.append(text(at, bottom - 12, str(tick), anchor="middle", size=11))
        for y, row in zip(middles, rows, strict=True):
            parts += _bar(x, y, row.bars[p], row.colour)
    return document(width, height, title, parts)


def _bar(x: float, y: float, bar: Bar, colour: str) -> list[str]:
    if bar.value is None:
        return [text(x + _PANEL / 2, y, bar.note, anchor="middle", size=11)]
    end = _PANEL * bar.value / 100
    parts = [f'<rect x="{x:g}" y="{y - _BAR / 2:g}" width="{end:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>']
    if bar.interval is not None:
        low, high = (x + _PANEL * value / 100 for value in bar.interval)
        parts += [whisker(low, high, y, GROUND, 4), whisker(low, high, y)]  # the ground keeps it legible on the bar
        end = high - x
    return [*parts, text(x + end + 6, y, f"{bar.value:.0f}", size=11)]


def _escape(content: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", content), quote=True)
