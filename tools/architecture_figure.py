"""Draws the rooms of the package and what each imports, from the imports themselves, as docs/figures/architecture.svg.

`python tools/docs_pages.py` renews the figure with the other generated pages. A box is a folder of the package. A room
stands above all that it imports, by itself or through single modules; lines that follow from others are left out.
"""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "implicit_if."
OUTER = ("tasks", "model_wrappers", "leaderboards")
WIDTH, BOX, HEIGHT, GAP, ROW, TOP = 860, 150, 34, 14, 78, 16
FILL = {"harness": "#dbeafe", "outer": "#fde68a"}


def modules() -> dict[str, Path]:
    """Every module by its name without the package's: `harness.stats.win_rate`."""
    paths = [path for room in ("harness", *OUTER) for path in (ROOT / room).rglob("*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imports() -> dict[str, set[str]]:
    """The modules that each module imports, those for types alone left out."""
    known = modules()
    return {
        name: _imported(ast.parse(path.read_text(encoding="utf-8")), known) - {name} for name, path in known.items()
    }


def rooms() -> dict[str, set[str]]:
    """The folders of the package and the rooms that each imports, itself or through single modules of the harness."""
    graph = imports()

    def reached(module: str, seen: set[str]) -> set[str]:
        found = set()
        for target in graph[module] - seen:
            seen.add(target)
            found |= {room_of(target)} if room_of(target) else reached(target, seen)
        return found

    names = {room_of(module) for module in graph} - {""}
    return {
        room: set().union(*(reached(m, set()) for m in graph if room_of(m) == room)) - {room, ""}
        for room in sorted(names)
    }


def room_of(module: str) -> str:
    """`harness.stats` of `harness.stats.win_rate`; empty for a single module of the harness."""
    first, _, rest = module.partition(".")
    if first in OUTER:
        return first
    folder = rest.partition(".")[0]
    return f"harness.{folder}" if folder and (ROOT / "harness" / folder).is_dir() else ""


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """Rooms in rows, lowest first: each above all that it imports, and one without imports just below its users."""
    depth: dict[str, int] = {}
    for room in graphlib.TopologicalSorter(graph).static_order():
        depth[room] = 1 + max((depth[other] for other in graph[room]), default=-1)
    for room in sorted(depth, key=lambda one: -depth[one]):
        users = [depth[other] for other, found in graph.items() if room in found]
        if users and not graph[room]:
            depth[room] = min(users) - 1
    return [sorted(r for r, d in depth.items() if d == level) for level in range(max(depth.values()) + 1)]


def needed(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The imports that do not follow from others."""

    def below(room: str) -> set[str]:
        return graph[room].union(*(below(other) for other in graph[room]))

    return {(a, b) for a, found in graph.items() for b in found if not any(b in below(c) for c in found - {b})}


def figure() -> str:
    """The figure as SVG, the same bytes for the same imports."""
    graph = rooms()
    rows = levels(graph)[::-1]
    height = 2 * TOP + (len(rows) - 1) * ROW + HEIGHT
    place = {
        room: (WIDTH / 2 + (n - (len(row) - 1) / 2) * (BOX + GAP), TOP + y * ROW)
        for y, row in enumerate(rows)
        for n, room in enumerate(row)
    }
    lines = [
        f'<line x1="{place[a][0]:g}" y1="{place[a][1] + HEIGHT}" x2="{place[b][0]:g}" y2="{place[b][1]}" '
        f'stroke="#8a8f98" stroke-width="1.2"/>'
        for a, b in sorted(needed(graph))
    ]
    boxes = [line for room in sorted(place) for line in _box(room, *place[room])]
    title = "The rooms of the package: each imports only rooms below it that a line leads to, and those below them"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">'
    style = "font-family:system-ui,sans-serif;font-size:14px;text-anchor:middle"
    return "\n".join([head, f"<title>{title}</title>", f'<g style="{style}">', *lines, *boxes, "</g>", "</svg>", ""])


def _box(room: str, x: float, y: float) -> list[str]:
    fill = FILL["outer" if room in OUTER else "harness"]
    label = escape(room.removeprefix("harness."))
    return [
        f'<rect x="{x - BOX / 2:g}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#5b6470"/>',
        f'<text x="{x:g}" y="{y + 22}" fill="#111827">{label}</text>',
    ]


def _imported(node: ast.AST, known: dict[str, Path]) -> set[str]:
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and f"{child.module}.".startswith(PREFIX):
            source = f"{child.module}.".removeprefix(PREFIX)
            found |= {source + a.name if source + a.name in known else source.rstrip(".") for a in child.names}
        elif isinstance(child, ast.Import):
            found |= {a.name.removeprefix(PREFIX) for a in child.names if a.name.startswith(PREFIX)}
        found |= _imported(child, known)
    return {name for name in found if name in known}
