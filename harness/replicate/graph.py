"""The graph of a matrix as a figure: a node a kind of cell, with how many there are and the command of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from implicit_if.harness.replicate.cells import Cell
from implicit_if.harness.svg import GREEN, GREY, INK, MUTED, document, line, text, wrapped

_WIDTH, _HEIGHT, _GAP, _ROW = 400, 74, 24, 112
_ENDS = ("--out", "--output_path", "--annotations", "--licence", "--max_new_tokens", "--gen_kwargs", "--tasks")
"""Where a command is long enough to be known."""


def graph(cells: Sequence[Cell]) -> str:
    """The figure as SVG; the same plan gives the same bytes."""
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.kind, []).append(cell)
    needs = _needs(cells)
    depth: dict[str, int] = {}
    for kind in kinds:  # in the plan's order, in which needed kinds come first
        depth[kind] = 1 + max((depth[need] for need in needs[kind]), default=-1)
    rows = [[kind for kind in kinds if depth[kind] == level] for level in range(1 + max(depth.values()))]
    width = _GAP + max(len(row) for row in rows) * (_WIDTH + _GAP)
    corner = {
        kind: (
            (width - len(row) * (_WIDTH + _GAP) + _GAP) / 2 + column * (_WIDTH + _GAP),
            _GAP + level * _ROW,
        )
        for level, row in enumerate(rows)
        for column, kind in enumerate(row)
    }
    parts = [
        line(corner[need][0] + _WIDTH / 2, corner[need][1] + _HEIGHT, x + _WIDTH / 2, y, GREY)
        for kind, (x, y) in corner.items()
        for need in sorted(needs[kind])
    ]
    for kind, (x, y) in corner.items():
        parts += _node(x, y, kind, kinds[kind])
    return document(width, _GAP + len(rows) * _ROW, "Cells of a replication and what they wait for", parts)


def _needs(cells: Sequence[Cell]) -> dict[str, set[str]]:
    """Kinds that a kind waits for, without those it waits for through another one."""
    kind = {cell.name: cell.kind for cell in cells}
    direct: dict[str, set[str]] = {}
    for cell in cells:
        direct.setdefault(cell.kind, set()).update(kind[need] for need in cell.needs)
    far: dict[str, set[str]] = {}
    for name in direct:
        far[name] = direct[name].union(*(far.get(need, set()) for need in direct[name]))
    return {name: _nearest(found, far) for name, found in direct.items()}


def _nearest(found: set[str], far: Mapping[str, set[str]]) -> set[str]:
    return {need for need in found if not any(need in far[other] for other in found - {need})}


def _node(x: float, y: float, kind: str, cells: Sequence[Cell]) -> list[str]:
    box = f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#eef2f0" stroke="{GREEN}"/>'
    lines = wrapped(_shown(cells[0].command), _WIDTH - 40, 12)
    lines = [lines[0], f"{lines[1]} …"] if len(lines) > 2 else lines
    title = text(x + 12, y + 16, f"{kind} ({len(cells)})", weight=600, fill=INK)
    return [box, title, *(text(x + 12, y + 38 + 18 * n, part, size=12, fill=MUTED) for n, part in enumerate(lines))]


def _shown(command: Sequence[str]) -> str:
    """A command as far as it tells what is done."""
    words = list(command)
    if "implicit_if.harness.cli" in words:  # started by a launcher
        words = ["implicit-if", *words[words.index("implicit_if.harness.cli") + 1 :]]
    end = next((n for n, word in enumerate(words) if word in _ENDS and n > 3), len(words))
    return " ".join(word for word in words[:end] if not word.startswith("{"))
