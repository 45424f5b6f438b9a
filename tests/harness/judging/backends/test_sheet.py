from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_samples import NASTY, comparisons, fill_in, sheet_rows

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.sheet import build
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.sheets.export import as_cell, export_sheet
from implicit_if.harness.safe_text import neutralise

ANNA = {"rater": "anna", "kind": "person"}


def test_verdicts_come_back_to_the_right_answers(tmp_path: Path) -> None:
    """A rater who always prefers the answer of the first system, wherever it stands."""
    asked, path = list(comparisons(40)), tmp_path / "sheet.csv"
    assert export_sheet(asked, path, seed=3) == 40
    fill_in(path, {"answer": "1", "reply": "2"})
    verdicts = {v.key: v for v in build(str(path), ANNA).judge(asked)}
    assert {v.prefers_first for v in verdicts.values()} == {1.0}
    assert set(verdicts) == {c.key for c in asked}
    swapped = [Comparison(c.key, c.instruction, c.second, c.first) for c in asked]
    assert {v.prefers_first for v in build(str(path), ANNA).judge(swapped)} == {0.0}


def test_the_sheet_is_blind_and_shuffled(tmp_path: Path) -> None:
    asked, path = list(comparisons(60)), tmp_path / "sheet.csv"
    export_sheet(asked, path, seed=1)
    rows = sheet_rows(path)
    first_is_left = [row["answer_1"].startswith("answer") for row in rows]
    assert 15 < sum(first_is_left) < 45
    order = [int(row["instruction"].split()[1]) for row in rows]
    assert order != sorted(order)
    assert order != sorted(order, key=str)
    text = path.read_text() + path.with_suffix(".html").read_text()
    assert not any(c.key in row["key"] for c, row in zip(asked, rows, strict=True) if len(c.key) > 5)
    assert "system" not in "".join(rows[0])
    assert all(re.fullmatch("k[0-9a-f]{20}", row["key"]) for row in rows)  # never a number to a spreadsheet
    assert "first_" not in text


def test_equal_input_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    asked = list(comparisons(20))
    both_orders = [*asked, *(Comparison(f"x{c.key}", c.instruction, c.second, c.first) for c in reversed(asked))]
    assert export_sheet(asked, tmp_path / "a.csv", seed=1) == 20
    assert export_sheet(both_orders, tmp_path / "b.csv", seed=1) == 20
    assert export_sheet(asked, tmp_path / "c.csv", seed=2) == 20
    a, b, c = ((tmp_path / f"{n}.csv").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_a_row_without_verdict_is_an_error(tmp_path: Path) -> None:
    asked, path = list(comparisons(3)), tmp_path / "sheet.csv"
    export_sheet(asked, path, seed=0)
    empty = build(str(path), ANNA)
    assert [v.error for v in empty.judge(asked)] == ["not judged yet"] * 3
    assert [v.error for v in empty.judge([Comparison("k", "new", "a", "b")])] == ["not on the sheet"]
    fill_in(path, {"answer 1": "tie", "reply 1": "="})
    some = build(str(path), ANNA)
    assert some.fingerprint == empty.fingerprint  # the rater's, whatever the sheet says by now
    assert [v.prefers_first for v in some.judge(asked)] == [None, 0.5, None]
    assert (some.ordered, some.paid, some.estimate(asked).calls) == (False, False, 0)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_bare_sheet_are_read(tmp_path: Path, separator: str) -> None:
    asked, path = list(comparisons(5)), tmp_path / "sheet.csv"
    export_sheet(asked, path, seed=0)
    fill_in(path, {"answer": "1", "reply": "2"}, separator)
    assert {v.prefers_first for v in build(str(path), ANNA).judge(asked)} == {1.0}
    assert build(str(path), ANNA).for_answer_1.count(1.0) == sum(
        r["answer_1"].startswith("answer") for r in _any_rows(path, separator)
    )
    bare = "\n".join(separator.join((r["key"], " TIE ")) for r in _any_rows(path, separator))
    path.write_text(f"\ufeffkey{separator}verdict\n{bare}\n")
    assert {v.prefers_first for v in build(str(path), ANNA).judge(asked)} == {0.5}


def _any_rows(path: Path, separator: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline=""), delimiter=separator))


