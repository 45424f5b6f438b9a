"""Our Markdown on a terminal: what a renderer would show, aligned, and nothing that acts."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from implicit_if.harness.plain_text import plain_text
from implicit_if.harness.safe_text import markdown, markdown_code

HARD = [
    "rules:paper@912b221b",
    "a|b",
    "**bold** & <b>",
    "&lt; &#27;[31m",
    "\\*",
    "- x",
    "www.x.org",
    "`code`",
    "1. one",
]


@pytest.mark.parametrize("text", HARD)
def test_what_was_escaped_reads_as_it_was_written(text: str) -> None:
    assert plain_text(f"of {markdown(text)}:") == f"of {text}:"
    (cell,) = plain_text(f"| head |\n|---|\n| x {markdown(text)} |").splitlines()[2:]
    assert cell.strip() == f"x {text}"


def test_it_says_what_a_renderer_says() -> None:
    """Against markdown-it-py 4."""
    text = f"**Most** shifted of {markdown(HARD[0])}: {markdown_code(' he')} 1\u00d7 (base: {markdown_code('&#27;<')})"
    inline = MarkdownIt().parse(text)[1].children or []
    assert plain_text(text).replace("`", "").split() == "".join(token.content for token in inline).split()


def test_tables_are_aligned_and_long_cells_are_wrapped() -> None:
    table = f"| name | n |\n|---|---|\n| {markdown('a b')} | 1 |\n| {'word ' * 30} | 20 |"
    lines = plain_text(f"before\n\n{table}\n\nafter").splitlines()
    assert (lines[:2], lines[-2:]) == (["before", ""], ["", "after"])
    assert max(map(len, lines)) <= 60
    assert len({line.rstrip().rindex(n) for line in lines for n in (" 1", " 20") if line.rstrip().endswith(n)}) == 1


def test_nothing_steers_the_terminal() -> None:
    assert "\x1b" not in plain_text("`\x1b[31m` &#27;[31m \x1b]0;x\x07")
