"""Files: strict reading, atomic writing, canonical bytes, hashes, the cache folder.

Knows nothing of what the files mean; others may read and write them at the same moment.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from implicit_if.harness.errors import UserError, raise_all

CACHE_VARIABLE = "IMPLICIT_IF_CACHE"


def cache_dir() -> Path:
    """The user's cache folder, not created yet.

    `$IMPLICIT_IF_CACHE`, else `$XDG_CACHE_HOME/implicit-if`, else the platform's cache folder.
    """
    if override := os.environ.get(CACHE_VARIABLE):
        return Path(override).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "implicit-if"
    import platformdirs

    return Path(platformdirs.user_cache_dir("implicit-if", appauthor=False))


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    r"""Opens a temporary file beside `path` that replaces it only if the block ends without an error.

    Args:
        path: The file to write; its folder is created. A device or pipe is written to, not replaced; "-" is standard
            output.
        mode: "w" (UTF-8 text, `\n` line ends) or "wb".
    """
    if str(path) in ("-", "/dev/stdout"):  # which may be a file that a shell writes to
        sys.stdout.flush()
        yield sys.stdout.buffer if "b" in mode else sys.stdout
        return
    target = Path(os.path.realpath(path))  # a link keeps pointing where it does
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):  # a device or a pipe
        with open(target, mode, **text) as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with open(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide the file from the user's group
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str], option: str = "--out") -> None:
    """Makes sure, before anything is paid for, that `atomic_write` can write a file; nothing is left on the disk.

    Args:
        path: The file; it and its folders may be there or not.
        option: What named it, for the message.

    Raises:
        UserError: If the file has an impossible name, is a folder, or its folder cannot be written to.
    """
    if str(path) in ("-", "/dev/stdout"):
        return
    try:
        target = Path(os.path.realpath(path))
        if os.path.isdir(target):
            raise IsADirectoryError("it is a folder")
        if os.path.exists(target) and not os.path.isfile(target):  # a device or a pipe, which is written to
            return
        folder = next(parent for parent in target.parents if os.path.lexists(parent))
        most = os.pathconf(folder, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > most for part in target.relative_to(folder).parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"{option} {path}: cannot be written ({why}). Expected a file in a folder you may write to."
        ) from error


def print_or_write(text: str, path: Path | None) -> None:
    """Prints a command's result as it is, or writes it atomically where `--out` names a file."""
    if path is None:
        print(text, end="")
    else:
        with atomic_write(path) as file:
            file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` atomically as indented UTF-8 JSON with a final newline; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with atomic_write(path, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a lone surrogate becomes its JSON escape


_encode_row = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


# Canonical bytes: equal values are equal bytes, whatever the locale, time zone, hash seed and platform. Only ASCII, so
# that a reviewer sees every control and bidirectional character as its escape.
def row_bytes(row: Mapping[str, Any]) -> bytes:
    """One canonical line of JSON Lines, without its newline."""
    return _encode_row(row).encode("ascii")


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Canonical JSON Lines, one object a line, in the order given."""
    return "".join([_encode_row(row) + "\n" for row in rows]).encode("ascii")


def json_bytes(value: Any) -> bytes:
    """A canonical, indented JSON file."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def yaml_bytes(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """A canonical YAML file: the keys in the order given, non-ASCII text escaped."""
    import yaml

    # SafeDumper, not libyaml's: the two fold long lines differently
    text = yaml.dump(value, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=False, width=110)
    return str(text).encode("ascii")


def read_json(path: str | os.PathLike[str], expected: str) -> Any:
    """The value of a JSON file; a byte order mark is skipped.

    Args:
        path: The file.
        expected: What it should be, for messages, e.g. "lm-eval's results".

    Raises:
        UserError: If the file is missing, cannot be read, or is not JSON in UTF-8.
    """
    with _readable(path, expected):
        return _json(Path(path).read_text(encoding="utf-8-sig"), str(path), expected)


def read_rows(path: str | os.PathLike[str], expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a `.jsonl` file, one a line, or of a JSON list, each with its place in the file.

    A place is "line 3" as an editor counts, or "row 3" of a list; both count from 1. Empty lines are skipped.

    Args:
        path: The file.
        expected: What it should be, for messages, e.g. "a file of outputs".

    Raises:
        UserError: As `read_json`, and for rows that are no objects; after the last row, names every bad one.
    """
    faults: list[UserError] = []
    if Path(path).suffix.lower() == ".jsonl":
        with _readable(path, expected), open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip() in ("{", "["):
                    raise UserError(
                        f"{path}, line {number}: the JSON goes on over several lines. Expected {expected}: one object "
                        f"a line; give a list of objects the ending .json."
                    )
                if line.strip():
                    try:
                        yield _object(_json(line, f"{path}, line {number}", expected), path, f"line {number}")
                    except UserError as error:
                        faults.append(error)
        raise_all(faults, path)
        return
    rows = read_json(path, expected)
    if not isinstance(rows, list):
        raise UserError(
            f"{path}: found {type(rows).__name__}, expected a list of objects. One object a line belongs in a "
            f".jsonl file."
        )
    for number, row in enumerate(rows, start=1):
        try:
            yield _object(row, path, f"row {number}")
        except UserError as error:
            faults.append(error)
    raise_all(faults, path)


def read_yaml(path: str | os.PathLike[str], expected: str) -> dict[str, Any]:
    """The keys and values of a YAML file; arguments as in `read_json`.

    Raises:
        UserError: If the file is missing, cannot be read, is not YAML in UTF-8, or has no keys that are texts.
    """
    import yaml

    with _readable(path, expected):
        text = Path(path).read_text(encoding="utf-8-sig")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({error}). Expected {expected}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {type(value).__name__}, expected keys and values: {expected}.")
    if odd := [key for key in value if not isinstance(key, str)]:
        raise UserError(f"{path}: the key {odd[0]!r} is no text. Expected {expected}.")
    return value


@contextlib.contextmanager
def _readable(path: str | os.PathLike[str], expected: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Expected {expected}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Expected UTF-8: {expected}.") from error


def _json(text: str, place: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = str(error).replace("line 1 column", "column")
        raise UserError(
            f"{place}: not JSON ({detail}); the file may have been cut off. Expected {expected}: one JSON object a "
            f"line in a .jsonl file, otherwise JSON."
        ) from error


def _object(value: Any, path: str | os.PathLike[str], place: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict):
        hint = " A list of rows is a file that ends in .json." if isinstance(value, list) else ""
        raise UserError(f"{path}, {place}: found {type(value).__name__}, expected an object.{hint}")
    return place, value


def sha256_text(text: str) -> str:
    """Hex sha256 of the text as UTF-8; lone surrogates, which UTF-8 cannot hold, are kept distinct."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON: sorted keys, no spaces."""
    return sha256_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