KEY = "k62703085768106583473"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (f"key,verdict\n{KEY},3\n", "record 2: verdict '3'"),
        (f"key,verdict\n{KEY},1\n{KEY},2\n", f"record 3: key {KEY} comes twice"),
        (f"key,verdict\n{KEY},1\n{KEY[1:]},2\n", f"record 3: key {KEY} comes twice"),
        ("key,verdict\n6.27E+19,1\n", r"record 2: '6.27E\+19' is no row's key"),
        ("id,verdict\nabc,1\n", "found columns"),
        ("", "found columns"),
        ('key,verdict\n"' + "x" * 200_000 + '",1\n', "not CSV"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_broken_sheet_is_named(tmp_path: Path, content: str | bytes, named: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=named):
        build(str(path), ANNA)


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        build(str(tmp_path / "none.csv"), ANNA)
    (tmp_path / "sheet.csv").write_text("key,verdict\n")
    for options, message in (
        ({"judge": "me"}, "no options but kind, rater, raters, system"),
        ({**ANNA, "rater": "a|b"}, "up to 40 letters"),
        ({**ANNA, "rater": "../x"}, "up to 40 letters"),
        ({**ANNA, "rater": "x" * 41}, "up to 40 letters"),
        ({**ANNA, "kind": "robot"}, "expected one of person, language-model, other"),
        ({**ANNA, "raters": "mean"}, "Expected rater=NAME or raters=mean"),
        ({**ANNA, "raters": "all"}, "Expected rater=NAME or raters=mean"),
    ):
        with pytest.raises(UserError, match=message):
            build(str(tmp_path / "sheet.csv"), options)
    with pytest.raises(UserError, match=r"\.csv"):
        export_sheet([], tmp_path / "sheet.xlsx", seed=0)
    (tmp_path / "done.html").write_text("verdicts may be remembered for it")
    with pytest.raises(UserError, match="exists already"):
        export_sheet([], tmp_path / "done.csv", seed=0)


def test_sheets_with_keys_of_digits_alone_are_still_read(tmp_path: Path) -> None:
    """As exported before keys got their letter; blank rows of a spreadsheet do no harm."""
    asked, path = list(comparisons(5)), tmp_path / "sheet.csv"
    export_sheet(asked, path, seed=0)
    path.write_text("key,verdict\n" + "".join(f"{r['key'][1:]},tie\n" for r in sheet_rows(path)) + ",\n")
    assert {v.prefers_first for v in build(str(path), ANNA).judge(asked)} == {0.5}


def test_identical_answers_need_no_rater(tmp_path: Path) -> None:
    assert export_sheet([Comparison("k", "q", "same", "same")], tmp_path / "sheet.csv", seed=0) == 0


@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    cell = as_cell(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell in (text, f"'{text}")


class _Page(html.parser.HTMLParser):
    """Collects every tag and the contents of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self._in_script = True

    def handle_endtag(self, tag: str) -> None:
        self._in_script &= tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def test_nasty_texts_change_neither_sheet_nor_page(tmp_path: Path) -> None:
    asked = [
        Comparison(f"{n}-{s}", *texts)
        for n, t in NASTY.items()
        for s, texts in enumerate([(t, "a", "b"), ("q", t, "b")])
    ]
    export_sheet(asked, tmp_path / "nasty.csv", seed=0)
    export_sheet([Comparison("k", "q", "a", "b")], tmp_path / "plain.csv", seed=0)
    nasty, plain = (_Page((tmp_path / f"{n}.html").read_text(encoding="utf-8")) for n in ("nasty", "plain"))
    assert [t for t, _ in nasty.tags] == [t for t, _ in plain.tags]
    assert nasty.scripts[1] == plain.scripts[1]
    rows = {row["key"]: row for row in json.loads(nasty.scripts[0])}
    assert len(rows) == len({(c.instruction, c.first) for c in asked})
    shown = {row[name] for row in rows.values() for name in ("instruction", "answer_1", "answer_2")}
    assert {neutralise(t) for t in NASTY.values() if len(t) < 24_000} <= shown
    assert {len(row) for row in sheet_rows(tmp_path / "nasty.csv")} == {8}
    assert [r["key"] for r in sheet_rows(tmp_path / "nasty.csv")] == list(rows)
    assert {v.error for v in build(str(tmp_path / "nasty.csv"), ANNA).judge(asked)} == {"not judged yet"}
    assert max(len(cell) for row in sheet_rows(tmp_path / "nasty.csv") for cell in row.values()) < 32_767


def test_the_page_needs_no_network_and_runs_only_its_script(tmp_path: Path) -> None:
    export_sheet(comparisons(3), tmp_path / "sheet.csv", seed=0)
    source = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    page = _Page(source)
    policy = next(a["content"] or "" for t, a in page.tags if t == "meta" and "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not any(key in ("src", "href") or key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "http://" not in source.replace("http-equiv", "")
    assert "https://" not in source
    assert "innerHTML" not in source


_BROWSER = """
const elements = {};
const make = (id) => ({ id, textContent: "", value: "", attributes: {}, classes: new Set(),
  setAttribute(name, value) { this.attributes[name] = value; },
  classList: { toggle() {} }, click() { saved.push([this.download, blobs[this.href]]); } });
const saved = [], blobs = {}, listeners = {}, store = {};
globalThis.document = { title: "sheet", getElementById: (id) => elements[id] ||= make(id), createElement: make,
  addEventListener: (name, listener) => { listeners[name] = listener; } };
globalThis.window = { scrollTo() {}, addEventListener() {} };
Object.defineProperty(globalThis, "localStorage", { value: { getItem: (k) => store[k] ?? null,
  setItem: (k, v) => { store[k] = v; } } });
globalThis.Blob = class { constructor(parts) { this.text = parts.join(""); } };
URL.createObjectURL = (blob) => { blobs["blob:1"] = blob.text; return "blob:1"; };
URL.revokeObjectURL = () => {};
document.getElementById("rows").textContent = process.argv[2];
const key = (name, target) => listeners.keydown({ key: name, target, preventDefault() {} });
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_verdicts_given_on_the_page_are_read_back(tmp_path: Path) -> None:
    asked = list(comparisons(4))
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    data, script = _Page((tmp_path / "sheet.html").read_text(encoding="utf-8")).scripts
    keys = """
    const both = () => { key("a"); key("b"); key("b"); };
    both(); key("1"); both(); key("2"); both(); key("="); key("ArrowLeft"); key("0"); key("1"); key("x");
    elements.rater.oninput({ target: { value: "anna" } }); elements.rater_kind.oninput({ target: { value: "person" } });
    key("1", elements.rater);
    elements.comment.value = '=1+1"'; elements.comment.oninput({ target: elements.comment });
    key("2", elements.comment);
    key("s");
    console.log(JSON.stringify([saved[0], elements.progress.textContent]));
    """
    program = tmp_path / "page.js"
    program.write_text(_BROWSER + script + keys, encoding="utf-8")
    ran = subprocess.run(["node", program, data], capture_output=True, text=True, check=True, timeout=60)
    (name, content), progress = json.loads(ran.stdout)
    assert name == "sheet-judged.csv"
    assert progress == "4 of 4, 3 judged"
    judged = tmp_path / name
    judged.write_text(content, encoding="utf-8")
    rows = [row["answer_1"] for row in sheet_rows(tmp_path / "sheet.csv")]
    given = {r["key"]: r for r in sheet_rows(judged)}
    by_left = {c.first: c.key for c in asked} | {c.second: c.key for c in asked}
    expected = {by_left[text]: said for text, said in zip(rows, ("1", "2", "1", ""), strict=True)}
    verdicts = {v.key: v for v in build(str(judged), ANNA).judge(asked)}
    for text, (where, said) in zip(rows, expected.items(), strict=True):
        left_is_first = text.startswith("answer")
        assert verdicts[where].prefers_first == (None if not said else float((said == "1") == left_is_first))
    assert [r["comment"] for r in given.values()][3] == "'=1+1\""
