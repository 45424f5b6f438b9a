"""The page: one HTML file that needs nothing but itself, and answers beside it where they do not fit.

A browser first loads at most `BUDGET` bytes. While all answers fit in, they are in the file; else each submission's
are in a script file of its own in `answers/`, which the page loads when a reader opens it. That works from a file,
too, where a page may not fetch.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.system_kinds import SYSTEM_KINDS
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.published import Published
from implicit_if.leaderboards.site import page_data
from implicit_if.leaderboards.verification.result import Verified, read_again, read_pairs

PARTS = Path(__file__).parent / "assets"
SCRIPTS = ("helpers.js", "board.js", "submission.js", "main.js")
"""Parts of one script, in this order."""
BUDGET = 5_000_000
ANSWERS = "answers"
"""The folder of the script files, beside the page."""


@dataclass(frozen=True)
class Page:
    """What belongs on disk.

    Attributes:
        html: The page.
        beside: By file name in `answers/`, the submission to write a payload of and whether it is the pairing's; empty
            where all answers are in the page.
    """

    html: str
    beside: Mapping[str, tuple[Verified, bool]]


def make_page(boards: Sequence[tuple[Board, Board | None]], published: Sequence[Published], version: str) -> Page:
    """The page of these boards.

    Args:
        boards: As `make_boards` returns them.
        published: Published numbers.
        version: Of implicit-if.
    """
    rows = page_data.page_rows(boards, published)
    shown = {m.id: m for main, rules in boards for b in (main, rules) if b for row in b.rows for m in row.members}
    members = [shown[i] for i in sorted(shown)]
    embedded = _embedded(members, BUDGET - len(_html(rows, {}, version, beside=False).encode("utf-8")))
    if embedded is not None:
        return Page(_html(rows, embedded, version, beside=False), {})
    beside: dict[str, tuple[Verified, bool]] = {}
    for member in members:
        beside[f"{page_data.payload_key(member)}.js"] = (member, False)
        if member.instruction_ids:
            beside.setdefault(f"{page_data.pairing_key(member)}.js", (member, True))
    return Page(_html(rows, {}, version, beside=True), beside)


def payload_file(member: Verified, pairing: bool) -> bytes:
    """The bytes of a file in `answers/`."""
    key, text = _pairing(member) if pairing else _payload(member)
    return f'implicitIf("{key}",{text});\n'.encode()


def _embedded(members: Sequence[Verified], budget: int) -> dict[str, str] | None:
    """JSON by key, if all answers together have at most `budget` bytes."""
    if sum(map(page_data.characters, members)) > budget:  # at least as many bytes: not worth reading them
        return None
    found: dict[str, str] = {}
    left = budget
    for key, text in _payloads(members):
        found[key] = text
        left -= len(_element(key, text).encode("utf-8")) + 1
        if left < 0:
            return None
    return found


def _payloads(members: Sequence[Verified]) -> Iterator[tuple[str, str]]:
    pairings = set()
    for member in members:
        yield _payload(member)
        if member.instruction_ids and page_data.pairing_key(member) not in pairings:
            pairings.add(page_data.pairing_key(member))
            yield _pairing(member)


def _payload(member: Verified) -> tuple[str, str]:
    outputs = _outputs(member) if member.instruction_ids else []
    return page_data.payload_key(member), page_data.dump(page_data.payload(member, outputs))


def _pairing(member: Verified) -> tuple[str, str]:
    return page_data.pairing_key(member), page_data.dump(page_data.pairing(read_pairs(member)))


def _outputs(member: Verified) -> list[dict[str, Any]]:
    """The rows of a verified submission's answers, without checking again what its hash vouches for."""
    outputs = read_again(member).rows("outputs")
    rows: list[dict[str, Any]] = json.loads(b"[" + outputs[:-1].replace(b"\n", b",") + b"]")
    return rows


def _html(rows: list[dict[str, Any]], payloads: Mapping[str, str], version: str, *, beside: bool) -> str:
    script = "\n".join(['(() => {\n"use strict";', *map(_part, SCRIPTS), "})();"])
    style = _part("page.css")
    # 'strict-dynamic' lets our script, known by its hash, load the files beside the page; nothing else may load any
    policy = [
        "default-src 'none'",
        f"script-src {_hash(script)}{' ' + repr('strict-dynamic') if beside else ''}",
        f"style-src {_hash(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    kinds = {kind: about.label for kind, about in SYSTEM_KINDS.items()}
    values = {
        "policy": "; ".join(policy),
        "style": style,
        "version": version,
        "storage": (
            f"The answers are in the folder {ANSWERS} beside this page and are read when you open a system."
            if beside
            else "All answers are in this file."
        ),
        "data": page_data.dump(
            {"columns": page_data.page_columns(), "boards": rows, "folder": ANSWERS, "kinds": kinds}
        ),
        "payloads": "\n".join(_element(key, text) for key, text in payloads.items()),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _part("template.html"))


def _element(key: str, text: str) -> str:
    return f'<script type="application/json" id="payload-{key}">{text}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")
