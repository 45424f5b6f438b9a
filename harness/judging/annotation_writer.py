"""Appends annotations to their file in batches, by number and by time, and writes the rest however the work ends."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator

from implicit_if.harness.annotations import Annotation, AnnotationStore
from implicit_if.harness.errors import UserError


class AnnotationWriter:
    """Writes a batch when it is full or old enough, also while nothing more arrives; use as a context manager.

    Args:
        store: The file.
        every: Annotations after which it is written and synced.
        seconds: Seconds after which it is written.
    """

    def __init__(self, store: AnnotationStore, every: int, seconds: float) -> None:
        self.store, self._every, self._seconds = store, every, seconds
        self._batch: list[Annotation] = []
        self._last = time.monotonic()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._fault: UserError | None = None

    def prepare(self) -> None:
        """Makes sure, before a verdict is paid for, that the file is a store and can be locked and written.

        Raises:
            UserError: If not.
        """
        try:
            self.store.append([])
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> None:
        self.prepare()
        self._last = time.monotonic()
        self._timer = threading.Thread(target=self._write_by_time, name="annotations", daemon=True)
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._timer.join()
        self.flush()

    def add(self, annotation: Annotation) -> None:
        """Adds one to the batch.

        Raises:
            UserError: If the file cannot be written.
        """
        with self._lock:
            self._batch.append(annotation)
            if self._fault is not None:
                raise self._fault
            if len(self._batch) >= self._every or time.monotonic() - self._last >= self._seconds:
                self.flush()

    def flush(self) -> None:
        """Writes the batch."""
        with self._lock:
            try:
                self.store.append(self._batch)
            except OSError as error:
                raise self._unwritable(error) from error
            self._batch = []  # only now: an interrupted append is repeated, and a verdict stored twice does no harm
            self._last = time.monotonic()

    def _write_by_time(self) -> None:
        while not self._ended.wait(max(self._seconds, 0.05)):
            try:
                self.flush()
            except UserError as error:
                self._fault = error
                return

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.store.path}: annotations cannot be written ({error}). Expected a file on a disk with room; fix "
            f"that or choose another file, and run the same command again."
        )


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the program as `sys.exit` does, so that every `finally` runs, unless the program handles it."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
