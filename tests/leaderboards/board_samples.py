"""Verified submissions made up in memory, with scores that the harness's own statistics did not make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.signature import make_signature
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION, Metadata
from implicit_if.leaderboards.verification.result import Verified

IDS = tuple(f"{i:016x}" for i in range(20))
SHA = {name: name * 64 for name in "abcdef"}


def make_verified(
    name: str = "acme/parrot",
    revision: str = "v1",
    *,
    preferences: Sequence[float] | None = None,
    value: float | None = None,
    half: float = 5.0,
    badge: str = "recomputed",
    system: dict[str, Any] | None = None,
    instruction_set: dict[str, Any] | None = None,
    reference: dict[str, Any] | None = None,
    judge: dict[str, Any] | None = None,
    lc: str | None = "offline",
    form: dict[str, float | None] | None = None,
    ids: tuple[str, ...] = IDS,
    notes: tuple[str, ...] = (),
    **changes: Any,
) -> Verified:
    """A submission; `value` is its win rate, else the mean of `preferences`."""
    n = len(ids)
    told = np.array(preferences if preferences is not None else [0.5] * n)
    shown = float(100 * told.mean()) if value is None else value
    metadata = Metadata.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "task": "alpaca_winrate",
            "name": name,
            "revision": revision,
            "system": system or {"kind": "rules", "preset": "paper"},
            "base_model": {"name": "acme/base-1b"},
            "instruction_set": {"name": "made", "revision": SHA["a"], "n": n, "texts": False} | (instruction_set or {}),
            "reference": {"name": "sibling", "sha256": SHA["b"]} | (reference or {}),
            "judge": {"name": "embedded", "fingerprint": SHA["c"], "orders": ["none"]} | (judge or {}),
            "licence": "CC-BY-4.0",
            "files": {},
            **changes,
        }
    )
    scores = {"win_rate": _score(metadata, shown, half, None)}
    if lc is not None:
        scores["length_controlled_win_rate"] = _score(metadata, shown / 2, half, lc)
    recomputed = badge != "self-reported"
    return Verified(
        id=metadata.id,
        folder=Path("submissions") / metadata.id,
        metadata=metadata,
        badge=badge,
        scores=scores,
        form={"finish_rate": 90.0, "format_leak_rate": 1.0, "repetition": 2.0, "avg_length": 300.0, **(form or {})},
        instruction_ids=ids if recomputed else (),
        preferences=told if recomputed else np.zeros(0),
        by_order={order: told if recomputed else np.zeros(0) for order in metadata.judge.orders},
        lengths=np.full((2, n if recomputed else 0), 300, dtype=np.uint32),
        pairs=np.zeros(n if recomputed else 0, dtype=np.uint64),
        answers=np.zeros((n if recomputed else 0, 8), dtype=np.uint32),
        outputs_sha256=SHA["d"] if recomputed else None,
        sha256=SHA["e"],
        notes=notes,
    )


def _score(metadata: Metadata, value: float, half: float, lc: str | None) -> Score:
    signature = make_signature(
        instruction_set=metadata.instruction_set.name,
        instruction_revision=metadata.instruction_set.revision,
        n=metadata.instruction_set.n,
        reference=metadata.reference.name,
        reference_sha256=metadata.reference.sha256,
        judge=metadata.judge.name,
        fingerprint=metadata.judge.fingerprint,
        orders=len(metadata.judge.orders),
        lc=lc,
    )
    n = metadata.instruction_set.n
    interval = Interval(low=max(0.0, value - half), high=min(100.0, value + half), method="made", level=0.95)
    return Score(value=value, interval=interval, n_judged=n, n_expected=n, signature=signature)
