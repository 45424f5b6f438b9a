"""Instruction sets from files: the one that ships with the package, and the user's own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from implicit_if.harness.instructions.sets import Instruction, InstructionSet, content_sha256, parse_instructions
from implicit_if.harness.storage import read_rows

SHIPPED = ("builtin", "validation")
"""The sets whose texts ship with the package: 80 instructions to report on, 56 to make choices on."""


def load_shipped(name: str) -> InstructionSet:
    """One of `SHIPPED`."""
    items = tuple(replace(item, dataset=name) for item in read_instructions(Path(__file__).with_name(f"{name}.jsonl")))
    return InstructionSet(name, content_sha256(items), licence="Apache-2.0", shippable=True, items=items)


def load_file(path: Path) -> InstructionSet:
    """A set from the user's file, named after it; nothing is known about its licence, so texts are not shipped.

    Raises:
        UserError: See `read_instructions`.
    """
    items = read_instructions(path)
    # The name becomes part of signatures, where these characters separate fields.
    name = re.sub(r"[^\w.-]+", "-", path.stem) or "file"
    return InstructionSet(name, content_sha256(items), licence="unknown", shippable=False, items=items)


def read_instructions(path: Path) -> tuple[Instruction, ...]:
    """Reads a JSON list (alpaca-eval's files too) or JSON Lines of objects with `instruction`.

    Raises:
        UserError: If the file cannot be read, is not JSON, or has wrong rows; names the file and the rows.
    """
    rows = read_rows(path, "a .json or .jsonl file of instructions, or instructions=builtin")
    return parse_instructions(list(rows), str(path))
