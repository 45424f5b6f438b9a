"""Generated parts of files that people write: the text between two HTML comments is replaced, the rest is theirs.

A part named `boards` goes between `<!-- implicit-if: begin boards -->` and `<!-- implicit-if: end boards -->`.
"""

from __future__ import annotations

import re

from implicit_if.harness.errors import UserError

_MARKER = re.compile(r"<!-- implicit-if: (begin|end) ([a-z-]+) -->")


def replace_part(text: str, part: str, content: str, source: str) -> str:
    """The text with `content` between the part's markers.

    Args:
        text: The file's text.
        part: The part's name; parts of other names are left alone.
        content: What goes between the markers, on lines of its own.
        source: The file's name, for messages.

    Raises:
        UserError: If a marker of this part is missing, doubled, out of order, or around another marker; or if the
            content holds a marker itself.
    """
    if _MARKER.search(content):
        raise UserError(f"{source}: what belongs into part {part!r} holds a marker itself. Escape it first.")
    markers = list(_MARKER.finditer(text))
    own = [m for m in markers if m[2] == part]
    if [m[1] for m in own] != ["begin", "end"]:
        found = ", ".join(f"{m[0]} in line {text.count(chr(10), 0, m.start()) + 1}" for m in own) or "neither"
        raise UserError(
            f"{source}: the part {part!r} needs its two markers exactly once each and in order; found {found}. "
            f"Write one line '{_marker('begin', part)}' and after it one line '{_marker('end', part)}' where the "
            f"part belongs."
        )
    begin, end = own
    inside = [m[0] for m in markers if begin.end() <= m.start() < end.start()]
    if inside:
        raise UserError(f"{source}: found {inside[0]} inside the part {part!r}. Move it out, or delete it.")
    return f"{text[: begin.end()]}\n\n{content.strip()}\n\n{text[end.start() :]}"


def _marker(edge: str, part: str) -> str:
    return f"<!-- implicit-if: {edge} {part} -->"
