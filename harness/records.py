"""JSON Lines files that grow: appended to under a lock, and freed of what a killed process left half written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import holding


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yields every complete line of a JSON Lines file; a missing file has none.

    A last line without its newline is what an interrupted write leaves behind: it is skipped, and
    `append_records` later cuts it off. Any other broken line is damage, and is an error.

    Raises:
        UserError: If the file cannot be read, or a complete line is not a JSON object; names the file and the line.
    """
    file_path = Path(path)
    if not os.path.exists(file_path):  # also where the name is too long to be one
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
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{file_path}, line {number}: not JSON ({error}). Expected one JSON object a line. "
                    f"Move the file away to start afresh, or delete that line."
                ) from error
            if not isinstance(record, dict):
                raise UserError(
                    f"{file_path}, line {number}: found a {type(record).__name__}, expected a JSON object. "
                    f"Move the file away to start afresh, or delete that line."
                )
            yield record


def append_records(path: str | os.PathLike[str], records: Iterable[dict[str, Any]], begins: bytes = b"{") -> None:
    """Appends records in one locked write followed by fsync; an incomplete last line of ours is cut off first.

    Args:
        path: The JSON Lines file; it and its folder are created. Without records, this is all that is tried.
        records: Values that JSON can hold; non-ASCII text is escaped, so lone surrogates survive.
        begins: What each line begins with. A last line without its newline that begins otherwise is not ours.

    Raises:
        UserError: If the file is no regular file, or its last line is incomplete and not ours; nothing is changed.
    """
    data = b"".join(json.dumps(r, sort_keys=True, allow_nan=False).encode("ascii") + b"\n" for r in records)
    file_path = Path(path)
    file_path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.exists(file_path) and not os.path.isfile(file_path):
        raise UserError(f"{file_path}: not a regular file, so nothing can be kept in it. Name another file.")
    # the file itself is locked, as it is never replaced: no lock file is left beside a user's
    with open(file_path, "ab+") as file, holding(file, f"waiting for {file_path}, which another process holds"):
        keep = _whole_lines(file, file_path, begins)
        if data:
            file.truncate(keep)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(file: IO[bytes], path: Path, begins: bytes) -> int:
    """Bytes up to the last newline; what follows must be the beginning of a line of ours."""
    end = keep = file.seek(0, os.SEEK_END)
    while keep > 0:
        start = max(0, keep - 65536)
        file.seek(start)
        newline = file.read(keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    file.seek(keep)
    head = file.read(len(begins))
    if not begins.startswith(head[: end - keep]):
        raise UserError(
            f"{path}: its last line has no newline and is none of ours (it begins with {head!r}), so nothing is "
            f"changed. Name another file, or move this one away."
        )
    return keep
