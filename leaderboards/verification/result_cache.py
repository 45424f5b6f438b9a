"""Verified submissions as bytes: what worker processes hand over and what the cache keeps.

One line of JSON, then the arrays as little-endian binary. Nothing is unpickled; a record that does not fit its header
is treated as absent.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from implicit_if.harness import chat_templates, instructions, judging, stats
from implicit_if.harness.judging.attempts import is_installed
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import row_bytes
from implicit_if.leaderboards.submission.schema import Metadata
from implicit_if.leaderboards.verification.answers import SKETCH
from implicit_if.leaderboards.verification.result import Verified

_ID = 16
_SOURCES = (".py", ".json", ".jsonl", ".jinja", ".yaml")


@cache
def code_sha256() -> str:
    """Hex sha256 over the source of everything that shapes a verification: another version verifies again."""
    harness = Path(str(stats.__file__)).parents[1]
    files = {
        harness / name
        for name in (
            "annotations.py",
            "answer_form.py",
            "answer_settings.py",
            "columns.py",
            "outputs.py",
            "safe_text.py",
            "scores.py",
            "signature.py",
            "storage.py",
        )
    }
    for package in (chat_templates, instructions, judging, stats):
        files |= {p for p in Path(str(package.__file__)).parent.rglob("*") if p.suffix in _SOURCES}
    files |= set(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(str(is_installed()).encode())
    for path in sorted(files, key=lambda p: (p.name, str(p))):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def encode(verified: Verified) -> bytes:
    """A verified submission as bytes."""
    orders = list(verified.by_order)
    header: dict[str, Any] = {
        "id": verified.id,
        "metadata": verified.metadata.model_dump(mode="json"),
        "badge": verified.badge,
        "scores": {name: score.model_dump(mode="json") for name, score in verified.scores.items()},
        "form": verified.form,
        "orders": orders,
        "n": len(verified.instruction_ids),
        "attempts": bool(verified.attempts.size),
        "outputs_sha256": verified.outputs_sha256,
        "sha256": verified.sha256,
        "notes": list(verified.notes),
    }
    columns = [
        verified.preferences,
        *([verified.attempts] if verified.attempts.size else []),
        *(verified.by_order[o] for o in orders),
    ]
    arrays = b"".join(column.astype("<f8").tobytes() for column in columns)
    ids = "".join(verified.instruction_ids).encode("ascii")
    numbers = b"".join(part.astype("<u4").tobytes() for part in (verified.lengths, verified.answers))
    return row_bytes(header) + b"\n" + ids + arrays + numbers + verified.pairs.astype("<u8").tobytes()


def decode(data: bytes, folder: Path) -> Verified:
    """The inverse of `encode`.

    Raises:
        ValueError: If it is no such record.
    """
    line, _, rest = data.partition(b"\n")
    try:
        header = json.loads(line)
        n, orders, attempts = header["n"], header["orders"], bool(header["attempts"])
        columns = 1 + attempts + len(orders)
        if len(rest) != n * (_ID + 8 * (2 + columns) + 4 * SKETCH):
            raise ValueError("a record of another length than its header says")
        numbers = np.frombuffer(rest, "<f8", n * columns, n * _ID).astype(np.float64).reshape(columns, n)
        return Verified(
            id=header["id"],
            folder=folder,
            metadata=_metadata(json.dumps(header["metadata"], sort_keys=True)),
            badge=header["badge"],
            scores={name: Score.model_validate(score) for name, score in header["scores"].items()},
            form=header["form"],
            instruction_ids=_ids(rest[: n * _ID]),
            preferences=numbers[0],
            attempts=numbers[1] if attempts else np.zeros(0),
            by_order={order: numbers[1 + attempts + position] for position, order in enumerate(orders)},
            lengths=np.frombuffer(rest, "<u4", 2 * n, len(rest) - (16 + 4 * SKETCH) * n)
            .astype(np.uint32)
            .reshape(2, n),
            answers=np.frombuffer(rest, "<u4", SKETCH * n, len(rest) - (8 + 4 * SKETCH) * n)
            .astype(np.uint32)
            .reshape(n, SKETCH),
            pairs=np.frombuffer(rest, "<u8", n, len(rest) - 8 * n).astype(np.uint64),
            outputs_sha256=header["outputs_sha256"],
            sha256=header["sha256"],
            notes=tuple(header["notes"]),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("not a record of a verified submission") from error


@lru_cache(maxsize=64)
def _ids(data: bytes) -> tuple[str, ...]:
    """Instruction ids; all submissions over one set share the tuple."""
    text = data.decode("ascii")
    return tuple(text[start : start + _ID] for start in range(0, len(text), _ID))


def _metadata(text: str) -> Metadata:
    return Metadata.model_validate_json(text)
