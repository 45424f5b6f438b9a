"""Reading a local data file of any shape the hub uses: jsonl, json, csv, parquet, or lines of text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from implicit_if.harness.csv_rows import csv_rows
from implicit_if.harness.errors import UserError, raise_all
from implicit_if.harness.storage import read_rows

Record = dict[str, Any]
Placed = tuple[str, Record]
"""A row and its place in the file: "line 3" as an editor counts, or "row 3" where a row is no line; from 1."""


def read_file(
    path: str | Path, null_words: Collection[str] = (), broken: list[UserError] | None = None
) -> list[Placed]:
    """Reads every row of a data file, with its place.

    Args:
        path: `.jsonl` (an object a line), `.json` (a list of objects), `.csv` (a header; every cell is text, empty
            ones are None), `.parquet`, or `.txt`/`.pgn` (rows with one field, `text`, a line each).
        null_words: Texts that a CSV file writes for None.
        broken: Takes the errors of rows that cannot be read, to be raised with others; None raises them here.

    Raises:
        UserError: If the file is missing, of another kind, broken (names every such line) or holds no rows.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        inside = ", ".join(sorted(p.name for p in source.iterdir() if p.suffix.lower() in _READERS)[:5]) or "none"
        raise UserError(f"{source}: is a folder. Expected one file of training data (found in it: {inside}).")
    if not source.is_file():
        raise UserError(f"{source}: no such file. Expected training data; give it with --data PATH.")
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise UserError(f"{source}: ends in {source.suffix!r}, expected one of {', '.join(sorted(_READERS))}.")
    rows: list[Placed] = []
    faults: list[UserError] = []
    try:
        for item in reader(source):
            if isinstance(item, UserError):
                faults.append(item)
            else:
                rows.append(item)
    except UserError as error:
        faults.append(error)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({error}). Expected UTF-8.") from error
    if broken is None:
        raise_all(faults)
    else:
        broken += faults
    if not rows and not faults:
        raise UserError(f"{source}: found 0 rows. Expected at least one.")
    if null_words and reader is csv_rows:
        return [(place, {k: None if v in null_words else v for k, v in row.items()}) for place, row in rows]
    return rows


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a parquet file ({error}).") from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _lines(path: Path) -> Iterator[Placed]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            yield f"line {number}", {"text": line.rstrip("\n")}


_READERS: dict[str, Callable[[Path], Iterator[Placed | UserError]]] = {
    ".jsonl": partial(read_rows, expected="training data"),
    ".json": partial(read_rows, expected="training data"),
    ".csv": csv_rows,
    ".parquet": _parquet,
    ".txt": _lines,
    ".pgn": _lines,
}
