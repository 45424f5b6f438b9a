"""Rooms: who may import whom, and whether the lists of what stands where are complete."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREFIX = "implicit_if."
ROOMS = ("harness", "model_wrappers", "tasks", "leaderboards")
ORDERED = ("harness", "model_wrappers")
"""Folders whose docstring says that a line may import what stands above it."""


def modules() -> dict[str, Path]:
    """Every module of the installed package but its face, by name: `harness.storage`, `harness.stats`."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return dict(zip(names, paths, strict=True))


def imports(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """Modules that a module imports, at its top and inside functions, but not for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            if f"{child.module}.".startswith(PREFIX):
                source = f"{child.module}.".removeprefix(PREFIX)
                yield from (source + a.name if source + a.name in known else source.rstrip(".") for a in child.names)
        elif isinstance(child, ast.Import):
            yield from (a.name.removeprefix(PREFIX) for a in child.names if a.name.startswith(PREFIX))
        yield from imports(child, known)


@functools.cache
def graph() -> dict[str, set[str]]:
    known = modules()
    return {
        name: {found for found in imports(ast.parse(path.read_text(encoding="utf-8")), known) if found in known}
        - {name}
        for name, path in known.items()
    }


def listed(room: str) -> list[str]:
    """The names that a folder's docstring lists, in its order."""
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return re.findall(r"^(\w+)/? {2,}\S", docstring, re.MULTILINE)


def test_no_import_goes_in_a_circle() -> None:
    graphlib.TopologicalSorter(graph()).prepare()


def test_the_harness_imports_none_of_the_rooms_above_it() -> None:
    both = [(a, b) for a, found in graph().items() for b in found]
    assert [(a, b) for a, b in both if a.startswith("harness") and not b.startswith("harness")] == []


@pytest.mark.parametrize("room", ORDERED)
def test_no_import_runs_back_up(room: str) -> None:
    order = {name: place for place, name in enumerate(listed(room))}
    inside = {a: found for a, found in graph().items() if a.startswith(f"{room}.")}
    pairs = [(a, b) for a, found in inside.items() for b in found if b.startswith(f"{room}.")]
    assert [(a, b) for a, b in pairs if order[a.split(".")[1]] < order[b.split(".")[1]]] == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_folder_s_docstring_lists_what_is_in_it(room: str) -> None:
    there = {name.split(".")[1] for name in modules() if name.startswith(f"{room}.")}
    assert sorted(listed(room)) == sorted(there)


def test_contributing_shows_the_tree() -> None:
    spec = importlib.util.spec_from_file_location("file_tree", ROOT / "tools" / "file_tree.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert tool.replaced(text) == text, "run python tools/file_tree.py"
    shown = re.findall(r"^ +(\w+\.py) {2,}\S", text, re.MULTILINE)
    assert len(shown) == sum(path.name != "__init__.py" for path in modules().values()) + 3  # and the face's
