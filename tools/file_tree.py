"""Writes the tree of the installed folders into CONTRIBUTING.md: each module with its docstring's first line.

python tools/file_tree.py
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards", "src/implicit_if")
FILE = ROOT / "CONTRIBUTING.md"
START, END = "<!-- tree:start -->", "<!-- tree:end -->"


def tree(root: Path = ROOT) -> str:
    """A line a package and a module, indented by depth."""
    return "\n".join(line for room in ROOMS for line in _folder(root / room, root / room))


def replaced(text: str, root: Path = ROOT) -> str:
    """A text with the tree between its two markers."""
    head, rest = text.split(START)
    return f"{head}{START}\n```\n{tree(root)}\n```\n{END}{rest.split(END)[1]}"


def _folder(folder: Path, top: Path) -> list[str]:
    depth = 2 * len(folder.relative_to(top).parts)
    lines = [_line(depth, f"{folder.name if depth else folder.relative_to(ROOT)}/", folder / "__init__.py")]
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(depth + 2, path.name, path))
        elif (path / "__init__.py").is_file():
            lines += _folder(path, top)
    return lines


def _line(depth: int, name: str, path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return f"{' ' * depth}{name:<{34 - depth}}{docstring.partition(chr(10))[0]}".rstrip()


if __name__ == "__main__":
    FILE.write_text(replaced(FILE.read_text(encoding="utf-8")), encoding="utf-8")
