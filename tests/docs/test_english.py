"""Plain words: phrases that readers stumbled over stay out of pages, help texts, messages and docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ODD = re.compile(
    r"\bmind:|\bmend(s|ed|ing)?\b|\banew\b|\b(to|can(not)?|may not) be had\b|\bdear(er|est)\b|\bwhat there is of\b"
    r"|\bis spoken of\b|\bstruck out\b|\bnot all is well\b|\b(whence|thereof|wherefrom|lest|amid|thither)\b",
    re.IGNORECASE,
)
QUOTED = {"gallery.md"}  # what models wrote
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "tasks").glob("*/README.md")),
    )
    if path.name not in QUOTED
]
ROOMS = ("harness", "model_wrappers", "tasks", "leaderboards", "src")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_plain_words(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if ODD.search(line)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_texts_in_the_code_are_in_plain_words(room: str) -> None:
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (hit := ODD.search(node.value)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {hit[0]}")
    assert found == []


def test_what_is_odd_is_found() -> None:
    for text in (
        "Mind: it is slow",
        "mend these",
        "it cannot be had",
        "make it anew",
        "the dearer kind",
        "none to be had",
    ):
        assert ODD.search(text), text
    assert not ODD.search("a change of mind is reminded, and recommended")
