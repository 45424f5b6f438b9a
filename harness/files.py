"""Files other processes may read or write at the same moment: atomic writes, locks, hashes, the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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
        path: The file to write; its folder is created.
        mode: "w" (UTF-8 text, `\n` line ends) or "wb".
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
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


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` atomically as indented UTF-8 JSON with a final newline; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with atomic_write(path, "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a lone surrogate becomes its JSON escape


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], timeout: float = -1) -> Iterator[None]:
    """Holds the lock file `<path>.lock` against other processes and threads.

    Args:
        path: What the lock protects; it need not exist.
        timeout: Seconds to wait; -1 waits for ever.

    Raises:
        filelock.Timeout: If the lock is still held after `timeout`.
    """
    import filelock

    lock = Path(f"{os.fspath(path)}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock, timeout=timeout):
        yield


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
