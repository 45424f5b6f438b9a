"""Printable text on a terminal: its width, its wrapping, and several texts that grow side by side."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TextIO

_GAP = " │ "
_CLEAR = "\r\x1b[K"
NARROWEST = 30
"""Columns thinner than this are no longer read: texts then stand one below the other."""


def cells(text: str) -> int:
    """Columns that printable text takes on a terminal: 2 for wide characters, 0 for marks that combine."""
    return sum(_cells(c) for c in text)


def _cells(c: str) -> int:
    if c.isascii():
        return 1
    if unicodedata.category(c) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Text padded to a width; longer text is left as it is."""
    pad = " " * (width - cells(text))
    return pad + text if right else text + pad


def wrap(text: str, width: int) -> list[str]:
    """Printable text as rows of at most `width` columns, broken at spaces where there are some.

    A text that goes on keeps all its rows but the last, so that rows can be printed while it grows.

    Args:
        text: Printable text.
        width: At least 2.
    """
    return [row for line in text.split("\n") for row in _wrap_line(line, width)]


def _wrap_line(line: str, width: int) -> list[str]:
    rows, used = [""], 0
    for piece in re.findall(r"\S+|\s+", line):
        size = cells(piece)
        if used + size <= width:
            rows[-1], used = rows[-1] + piece, used + size
        elif piece.isspace():
            rows, used = [*rows, ""], 0  # the break takes its place
        else:
            if rows[-1].strip():
                rows, used = [*rows, ""], 0
            for c in piece:
                if used + _cells(c) > width:
                    rows, used = [*rows, ""], 0
                rows[-1], used = rows[-1] + c, used + _cells(c)
    return rows[:-1] if len(rows) > 1 and not rows[-1] else rows


def column_width(terminal: int, columns: int) -> int | None:
    """The width of each column, or None if texts must stand one below the other."""
    width = (terminal - len(_GAP) * (columns - 1)) // columns
    return width if columns > 1 and width >= NARROWEST else None


class Columns:
    """Texts that grow side by side.

    A row is printed for good when no column can change it any more; on a terminal the row after it is shown as it
    grows. Nothing is ever moved up, so texts longer than the screen scroll as any other.
    """

    def __init__(self, out: TextIO, count: int, width: int, *, live: bool) -> None:
        """Starts below what is on the screen.

        Args:
            out: Where to write.
            count: Columns.
            width: Of each.
            live: Whether `out` understands ANSI escapes.
        """
        self._out, self._count, self._width, self._live = out, count, width, live
        self._printed = 0

    def show(self, texts: Sequence[str], done: Sequence[bool]) -> None:
        """Prints what is new.

        Args:
            texts: Every column's printable text so far.
            done: Which of them are complete.
        """
        columns = [wrap(text, self._width) for text in texts]
        longest = max(map(len, columns))
        fixed = min(longest if end else len(rows) - 1 for rows, end in zip(columns, done, strict=True))
        if self._live:
            self._out.write(_CLEAR)
        for row in range(self._printed, fixed):
            self._out.write(self._row(columns, row) + "\n")
        self._printed = max(self._printed, fixed)
        if self._live and self._printed < longest:
            self._out.write(self._row(columns, self._printed))
        self._out.flush()

    def _row(self, columns: Sequence[Sequence[str]], row: int) -> str:
        parts = [rows[row] if row < len(rows) else "" for rows in columns]
        return _GAP.join(fit(part, self._width) for part in parts).rstrip()
