"""A board's figures as SVG: win rates with intervals, win rate against length, bars of a rule ablation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from implicit_if.harness.scores import Score
from implicit_if.harness.svg import (
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    PALE_GREEN,
    Bar,
    BarRow,
    bar_panels,
    document,
    line,
    shorten,
    text,
    whisker,
)
from implicit_if.harness.system_kinds import SYSTEM_KINDS
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.rows import Row

MOST = 40
"""Systems drawn in one figure; a larger board's figure shows its best and says how many there are."""

_ROW, _LABEL, _AXIS, _TOP = 24, 330, 420, 64


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
    width, height = _LABEL + _AXIS + 150, _TOP + _ROW * len(rows) + 40
    parts = [
        text(16, 20, shorten(_title(board, "Win rates"), 120), weight=600),
        text(16, 40, note, size=11, fill=MUTED),
    ]
    for tick in range(0, 101, 25):
        at = _LABEL + _AXIS * tick / 100
        parts.append(line(at, _TOP - 6, at, height - 30, MUTED if tick == 50 else GRID))
        parts.append(text(at, height - 16, f"{tick} %", anchor="middle", size=11))
    parts.append(text(width - 12, _TOP - 14, "tie group", anchor="end", size=11, fill=MUTED))
    for i, row in enumerate(rows):
        y = _TOP + _ROW * i + _ROW / 2
        parts.append(text(_LABEL - 14, y, shorten(_name(row), 46), anchor="end"))
        parts += _dot(row, y)
        parts.append(text(width - 12, y, str(board.groups.get(row.id, "-")), anchor="end", size=11))
    return document(width, height, _title(board, "Win rates with intervals"), parts)


def lengths(board: Board) -> str:
    """Mean answer length in characters against win rate, numbered, with a key."""
    rows, note = _shown([row for row in board.rows if row.form["avg_length"] is not None])
    plot, left, top = 420, 56, _TOP
    step, end = _scale(max([row.form["avg_length"] or 0.0 for row in rows], default=0.0))
    width, height = left + plot + 400, max(top + plot + 60, top + 20 * len(rows) + 20)
    title = _title(board, "Win rate against length")
    parts = [text(16, 20, shorten(title, 120), weight=600), text(16, 40, note, size=11, fill=MUTED)]
    for tick in range(0, 101, 25):
        y = top + plot * (1 - tick / 100)
        parts.append(line(left, y, left + plot, y, MUTED if tick == 50 else GRID))
        parts.append(text(left - 8, y, f"{tick} %", anchor="end", size=11))
    for k in range(round(end / step) + 1):
        x = left + plot * k * step / end
        parts.append(line(x, top, x, top + plot))
        parts.append(text(x, top + plot + 16, f"{k * step:g}", anchor="middle", size=11))
    parts.append(
        text(left + plot / 2, top + plot + 38, "mean length of an answer, characters", anchor="middle", size=11)
    )
    for number, row in enumerate(rows, start=1):
        x, y = left + plot * (row.form["avg_length"] or 0.0) / end, top + plot * (1 - (row.win_rate.value or 0.0) / 100)
        parts.append(_circle(x, y, row))
        parts.append(text(x + 8, y - 7, str(number), size=11))
        parts.append(text(left + plot + 24, top + 20 * number - 10, shorten(f"{number}  {_name(row)}", 56), size=12))
    return document(width, height, title, parts)


def ablation(board: Board) -> str:
    """Win rate, finish rate and format leakage of base, rules and each ablation."""
    several = len({row.base_model for row in board.rows}) > 1
    rows = [
        BarRow(
            shorten(f"{row.base_model}: {row.label}" if several else row.label, 40),
            GREY if row.kind == "base" else PALE_GREEN if row.is_ablation else GREEN,
            [
                Bar(row.win_rate.value, _ends(row.win_rate)),
                Bar(row.form["finish_rate"]),
                Bar(row.form["format_leak_rate"]),
            ],
        )
        for row in board.rows[:MOST]
    ]
    panels = (shorten(f"win rate against {board.key.reference}, %", 34), "finish rate, %", "format leak, %")
    return bar_panels(_title(board, "Rule ablation"), panels, rows, left=290 if several else 170)


def _shown(rows: Sequence[Row]) -> tuple[list[Row], str]:
    judged = sorted((r for r in rows if r.win_rate.value is not None), key=lambda r: (-(r.win_rate.value or 0.0), r.id))
    level = next((r.win_rate.interval.level for r in judged if r.win_rate.interval is not None), None)
    parts = [] if level is None else [f"{level:.0%} intervals"]
    if len(judged) > MOST:
        parts.append(f"the best {MOST} of {len(judged)} systems; all are in leaderboard.csv")
    if any(row.is_control for row in judged[:MOST]):
        parts.append("controls are hollow")
    return judged[:MOST], "; ".join(parts)


def _title(board: Board, what: str) -> str:
    key = board.key
    return f"{what}: {key.instruction_set} (n {key.n}) against {key.reference}, judged by {key.judge}"


def _name(row: Row) -> str:
    return f"{row.label} · {row.first.metadata.name}"


def _dot(row: Row, y: float) -> list[str]:
    def at(value: float) -> float:
        return _LABEL + _AXIS * value / 100

    value, ends = row.win_rate.value or 0.0, _ends(row.win_rate)
    parts = [] if ends is None else [whisker(at(ends[0]), at(ends[1]), y, SYSTEM_KINDS[row.kind].colour)]
    end = value if ends is None else ends[1]
    return [*parts, _circle(at(value), y, row), text(at(end) + 9, y, f"{value:.1f}", size=11, fill=INK)]


def _circle(x: float, y: float, row: Row) -> str:
    colour = SYSTEM_KINDS[row.kind].colour
    fill = "#ffffff" if row.is_control else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'


def _ends(score: Score) -> tuple[float, float] | None:
    return None if score.interval is None else (score.interval.low, score.interval.high)


def _scale(largest: float) -> tuple[float, float]:
    """Step and end of an axis from 0 with at most five steps of 1, 2 or 5 times a power of ten."""
    rough = max(largest, 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return step, step * math.ceil(max(largest, 1.0) / step - 1e-9)
