"""What a submission's answers are, whatever its metadata say: copies, controls, and texts that are no language."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness.controls import Control, control_answers
from implicit_if.harness.outputs import instruction_id
from implicit_if.leaderboards.submission.data_files import OutputRow
from implicit_if.leaderboards.verification.names import folded

TELLING_LENGTH = 30
"""Letters from which equal answers of two systems mean something."""
_NO_LETTERS = bytes(set(range(128)) - set(string.ascii_letters.encode()))
_OF_SYSTEMS = ("longest_of_two", "other_instruction")


def letters(text: str) -> bytes:
    """The letters of a text, so that a copy with other spaces, marks, capitals or look-alike letters is the same."""
    if text.isascii():
        return text.encode().translate(None, _NO_LETTERS).lower()
    return "".join(filter(str.isalpha, folded(text))).encode("utf-8", "replace")


def fingerprints(rows: Sequence[OutputRow]) -> NDArray[np.uint64]:
    """`[n]` a hash of each answer's letters; 0 for answers too short to tell systems apart."""
    found = (letters(row["output"]) for row in rows)
    hashes = (hashlib.blake2b(text, digest_size=8).digest() if len(text) >= TELLING_LENGTH else b"" for text in found)
    return np.array([int.from_bytes(digest, "little") for digest in hashes], dtype=np.uint64)


def is_control(control: Control, rows: Sequence[OutputRow], texts: Mapping[str, str]) -> bool | None:
    """Whether the answers are a control's.

    Args:
        control: Which.
        rows: The answers.
        texts: Instructions' texts by id, as far as they are known.

    Returns:
        None for controls that are made of other systems' answers, and where a text that is needed is not known.
    """
    if control in _OF_SYSTEMS:
        return None
    known = {row["instruction_id"]: texts.get(row["instruction_id"]) for row in rows}
    if control == "echo":  # an id is a hash of the instruction, so that no text is needed
        return all(instruction_id(row["output"]) == row["instruction_id"] for row in rows)
    if control not in ("empty", "constant") and None in known.values():
        return None
    expected = control_answers(control, {key: text or "" for key, text in known.items()})
    return all(row["output"].strip() == expected[row["instruction_id"]].strip() for row in rows)
