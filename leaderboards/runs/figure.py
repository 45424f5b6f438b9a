"""A table of runs as a figure: bars with intervals, a panel a score; SVG, and PNG and PDF made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from implicit_if.harness.columns import Column
from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import atomic_write
from implicit_if.harness.svg import GREEN, Bar, BarRow, bar_panels
from implicit_if.harness.system_kinds import SYSTEM_KINDS
from implicit_if.leaderboards.runs.table import Table, TableRow

ENDINGS = (".svg", ".png", ".pdf")
_SCALE = 3
"""Pixels of a PNG per pixel of the SVG: enough for print."""


def draw(table: Table) -> str:
    """The scores of a table as SVG: a panel a score, a bar a system, intervals as whiskers.

    Raises:
        UserError: If no column of the table is a score.
    """
    panels = [column for column in table.columns if column.kind == "score"]
    if not panels:
        raise UserError("--columns: none of these is a score. Expected attempt_rate, win_rate or lc among them.")
    rows = [
        BarRow(
            row.name,
            GREEN if row.kind is None else SYSTEM_KINDS[row.kind].colour,
            [_bar(row, column) for column in panels],
        )
        for row in table.rows
    ]
    notes = [f"{column.label}: {str(table.signatures[column.name]).replace('|', '| ')}" for column in panels]
    return bar_panels(_title(table, panels), [column.label for column in panels], rows, [*table.notes, *notes])


def check_ending(path: Path) -> str:
    """The file's ending in lower case.

    Raises:
        UserError: If no figure can be written under it.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"--out {path}: ends in {ending or 'nothing'!r}. Expected one of {', '.join(ENDINGS)}.")
    return ending


def write(svg: str, path: Path) -> None:
    """Writes a figure as SVG, or as PNG or PDF by the file's ending.

    Raises:
        UserError: For another ending, or where what converts SVG is not installed.
    """
    ending = check_ending(path)
    data = svg.encode("utf-8") if ending == ".svg" else _converted(svg, ending)
    with atomic_write(path, "wb") as file:
        file.write(data)


def _converted(svg: str, ending: str) -> bytes:
    try:
        import cairosvg
    except (ImportError, OSError) as error:  # OSError: without the cairo library
        raise UserError(
            f"{ending} needs the package cairosvg and the cairo library ({type(error).__name__}). Install them with "
            f"pip install 'implicit-if[figures]' and, e.g., apt install libcairo2; or give --out FILE.svg."
        ) from error
    if ending == ".pdf":
        return bytes(cairosvg.svg2pdf(bytestring=svg.encode("utf-8")))
    return bytes(cairosvg.svg2png(bytestring=svg.encode("utf-8"), scale=_SCALE))


def _bar(row: TableRow, column: Column) -> Bar:
    score = row.scores.get(column.metric)
    if score is None:
        return Bar(None)
    return Bar(score.value, None if score.interval is None else score.interval.ends)


def _title(table: Table, panels: Sequence[Column]) -> str:
    told = [table.signatures[column.name] for column in panels]
    levels = {s.interval.level for row in table.rows for s in row.scores.values() if s.interval is not None}
    against = next((f"against {s.reference}, judged by {s.judge}" for s in told if s.reference), "")
    parts = [f"{told[0].instruction_set}, n {told[0].n}", against, *(f"{level:.0%} intervals" for level in levels)]
    return "; ".join(part for part in parts if part)
