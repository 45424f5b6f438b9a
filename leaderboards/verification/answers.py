"""What a submission's answers are, whatever its metadata say: copies, controls, and texts that are no language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.controls import OF_SYSTEMS, Control, control_answers
from implicit_if.harness.outputs import instruction_id
from implicit_if.leaderboards.submission.data_files import OutputRow
from implicit_if.leaderboards.verification.names import folded

TELLING_LENGTH = 30
"""Letters from which equal answers of two systems mean something."""
SKETCH, ALIKE = 8, 3
"""Numbers that stand for an answer, and how many of them two answers have in common that are called one."""
_SHINGLE = 8
_ODD = np.random.default_rng(0).integers(0, 2**63, (2, SKETCH), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_FOLDED = "".join(folded(chr(code)) for code in range(128)).encode() + bytes(range(128, 256))
_NO_LETTERS = bytes(code for code in range(128) if not folded(chr(code)).isalnum())


def letters(text: str) -> str:
    """A text without spaces and marks; its capitals, accents and look-alike letters are folded."""
    if text.isascii():  # much faster, and the same
        return text.encode().translate(_FOLDED, _NO_LETTERS).decode()
    return "".join(filter(str.isalnum, folded(text)))


def sketches(rows: Sequence[OutputRow]) -> NDArray[np.uint32]:
    """`[n, SKETCH]` numbers that two answers share as far as they are made of the same pieces.

    The pieces are runs of eight letters, numbered where they come again, so that a loop is told from its beginning. Of
    each of several hash functions the least value over the pieces is kept: the share of equal ones estimates the
    Jaccard similarity (min-wise hashing, Broder 1997). All 0 for answers too short to tell systems apart.
    """
    found = np.zeros((len(rows), SKETCH), dtype=np.uint32)
    for row, numbers in zip(rows, found, strict=True):
        text = letters(row["output"])
        if len(text) >= TELLING_LENGTH:
            numbers[:] = _sketch(np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64))
    return found


def _sketch(codes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    count = len(codes) - _SHINGLE + 1
    pieces = np.zeros(count, dtype=np.uint64)
    for start in range(_SHINGLE):  # overflow is wanted: arithmetic modulo 2^64
        pieces = (pieces ^ codes[start : start + count]) * _ODD[0, start]
    pieces.sort()
    first = np.concatenate(([True], pieces[1:] != pieces[:-1]))
    positions = np.arange(count)
    again = (positions - np.maximum.accumulate(np.where(first, positions, 0))).astype(np.uint64)
    mixed = (pieces ^ again) * _ODD[0, 0]
    mixed ^= mixed >> np.uint64(29)
    least = (mixed[:, None] * _ODD[1]).min(axis=0) >> np.uint64(32)
    return np.asarray(np.maximum(least, np.uint64(1)), dtype=np.uint32)


def is_control(control: Control, rows: Sequence[OutputRow], texts: Mapping[str, str]) -> bool | None:
    """Whether the answers are a control's.

    Args:
        control: Which.
        rows: The answers.
        texts: Instructions' texts by id, as far as they are known.

    Returns:
        None for controls that are made of other systems' answers, and where a text that is needed is not known.
    """
    if control in OF_SYSTEMS:
        return None
    known = {row["instruction_id"]: texts.get(row["instruction_id"]) for row in rows}
    if control == "echo":  # an id is a hash of the instruction, so that no text is needed
        return all(instruction_id(row["output"]) == row["instruction_id"] for row in rows)
    if control not in ("empty", "constant") and None in known.values():
        return None
    expected = control_answers(control, {key: text or "" for key, text in known.items()})
    return all(row["output"].strip() == expected[row["instruction_id"]].strip() for row in rows)
