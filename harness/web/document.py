"""A page in one HTML file: style, script, data and answers are in it, and nothing else may be loaded.

What a page shows comes as plain values; its parts in `assets/` are the same for boards and for runs on this machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.columns import COLUMNS
from implicit_if.harness.system_kinds import SYSTEM_KINDS

PARTS = Path(__file__).parent / "assets"
SCRIPTS = ("helpers.js", "overview.js", "board.js", "submission.js", "main.js")
"""Parts of one script, in this order."""
BUDGET = 5_000_000
"""Bytes that a page has at most; answers beyond go into files beside it."""
ANSWERS = "answers"
"""The folder of script files with answers, beside a page that has too many of them to hold."""

_ESCAPED = re.compile("[<>&\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What could end a script element, break a line, reorder text in an editor, or is no text; JSON escapes the rest."""


@dataclass(frozen=True)
class Texts:
    """What differs between pages.

    Attributes:
        title: Of the page.
        lead: What it is about, a sentence or two; plain text.
        command: Which command made it.
        noscript: What a reader without JavaScript can do instead.
    """

    title: str
    lead: str
    command: str
    noscript: str


def dump(value: Any) -> str:
    """JSON that may stand in an HTML script element and in a script; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def page_columns() -> list[dict[str, Any]]:
    """What the page's table must know of each column; those of links and judges are not on it."""
    return [
        {"name": column.name, "label": column.label, "kind": column.kind, "note": column.note.partition(": ")[2]}
        for column in COLUMNS
        if column.name not in ("name", "judge")
    ]


def html_document(
    texts: Texts,
    boards: list[dict[str, Any]],
    payloads: Mapping[str, str],
    version: str,
    *,
    beside: bool = False,
    **more: Any,
) -> str:
    """The whole file.

    Args:
        texts: Title and the like.
        boards: The tables, each with its rows, as the scripts in `assets/` read them.
        payloads: JSON by key: the answers of each system, and the instructions that systems share.
        version: Of implicit-if.
        beside: Whether the answers are in files beside the page instead.
        **more: Further values for the scripts.
    """
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
    data = {
        "columns": page_columns(),
        "boards": boards,
        "folder": ANSWERS,
        "kinds": {kind: about.label for kind, about in SYSTEM_KINDS.items()},
        "command": texts.command,
        **more,
    }
    values = {
        "policy": "; ".join(policy),
        "style": style,
        "title": texts.title,
        "lead": texts.lead,
        "noscript": texts.noscript,
        "command": texts.command,
        "version": version,
        "storage": (
            f"The answers are in the folder {ANSWERS} beside this page and are read when you open a system."
            if beside
            else "All answers are in this file."
        ),
        "data": dump(data),
        "payloads": "\n".join(payload_element(key, text) for key, text in payloads.items()),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _part("template.html"))


def payload_element(key: str, text: str) -> str:
    """The element that holds a payload in the page."""
    return f'<script type="application/json" id="payload-{key}">{text}</script>'


def payload_script(key: str, text: str) -> bytes:
    """The file beside the page that holds a payload instead."""
    return f'implicitIf("{key}",{text});\n'.encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")
