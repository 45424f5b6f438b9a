"""Sentence embeddings that are remembered in a file, so that a fit which was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder


class CachedEmbedder(SentenceEmbedder):
    """As `SentenceEmbedder`; vectors are kept in memory and in the file.

    Args:
        path: An SQLite file, made where there is none; None keeps them in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(kept=1)
        self._file = sqlite3.connect(path or ":memory:", timeout=600, isolation_level=None)
        self._file.execute("create table if not exists e(k blob primary key, v blob)")
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def embed(self, text: str) -> NDArray[np.float32]:
        key = hashlib.sha1(text.encode()).digest()
        if key not in self._known:
            row = self._file.execute("select v from e where k=?", (key,)).fetchone()
            self._known[key] = self._compute(text) if row is None else np.frombuffer(row[0], np.float32)
            if row is None:
                self._file.execute("insert or replace into e values(?, ?)", (key, self._known[key].tobytes()))
        return self._known[key]
