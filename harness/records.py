"""Append-only JSON Lines that survive kill -9 and serve several processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.files import locked


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yields every complete line of a JSON Lines file; a missing file has none.

    A last line without its newline is what an interrupted write leaves behind: it is skipped, and
    `append_records` later cuts it off. Any other broken line is damage, and is an error.

    Raises:
        UserError: If the file cannot be read, or a complete line is not a JSON object; names the file and the line.
    """
    file_path = Path(path)
    if not file_path.exists():
        return
    try:
        opened = open(file_path, "rb")  # noqa: SIM115  only errors of opening are the file's
    except OSError as error:
        raise UserError(
            f"{file_path}: cannot be read ({error}). Expected a JSON Lines file; name another one."
        ) from error
    with opened as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{file_path}, line {number}: not JSON ({error}). Expected one JSON object a line. "
                    f"Move the file away to start anew, or delete that line."
                ) from error
            if not isinstance(record, dict):
                raise UserError(
                    f"{file_path}, line {number}: found a {type(record).__name__}, expected a JSON object. "
                    f"Move the file away to start anew, or delete that line."
                )
            yield record


def append_records(path: str | os.PathLike[str], records: Iterable[dict[str, Any]]) -> None:
    """Appends records in one locked write followed by fsync; a torn last line is cut off first.

    Args:
        path: The JSON Lines file; it and its folder are created.
        records: Values that JSON can hold; non-ASCII text is escaped, so lone surrogates survive.
    """
    data = b"".join(json.dumps(r, sort_keys=True, allow_nan=False).encode("ascii") + b"\n" for r in records)
    if not data:
        return
    file_path = Path(path)
    file_path.parent.mkdir(parents=True, exist_ok=True)
    with locked(file_path), open(file_path, "ab+") as file:
        _cut_torn_line(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    keep = end
    while keep > 0:
        start = max(0, keep - 65536)
        file.seek(start)
        block = file.read(keep - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep != end:
        file.truncate(keep)
