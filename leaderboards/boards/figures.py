"""A board's figures as SVG: win rates with intervals, win rate against length, bars of a rule ablation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from implicit_if.harness.scores import Score
from implicit_if.harness.svg import (
    GREEN,
    GREY,
    GRID,
    GROUND,
    MUTED,
    PALE_GREEN,
    Bar,
    BarRow,
    bar_panels,
    document,
    fitted,
    line,
    text,
    text_width,
    vertical_whisker,
    whisker,
    wrapped,
)
from implicit_if.harness.system_kinds import SYSTEM_KINDS
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.label_places import Box, Place, place_labels
from implicit_if.leaderboards.boards.rows import Row

MOST = 40
"""Systems drawn in one figure; a larger board's figure shows its best and says how many there are."""

_ROW, _LABELS, _AXIS, _PLOT = 24, 340, 420, 420


def figures_of(board: Board, *, rules: bool) -> list[tuple[str, str, str]]:
    """The figures of a board: alternative text, file name, SVG text.

    Args:
        board: The board.
        rules: Whether it is a rule ablation.
    """
    if rules:
        return [(_title(board, "Rule ablation"), f"rules-{board.key.slug}.svg", ablation(board))]
    return [
        (_title(board, "Win rates with intervals"), f"win-rates-{board.key.slug}.svg", win_rates(board)),
        (_title(board, "Win rate against length"), f"length-{board.key.slug}.svg", lengths(board)),
    ]


def win_rates(board: Board) -> str:
    """A dot and an interval a system, best first; the tie group at the right."""
    rows, note = _shown(board.rows)
    names = _names(rows)
    left = min(max((text_width(name) for name in names), default=0.0), _LABELS) + 34
    width = left + _AXIS + 130
    head, top = _head(_title(board, "Win rates"), note, width)
    height = top + _ROW * len(rows) + 40
    parts = [*head, text(width - 16, top - 10, "tie group", anchor="end", size=11, fill=MUTED)]
    for tick in range(0, 101, 25):
        at = left + _AXIS * tick / 100
        parts.append(line(at, top - 2, at, height - 30, MUTED if tick == 50 else GRID))
        parts.append(text(at, height - 16, f"{tick} %", anchor="middle", size=11))
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = top + _ROW * i + _ROW / 2
        parts.append(text(left - 14, y, fitted(name, _LABELS), anchor="end"))
        parts += _dot(row, left, y)
        parts.append(text(width - 16, y, str(board.groups.get(row.id, "-")), anchor="end", size=11))
    return document(width, height, _title(board, "Win rates with intervals"), parts)


def lengths(board: Board) -> str:
    """Mean answer length in characters against win rate with its interval, each system with its name beside it."""
    rows, note = _shown([row for row in board.rows if row.form["avg_length"] is not None])
    left, width = 56, 56 + 2 * _PLOT + 24
    title = _title(board, "Win rate against length")
    head, top = _head(title, note, width)
    height = top + _PLOT + 60
    step, end = _scale(max([row.form["avg_length"] or 0.0 for row in rows], default=0.0))
    highest = _highest(rows)

    def across(value: float) -> float:
        return left + 2 * _PLOT * value / end

    def down(value: float) -> float:
        return top + _PLOT * (1 - value / highest)

    parts = head
    for tick in range(0, highest + 1, 25):
        parts.append(line(left, down(tick), left + 2 * _PLOT, down(tick), MUTED if tick == 50 else GRID))
        parts.append(text(left - 8, down(tick), f"{tick} %", anchor="end", size=11))
    for k in range(round(end / step) + 1):
        x = across(k * step)
        parts.append(line(x, top, x, top + _PLOT))
        parts.append(text(x, top + _PLOT + 16, f"{k * step:g}", anchor="middle", size=11))
    what = "mean length of an answer, characters"
    parts.append(text(left + _PLOT, top + _PLOT + 38, what, anchor="middle", size=11))
    spots = [(across(row.form["avg_length"] or 0.0), down(row.win_rate.value or 0.0)) for row in rows]
    names = [fitted(name, 260, 11) for name in _names(rows)]
    order = sorted(range(len(rows)), key=lambda i: rows[i].is_control)  # controls take what room is left
    half = down(50)
    obstacles: list[Box] = [(left, half - 1, left + 2 * _PLOT, half + 1)]
    for i in order:
        (x, _), ends, control = spots[i], _ends(rows[i].win_rate), rows[i].is_control
        if ends is not None:
            low, high, colour = down(ends[0]), down(ends[1]), SYSTEM_KINDS[rows[i].kind].colour
            parts.append(vertical_whisker(x, high, low, GRID if control else colour))
            obstacles += [] if control else [(x - 4, high, x + 4, low)]
    places = place_labels(
        [spots[i] for i in order],
        [text_width(names[i], 11) for i in order],
        (left + 2, top + 2, left + 2 * _PLOT, top + _PLOT - 2),
        obstacles,
        [30 if rows[i].is_control else 200 for i in order],
    )
    for i, place in zip(order, places, strict=True):
        if place is not None:
            colour = MUTED if rows[i].is_control else SYSTEM_KINDS[rows[i].kind].colour
            parts += _label(names[i], spots[i], place, colour)
    parts += [_circle(*spot, row) for spot, row in zip(spots, rows, strict=True)]
    return document(width, height, title, parts)


