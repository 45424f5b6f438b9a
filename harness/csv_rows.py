"""Rows of CSV files: strict, with the place of each."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError


def csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]] | UserError]:
    """Yields the rows of a CSV file with a header, each with its place, e.g. "line 3" as an editor counts.

    Every cell is text, an empty one None. A row of another length than the header's is yielded as its error.

    Raises:
        UserError: If the file is empty or no CSV, or the header names a column twice or has no commas.
    """
    limit = csv.field_size_limit(sys.maxsize)  # a long text is no broken file; the limit is the whole process's
    try:
        yield from _rows(path)
    finally:
        csv.field_size_limit(limit)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]] | UserError]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        start = 1
        header: list[str] = []
        try:
            for cells in reader:
                line, start = start, reader.line_num + 1
                if not cells:
                    continue
                if not header:
                    header = _header(path, cells)
                elif len(cells) != len(header):
                    yield UserError(
                        f"{path}, line {line}: found {len(cells)} cells, expected {len(header)} as in the header "
                        f'({", ".join(header)}). Fix the row; put a text that holds a comma into quotes: "a, b".'
                    )
                else:
                    yield f"line {line}", {key: cell or None for key, cell in zip(header, cells, strict=True)}
        except csv.Error as error:
            raise UserError(
                f"{path}, line {start}: not a CSV file ({error}). Expected texts that hold a comma, a quote or a "
                f'line break in quotes, with quotes inside them doubled: "say ""hi""".'
            ) from error
        if not header:
            raise UserError(f"{path}: not a CSV file (it is empty). Expected a header and rows.")


def _header(path: Path, cells: list[str]) -> list[str]:
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise UserError(f"{path}: the header names {twice[0]!r} twice. Expected every column's own name; rename one.")
    if len(cells) == 1 and (wrong := next((mark for mark in ";\t" if mark in cells[0]), None)):
        raise UserError(
            f"{path}: the header is {cells[0]!r}, one column. Expected commas between columns, not {wrong!r}."
        )
    return cells
