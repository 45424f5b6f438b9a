from __future__ import annotations

import csv
import html.parser
import io
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from implicit_if.harness import safe_text

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates included
HOSTILE = [
    "<script>alert(1)</script>",
    "![x](javascript:alert(1))",
    "a | b\n| c |",
    "<!-- leaderboard:end -->",
    "`code` ``more``",
    '=HYPERLINK("http://x","y")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\u202egnp.exe",
    "\x1b[31mred\x1b[0m",
    "https://evil.example @somebody #12 www.evil.example",
    "＝1+1",
    "\ud800",
]


class _Collector(html.parser.HTMLParser):
    """What a browser's parser would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append("/" + tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(markup: str) -> _Collector:
    collector = _Collector()
    collector.feed(markup + "<end>")
    return collector


@given(ANY_TEXT)
def test_one_line_is_visible_bounded_and_idempotent(text: str) -> None:
    line = safe_text.one_line(text, 50)
    assert len(line) <= 50
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in line)
    assert safe_text.one_line(line, 50) == line
    line.encode("utf-8")


@given(ANY_TEXT)
@example("a\u200bb")
@example("x\u202ey")
def test_is_plain_means_that_nothing_would_be_replaced(text: str) -> None:
    assert safe_text.is_plain(text) == (safe_text.one_line(text, 10_000) == text)


@given(st.one_of(ANY_TEXT, st.sampled_from(HOSTILE)))
def test_html_shows_the_text_and_no_tag(text: str) -> None:
    seen = parsed(safe_text.html(text))
    assert seen.tags == ["end"]
    assert seen.text == safe_text.one_line(text, 10_000)
    quoted = parsed(f'<i title="{safe_text.html(text)}">')
    assert quoted.tags == ["i", "end"]


@given(st.one_of(ANY_TEXT, st.sampled_from(HOSTILE)))
def test_markdown_holds_no_markup(text: str) -> None:
    shown = safe_text.markdown(text)
    assert "\n" not in shown
    assert parsed(shown).tags == ["end"]
    bare = re.sub(r"&(amp|lt|gt|#124|#64);", "", re.sub(r"\\[\\`*_{}\[\]()#+\-.!~:=$^\"'/]", "", shown))
    assert not re.search(r"[\\`*_{}\[\]#|<>~@]", bare)
    assert "www." not in shown
    assert "://" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gemma-3-270m/instruction-full-s1 (33.4 %), judged", "gemma-3-270m/instruction-full-s1 (33.4 %), judged"),
        ('it\'s "x"!', 'it\'s "x"!'),
        ("- a", "\\- a"),
        (" + a", " \\+ a"),
        ("12) a", "12\\) a"),
        ("===", "\\==="),
        ("note: x", "note: x"),
        ("a:smile: :::x", "a\\:smile: \\:\\:\\:x"),
        ("WWW.x http://y", "WWW\\.x http:\\//y"),
    ],
)
def test_markdown_escapes_only_what_would_act(text: str, shown: str) -> None:
    assert safe_text.markdown(text) == shown


@given(st.one_of(ANY_TEXT, st.sampled_from(HOSTILE)))
def test_markdown_code_cannot_be_left(text: str) -> None:
    span = safe_text.markdown_code(text)
    fence = re.match(r"`+", span)
    assert fence is not None
    inner = span[len(fence[0]) : -len(fence[0])]
    assert span.endswith(fence[0])
    assert fence[0] not in re.findall(r"`+", inner)
    assert "|" not in span
    assert "<!--" not in span
    assert "\n" not in span


@given(st.one_of(ANY_TEXT, st.sampled_from(HOSTILE)))
def test_csv_cells_never_start_a_formula_and_come_back_whole(text: str) -> None:
    cell = safe_text.csv_cell(text)
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell, "next"])
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [cell, "next"]
    start = unicodedata.normalize("NFKC", cell.lstrip())[:1]
    assert start not in set("=+-@\t\r") or re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", cell)


@pytest.mark.parametrize(("text", "cell"), [("-1.5", "-1.5"), ("=1", "'=1"), (" =1", "' =1"), ("model", "model")])
def test_numbers_stay_numbers(text: str, cell: str) -> None:
    assert safe_text.csv_cell(text) == cell


@given(st.one_of(ANY_TEXT, st.sampled_from(["", ".", "..", "../../etc/passwd", "CON", "nul.txt", "a/b", "C:\\x"])))
def test_file_names_are_names(text: str) -> None:
    name = safe_text.file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,101}", name)
    assert name not in {".", ".."}
    assert not safe_text.is_reserved(name)


def test_our_own_markdown_in_a_cell_keeps_its_markup_and_its_cell() -> None:
    assert safe_text.markdown_cell("[a](b) `c|d`\ne") == r"[a](b) `c\|d` e"
    assert safe_text.markdown_cell(None) == ""


def test_code_outside_of_a_table_keeps_its_pipes() -> None:
    assert safe_text.markdown_code("set:a|n:80", cell=False) == "`set:a|n:80`"
    assert safe_text.markdown_code("set:a|n:80") == "`set:a│n:80`"