def ablation(board: Board) -> str:
    """Win rate, finish rate and format leakage of base, rules and each ablation."""
    several = len({row.base_model for row in board.rows}) > 1
    rows = [
        BarRow(
            f"{row.base_model}: {row.label}" if several else row.label,
            GREY if row.kind == "base" else PALE_GREEN if row.is_ablation else GREEN,
            [
                Bar(row.win_rate.value, _ends(row.win_rate)),
                Bar(row.form["finish_rate"]),
                Bar(row.form["format_leak_rate"]),
            ],
        )
        for row in board.rows[:MOST]
    ]
    panels = ("win rate, %", "ended by itself (finish), %", "role tag in the answer (leak), %")
    return bar_panels(_title(board, "Rule ablation"), panels, rows)


def _shown(rows: Sequence[Row]) -> tuple[list[Row], str]:
    judged = sorted((r for r in rows if r.win_rate.value is not None), key=lambda r: (-(r.win_rate.value or 0.0), r.id))
    level = next((r.win_rate.interval.level for r in judged if r.win_rate.interval is not None), None)
    parts = [] if level is None else [f"{level:.0%} intervals"]
    if len(judged) > MOST:
        parts.append(f"the best {MOST} of {len(judged)} systems; all are in leaderboard.csv")
    if any(row.is_control for row in judged[:MOST]):
        parts.append("controls are hollow")
    return judged[:MOST], "; ".join(parts)


def _head(title: str, note: str, width: float) -> tuple[list[str], float]:
    """The title and what is to be said of the figure, and where the plot begins."""
    titles = wrapped(title, width - 32, 13, 600)
    parts = [text(16, 20 + 18 * i, part, weight=600) for i, part in enumerate(titles)]
    return [*parts, text(16, 20 + 18 * len(titles), note, size=11, fill=MUTED)], 54 + 18 * len(titles)


def _title(board: Board, what: str) -> str:
    key = board.key
    return f"{what}: {key.instruction_set} (n {key.n}) against {key.reference}, judged by {key.judge}"


def _names(rows: Sequence[Row]) -> list[str]:
    """What was done to each base model; with the submission's name too where that does not tell two rows apart."""
    counts = Counter(row.label for row in rows)
    return [row.label if counts[row.label] == 1 else f"{row.label} · {row.first.metadata.name}" for row in rows]


def _dot(row: Row, left: float, y: float) -> list[str]:
    def at(value: float) -> float:
        return left + _AXIS * value / 100

    value, ends = row.win_rate.value or 0.0, _ends(row.win_rate)
    parts = [] if ends is None else [whisker(at(ends[0]), at(ends[1]), y, SYSTEM_KINDS[row.kind].colour)]
    end = value if ends is None else ends[1]
    shown = f"{value:.1f}"
    spot = at(end) + 9
    room = text_width(shown, 11)
    # on the ground, so that the line of 50 % does not cross the number
    parts.append(f'<rect x="{spot - 2:.1f}" y="{y - 7:g}" width="{room:.1f}" height="14" fill="{GROUND}"/>')
    return [*parts, _circle(at(value), y, row), text(spot, y, shown, size=11)]


def _circle(x: float, y: float, row: Row) -> str:
    colour = SYSTEM_KINDS[row.kind].colour
    fill = GROUND if row.is_control else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'


def _label(name: str, spot: tuple[float, float], place: Place, colour: str) -> list[str]:
    """A name beside its point, with a line to it where it stands farther away."""
    parts = [text(place.x, place.y, name, size=11, fill=colour)]
    if place.leader is None:
        return parts
    (x, y), (to_x, to_y) = spot, place.leader
    return [f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{GRID}"/>', *parts]


def _ends(score: Score) -> tuple[float, float] | None:
    return None if score.interval is None else (score.interval.low, score.interval.high)


def _highest(rows: Sequence[Row]) -> int:
    """The end of the axis of win rates: a multiple of 25 above all that is drawn."""
    drawn: list[float] = [50.0]
    for row in rows:
        drawn += [row.win_rate.value or 0.0, *(_ends(row.win_rate) or ())]
    return min(100, 25 * (1 + int(max(drawn) // 25)))


def _scale(largest: float) -> tuple[float, float]:
    """Step and end of an axis from 0 with at most five steps of 1, 2 or 5 times a power of ten."""
    rough = max(largest, 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return step, step * math.ceil(max(largest, 1.0) / step - 1e-9)
