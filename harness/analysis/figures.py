"""Figures of the analyses: curves over steps, and points with a smoothed curve, on the SVG helpers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from implicit_if.harness.svg import GRID, MUTED, document, line, shorten, text

COLOURS = ("#0b6e4f", "#b5541c", "#2b5fa8", "#8a3ea0", "#5b6474", "#a8892b", "#c2185b", "#00838f")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _KEY = 520, 300, 56, 40, 52, 210


@dataclass(frozen=True)
class Curve:
    """A line through values at common steps; None leaves a gap."""

    label: str
    values: Sequence[float | None]


def curves(title: str, x_label: str, y_label: str, steps: Sequence[str], found: Sequence[Curve]) -> str:
    """Lines over named steps, from 0 to the highest value.

    Args:
        title: What a screen reader says, and the heading.
        x_label: Below the steps.
        y_label: Above the scale.
        steps: Names, from the left.
        found: Lines, in the order of the key.
    """
    top = max((v for curve in found for v in curve.values if v is not None), default=1.0) or 1.0
    width, height = _LEFT + _WIDTH + _KEY, _TOP + _HEIGHT + _BOTTOM
    parts = [text(_LEFT, 16, title, weight=600), text(_LEFT, _TOP - 8, y_label, size=11, fill=MUTED)]
    for tick in range(5):
        y = _TOP + _HEIGHT * (1 - tick / 4)
        parts += [line(_LEFT, y, _LEFT + _WIDTH, y), text(_LEFT - 6, y, f"{top * tick / 4:.3g}", anchor="end", size=11)]
    at = [_LEFT + _WIDTH * (i + 0.5) / len(steps) for i in range(len(steps))]
    parts += [text(x, _TOP + _HEIGHT + 14, name, anchor="middle", size=11) for x, name in zip(at, steps, strict=True)]
    parts.append(text(_LEFT + _WIDTH / 2, height - 12, x_label, anchor="middle", size=11, fill=MUTED))
    for number, curve in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        dash = "" if number < len(COLOURS) else ' stroke-dasharray="4 3"'
        spots = [(x, _TOP + _HEIGHT * (1 - v / top)) for x, v in zip(at, curve.values, strict=True) if v is not None]
        path = "".join(f"{'ML'[i > 0]}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(spots))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
        y = _TOP + 10 + 20 * number
        parts.append(f'<path d="M{_LEFT + _WIDTH + 14} {y}h18" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(text(_LEFT + _WIDTH + 38, y, shorten(curve.label, 26), size=12))
    return document(width, height, title, parts)


def scatter(
    title: str,
    x_label: str,
    y_label: str,
    points: Sequence[tuple[float, float]],
    smooth: Sequence[tuple[float, float, float, float]],
) -> str:
    """Points, and a curve with its band, over their own ranges.

    Args:
        title: What a screen reader says, and the heading.
        x_label: Below.
        y_label: Above the scale.
        points: x and y.
        smooth: x, value, lower and upper end; may be empty.
    """
    xs = [p[0] for p in points] or [0.0, 1.0]
    ys = [p[1] for p in points] + [v for s in smooth for v in s[2:]] or [0.0, 1.0]
    (x0, x1), (y0, y1) = (_range(values) for values in (xs, ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + _WIDTH * (x - x0) / (x1 - x0), _TOP + _HEIGHT * (1 - (y - y0) / (y1 - y0))

    width, height = _LEFT + _WIDTH + 24, _TOP + _HEIGHT + _BOTTOM
    parts = [text(_LEFT, 16, title, weight=600), text(_LEFT, _TOP - 8, y_label, size=11, fill=MUTED)]
    for tick in range(5):
        x, y = x0 + (x1 - x0) * tick / 4, y0 + (y1 - y0) * tick / 4
        px, py = place(x, y)
        parts += [line(_LEFT, py, _LEFT + _WIDTH, py), text(_LEFT - 6, py, f"{y:.2f}", anchor="end", size=11)]
        parts.append(text(px, _TOP + _HEIGHT + 14, f"{x:.2f}", anchor="middle", size=11))
    parts.append(line(_LEFT, _TOP, _LEFT, _TOP + _HEIGHT, GRID))
    parts.append(text(_LEFT + _WIDTH / 2, height - 12, x_label, anchor="middle", size=11, fill=MUTED))
    if smooth:
        upper = [place(s[0], s[3]) for s in smooth]
        lower = [place(s[0], s[2]) for s in reversed(smooth)]
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *lower])
        parts.append(f'<polygon points="{band}" fill="{COLOURS[0]}" fill-opacity="0.18"/>')
    for spot in points:
        x, y = place(*spot)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{COLOURS[2]}" fill-opacity="0.55"/>')
    if smooth:
        middle = [place(s[0], s[1]) for s in smooth]
        path = "".join(f"{'ML'[i > 0]}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(middle))
        parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>')
    return document(width, height, title, parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.03 or 0.5
    return low - room, high + room
