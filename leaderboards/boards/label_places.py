"""Where the names of a scatter plot's points go, so that none covers another or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_HEIGHT, _RADIUS = 14.0, 6.0
_DISTANCES = (10.0, 18.0, 30.0, 44.0, 60.0, 80.0, 104.0, 132.0, 164.0, 200.0)
_DIRECTIONS = 16

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Place(NamedTuple):
    """Where a name starts.

    Attributes:
        x: Its left end.
        y: Its middle.
        leader: Where a line from the point ends; None beside the point.
    """

    x: float
    y: float
    leader: tuple[float, float] | None


def place_labels(
    spots: Sequence[tuple[float, float]],
    widths: Sequence[float],
    bounds: Box,
    obstacles: Sequence[Box] = (),
    farthest: Sequence[float] = (),
) -> list[Place | None]:
    """A place for each name, in the order of the points: the nearest that is free.

    Args:
        spots: The points, in pixels; the first ones have the choice.
        widths: Of their names, in pixels.
        bounds: The plot.
        obstacles: What names should not cover, besides points.
        farthest: How far from its point each name may be, in pixels; the default is 200.

    Returns:
        A place a point; None where nothing is free.
    """
    taken = [*obstacles, *((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in spots)]
    limits = farthest or [200.0] * len(spots)
    places: list[Place | None] = []
    for (x, y), width, limit in zip(spots, widths, limits, strict=True):
        places.append(None)
        for box, leader in _candidates(x, y, width, limit):
            inside = bounds[0] <= box[0] and bounds[1] <= box[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
            if inside and not any(_overlap(box, other) for other in taken):
                places[-1] = Place(box[0], (box[1] + box[3]) / 2, leader)
                taken.append(box)
                break
    return places


def _candidates(x: float, y: float, width: float, limit: float) -> list[tuple[Box, tuple[float, float] | None]]:
    """Boxes around a point, the nearest first and of those the right one first, with the end of a line to each."""
    found: list[tuple[Box, tuple[float, float] | None]] = []
    for distance in (d for d in _DISTANCES if d <= limit):
        for turn in range(_DIRECTIONS):
            angle = 2 * math.pi * (turn // 2 if turn % 2 else -(turn // 2)) / _DIRECTIONS
            at_x, at_y = x + distance * math.cos(angle), y + distance * math.sin(angle)
            # the name begins, is centred or ends there, by the side it is on
            left = at_x - width * (1 - math.cos(angle)) / 2
            box = (left, at_y - _HEIGHT / 2, left + width, at_y + _HEIGHT / 2)
            near = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
            found.append((box, None if distance < 20 else near))
    return found


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
