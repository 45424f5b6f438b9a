"""Markdown of our own as a terminal shows it: tables aligned, escapes that a renderer would take away undone."""

from __future__ import annotations

import re
from html import unescape
from itertools import groupby

from implicit_if.harness.safe_text import printable

_CODE = re.compile(r"(?<![\\`])(`+).*?\1(?!`)")
_ESCAPE = re.compile(r"\\([^\w\s])")
_CELL = re.compile(r"(?<!\\)\|")
_WIDEST = 48
"""Characters of a cell's line."""


def plain_text(markdown: str) -> str:
    """The text for a terminal.

    Args:
        markdown: What our reports write, in which texts of others were escaped by `safe_text`: no escape of a terminal
            can come out of it.
    """
    blocks = groupby(markdown.splitlines(), key=lambda line: line.startswith("|"))
    return "\n".join(_table(list(lines)) if table else "\n".join(map(_plain, lines)) for table, lines in blocks)


def _table(lines: list[str]) -> str:
    from tabulate import tabulate

    head, _, *rows = [[_plain(cell.strip()) for cell in _CELL.split(line)[1:-1]] for line in lines]
    return tabulate(rows, headers=head, disable_numparse=True, maxcolwidths=_WIDEST)


def _plain(line: str) -> str:
    """A line without its escapes; code spans stand as they are."""
    parts, start = [], 0
    for code in _CODE.finditer(line):
        parts += [_unescaped(line[start : code.start()]), code[0]]
        start = code.end()
    return printable("".join([*parts, _unescaped(line[start:])]), lines=False)


def _unescaped(text: str) -> str:
    return unescape(_ESCAPE.sub(r"\1", text.replace("**", "")))  # ours are bold; theirs are escaped
