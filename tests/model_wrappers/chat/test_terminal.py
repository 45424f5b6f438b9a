"""A model's text on a terminal: harmless, and laid out the same however it arrived."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness.safe_text import printable
from implicit_if.model_wrappers.chat.terminal import Columns, cells, column_width, fit, wrap

TEXT = st.text(st.sampled_from("ab  c\n日é\u0301,longer"), max_size=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\rb\x08c\x7f\x9b2J", r"a\rb\x08c\x7f\x9b2J"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ud800 \ue000 \U000e0041", r"\ud800 \ue000 \U000e0041"),
        ("tab\there\n日本 é 👩\u200d💻 \u00a0", "tab    here\n日本 é 👩\u200d💻 \u00a0"),
    ],
)
def test_what_could_act_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert "\n" not in printable(text, lines=False)


@settings(deadline=None)
@given(st.text())
def test_nothing_printable_can_steer_a_terminal_or_fail_to_encode(text: str) -> None:
    shown = printable(text)
    assert all(c == "\n" or unicodedata.category(c)[0] != "C" or c in "\u200c\u200d" for c in shown)
    shown.encode("utf-8")


def test_width_counts_terminal_columns() -> None:
    assert [cells(t) for t in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]
    assert fit("日", 4) == "日  "
    assert fit("12", 4, right=True) == "  12"
    assert fit("longer", 3) == "longer"


@settings(deadline=None)
@given(TEXT, st.integers(2, 12))
def test_rows_fit_and_hold_the_text(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cells(row) <= width for row in rows)
    assert re.sub(r"\s", "", "".join(rows)) == re.sub(r"\s", "", text)


@settings(deadline=None)
@given(TEXT, TEXT, st.integers(2, 12))
def test_rows_of_a_growing_text_stay_but_for_the_last(text: str, more: str, width: int) -> None:
    before, after = wrap(text, width), wrap(text + more, width)
    assert [row.rstrip() for row in after[: len(before) - 1]] == [row.rstrip() for row in before[:-1]]


def test_words_stay_whole_and_indentation_stays() -> None:
    assert wrap("    if x:\n        return one", 14) == ["    if x:", "        return", "one"]
    assert [row.rstrip() for row in wrap("one twelve", 8)] == ["one", "twelve"]
    assert [row.rstrip() for row in wrap("one anticlockwise", 8)] == ["one", "anticloc", "kwise"]


def screen(written: str) -> list[str]:
    """What a terminal shows that knows newline, carriage return and erase-to-end-of-line."""
    return [re.split(r"\r\x1b\[K", line)[-1] for line in written.split("\n")]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, st.integers(1, 9)), min_size=2, max_size=3), st.booleans())
def test_columns_end_up_as_if_printed_at_once(texts: list[tuple[str, int]], live: bool) -> None:
    width = 8
    out = io.StringIO()
    columns = Columns(out, len(texts), width, live=live)
    shown = [0] * len(texts)
    while True:
        done = [n >= len(text) for n, (text, _) in zip(shown, texts, strict=True)]
        columns.show([text[:n] for n, (text, _) in zip(shown, texts, strict=True)], done)
        if all(done):
            break
        shown = [min(len(text), n + pace) for n, (text, pace) in zip(shown, texts, strict=True)]
    wrapped = [wrap(text, width) for text, _ in texts]
    height = max(map(len, wrapped))
    cells_of = [[*rows, *[""] * (height - len(rows))] for rows in wrapped]
    expected = [" │ ".join(fit(r.rstrip(), width) for r in row).rstrip() for row in zip(*cells_of, strict=True)]
    assert screen(out.getvalue())[:-1] == expected
    assert live or "\x1b" not in out.getvalue()


def test_thin_terminals_get_no_columns() -> None:
    assert column_width(80, 2) == 38
    assert column_width(62, 2) is None
    assert column_width(200, 1) is None
