"""The runner's memory and its pen: what is known of each comparison, and the batches that go to the file."""

from __future__ import annotations

import math
import time
from array import array

from implicit_if.harness.annotations import Annotation, AnnotationStore
from implicit_if.harness.errors import UserError


class Ledger:
    """What is known of each comparison, in columns: an entry takes some 150 bytes however long the answers are."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self.preference = array("d")
        self.latency = array("d")
        self.cost = array("d")
        self.errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.preference)

    def row(self, key: str) -> int:
        """The key's row, a new one for a new key; 128 of its bits tell keys apart."""
        row = self._rows.setdefault(bytes.fromhex(key[:32]), len(self))
        if row == len(self):
            for column in (self.preference, self.latency, self.cost):
                column.append(math.nan)
        return row

    def is_open(self, row: int) -> bool:
        """True if the comparison has no verdict."""
        return math.isnan(self.preference[row])

    def reopen(self, row: int) -> None:
        """Forgets a verdict that no longer holds."""
        self.preference[row] = math.nan

    def enter(self, row: int, annotation: Annotation) -> None:
        """Enters a verdict, or the error of a failed one."""
        if annotation.preference is None:
            self.errors[row] = annotation.error or ""
            return
        self.errors.pop(row, None)
        self.preference[row] = annotation.preference
        self.latency[row] = math.nan if annotation.latency is None else annotation.latency
        self.cost[row] = math.nan if annotation.cost is None else annotation.cost


class Writer:
    """Appends annotations in batches; leaving the block, however it is left, writes the rest."""

    def __init__(self, store: AnnotationStore, every: int, seconds: float) -> None:
        self.store, self._every, self._seconds = store, every, seconds
        self._batch: list[Annotation] = []
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """Makes sure that the file can be written before a verdict is paid for."""
        try:
            self.store.path.parent.mkdir(parents=True, exist_ok=True)
            self.store.path.open("ab").close()
        except OSError as error:
            raise self._unwritable(error) from error
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, annotation: Annotation) -> None:
        self._batch.append(annotation)
        if len(self._batch) >= self._every or time.monotonic() - self._last >= self._seconds:
            self.flush()

    def flush(self) -> None:
        try:
            self.store.append(self._batch)
        except OSError as error:
            raise self._unwritable(error) from error
        self._batch = []  # only now: an interrupted append is repeated, and a verdict stored twice does no harm
        self._last = time.monotonic()

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.store.path}: annotations cannot be written ({error}). Expected a file on a disk with room; mend "
            f"that or choose another file, and run the same command again."
        )
