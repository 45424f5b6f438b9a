"""Answers to one instruction beside each other, as text for a terminal."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from implicit_if.harness.safe_text import one_line, printable

_WIDTH = 100


def side_by_side(instruction: str | None, answers: Sequence[tuple[str, str]], limit: int = 1000) -> str:
    """An instruction and its answers: side by side if there are two, else below each other.

    Args:
        instruction: Its text; None where none is stored.
        answers: Heading and text of each.
        limit: Characters shown of each text; what is cut is said.
    """
    question = "(no text stored)" if instruction is None else _block(instruction, limit, _WIDTH)
    width = (_WIDTH - 3) // 2 if len(answers) == 2 else _WIDTH
    blocks = []
    for head, text in answers:
        line = one_line(head)
        blocks.append(f"{line}\n{'-' * len(line)}\n{_block(text, limit, width) or '(empty)'}")
    body = _columns(blocks[0], blocks[1], width) if len(blocks) == 2 else "\n\n".join(blocks)
    return f"{'=' * _WIDTH}\n{question}\n\n{body}"


def _block(text: str, limit: int, width: int) -> str:
    shown = text[:limit]
    lines = [
        part
        for line in shown.split("\n")
        for part in textwrap.wrap(printable(line), width, drop_whitespace=False) or [""]
    ]
    if len(text) > limit:
        lines.append(f"[{len(text) - limit} more characters]")
    return "\n".join(lines)


def _columns(left: str, right: str, width: int) -> str:
    rows = itertools.zip_longest(left.split("\n"), right.split("\n"), fillvalue="")
    return "\n".join(f"{a:<{width}} | {b}".rstrip() for a, b in rows)
