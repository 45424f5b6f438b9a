"""The rating page of a human sheet: one HTML file, no network, keyboard first."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from implicit_if.harness.judging.backends.human import Row

_TEMPLATE = Path(__file__).parent.parent / "prompts" / "human_sheet.html.jinja"


def render_page(rows: Sequence[Row], title: str) -> str:
    """The page. Texts travel as JSON in which `<`, `>` and `&` are escaped, and are shown as text, never as HTML."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    script = "".join(template.blocks["script"](template.new_context({})))
    data = json.dumps([asdict(row) for row in rows], ensure_ascii=True)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    page: str = template.render(title=title, data=data, script_hash=_csp_hash(script))
    return page


def _csp_hash(script: str) -> str:
    """What the page's content security policy permits to run: this script and nothing else."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
