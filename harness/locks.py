"""Locks between processes: who waits says so."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_PATIENCE = 2.0
"""Seconds of waiting before it is said."""


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
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=min(timeout, _PATIENCE) if timeout >= 0 else _PATIENCE)
    except filelock.Timeout:
        if 0 <= timeout <= _PATIENCE:
            raise
        print(f"waiting for {path}, which another process holds ({lock})", file=sys.stderr)
        held.acquire(timeout=timeout)
    try:
        yield
    finally:
        held.release()


def hold(file: IO[Any], waiting: str, patience: float = _PATIENCE) -> None:
    """Locks an open file until everybody has closed it: a child process that inherited it holds it, too.

    Args:
        file: The file.
        waiting: What is said where another process holds it.
        patience: Seconds before that is said.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = threading.Timer(patience, lambda: print(waiting, file=sys.stderr, flush=True))
        told.start()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        finally:
            told.cancel()


@contextlib.contextmanager
def holding(file: IO[Any], waiting: str) -> Iterator[None]:
    """Locks an open file for a block, as `hold`, and unlocks it, whoever else has it open."""
    import fcntl

    hold(file, waiting)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
