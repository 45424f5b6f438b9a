"""Reading a local data file of any shape the hub uses: jsonl, json, csv, parquet, or lines of text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError

Record = dict[str, Any]


def read_file(path: str | Path) -> list[Record]:
    """Reads every row of a data file.

    Args:
        path: `.jsonl` (an object a line), `.json` (a list of objects), `.csv` (a header; empty cells are None, as
            pandas reads them), `.parquet`, or `.txt`/`.pgn` (rows with one field, `text`, a line each).

    Raises:
        UserError: If the file is missing, of another kind, broken (names the line) or holds no rows.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise UserError(f"{source}: no such file. Expected training data; give it with --data PATH.")
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise UserError(f"{source}: ends in {source.suffix!r}, expected one of {', '.join(sorted(_READERS))}.")
    try:
        rows = list(reader(source))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({error}). Expected UTF-8.") from error
    if not rows:
        raise UserError(f"{source}: found 0 rows. Expected at least one.")
    return rows


def _jsonl(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: not JSON ({error}); the file may have been cut off. "
                    f"Expected one object a line; copy the file anew or delete the line."
                ) from error
            yield _object(row, f"{path}, line {number}")


def _json(path: Path) -> Iterator[Record]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path}: not JSON ({error}). Expected a list of objects; use .jsonl for one a line."
        ) from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: found {type(rows).__name__}, expected a list of objects.")
    for number, row in enumerate(rows):
        yield _object(row, f"{path}, row {number}")


def _csv(path: Path) -> Iterator[Record]:
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path}: not a CSV file ({error}). Expected a header and rows.") from error
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(key): value for key, value in row.items()}


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield from pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a parquet file ({error}).") from error


def _lines(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield {"text": line.rstrip("\n")}


def _object(row: Any, where: str) -> Record:
    if not isinstance(row, dict):
        raise UserError(f"{where}: found {type(row).__name__}, expected an object.")
    return row


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _lines,
    ".pgn": _lines,
}
