"""Instruction sets from files: the one that ships with the package, and the user's own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.sets import Instruction, InstructionSet, content_sha256, parse_instructions

BUILTIN_FILE = Path(__file__).with_name("builtin.jsonl")


def load_builtin() -> InstructionSet:
    """The 80 instructions that ship with the package."""
    items = tuple(replace(item, dataset="builtin") for item in read_instructions(BUILTIN_FILE))
    return InstructionSet("builtin", content_sha256(items), licence="Apache-2.0", shippable=True, items=items)


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file. Expected a .json or .jsonl file of instructions, or instructions=builtin."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Expected a UTF-8 .json or .jsonl file.") from error
    rows = _json_lines(text, path) if path.suffix == ".jsonl" else _json_list(text, path)
    return parse_instructions(rows, str(path))


def _json_list(text: str, path: Path) -> list[tuple[str, Any]]:
    rows = _json(text, str(path))
    if not isinstance(rows, list):
        raise UserError(
            f"{path}: found {type(rows).__name__}, expected a JSON list of objects with `instruction`. "
            f"One object a line belongs in a .jsonl file."
        )
    return [(f"row {number}", row) for number, row in enumerate(rows)]


def _json_lines(text: str, path: Path) -> list[tuple[str, Any]]:
    # Not splitlines(): it also cuts at separators such as U+2028, which may stand inside a JSON string.
    lines = enumerate(text.split("\n"), start=1)
    return [(f"line {number}", _json(line, f"{path}, line {number}")) for number, line in lines if line.strip()]


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{place}: not JSON ({error}). Expected a JSON list in .json, or one JSON object a line in .jsonl."
        ) from error
