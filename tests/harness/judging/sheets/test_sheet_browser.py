"""The sheet's page in a real browser, from a file: filled in by keyboard, saved, read back; nothing in an answer runs.

Needs Chromium (Debian: `apt-get install chromium`) and the `dev` extra.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_samples import NASTY, comparisons, sheet_rows

from implicit_if.harness.judging.backends.sheet import build
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.sheets.export import export_sheet
from implicit_if.harness.judging.sheets.verdicts import from_raw

AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


class Rater:
    """A tab on a sheet that notes every error, dialog and request but for the page's own."""

    def __init__(self, browser: Any, page: Path) -> None:
        self.problems: list[str] = []
        self.tab = browser.new_context(offline=True, accept_downloads=True).new_page()
        self.tab.set_default_timeout(10_000)
        self.tab.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.tab.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.tab.on("dialog", self._dialog)
        self.warned = False
        self.tab.on("request", lambda request: self.problems.append(request.url) if request.url != self.url else None)
        self.url = page.as_uri()
        self.tab.goto(self.url)

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "beforeunload":  # verdicts are not saved yet
            self.warned = True
            dialog.accept()
        else:
            self.problems.append("a dialog opened")

    def text(self, name: str) -> str:
        return str(self.tab.evaluate(f"document.getElementById('{name}').textContent"))

    def press(self, keys: str) -> None:
        for key in keys.split():
            self.tab.keyboard.press(key)

    def save(self, folder: Path) -> Path:
        with self.tab.expect_download() as waiting:
            self.tab.keyboard.press("s")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


def test_a_sheet_is_filled_in_by_keyboard_saved_and_read_back(browser: Any, tmp_path: Path) -> None:
    asked = list(comparisons(4))
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    rater = Rater(browser, tmp_path / "sheet.html")
    rater.press("Tab")  # the first field is the rater's name
    rater.tab.keyboard.type("anna")
    rater.press("Tab")
    rater.tab.keyboard.type("a person")
    rater.tab.evaluate("document.activeElement.blur()")
    rater.press("a b b 1")  # answer 1 attempts, answer 2 does not; the first is better: goes on by itself
    assert rater.text("progress").startswith("2 of 4, 1 judged")
    rater.press("=")  # nothing is said of attempts yet, so the page stays
    assert rater.text("progress").startswith("2 of 4, 2 judged")
    rater.press("a a a b ArrowRight")  # yes, no, clear
    rater.press("a b 2")
    rater.tab.reload()  # is warned of, and remembered
    assert rater.warned
    assert rater.text("progress").startswith("4 of 4, 3 judged")
    judged = rater.save(tmp_path)
    assert judged.name == "sheet-judged.csv"
    rows = sheet_rows(judged)
    assert [(r["verdict"], r["attempts_1"], r["attempts_2"], r["rater"], r["rater_kind"]) for r in rows] == [
        ("1", "yes", "no", "anna", "person"),
        ("tie", "", "yes", "anna", "person"),
        ("2", "yes", "yes", "anna", "person"),
        ("", "", "", "anna", "person"),
    ]
    judge = build(str(tmp_path), {})  # the folder: what the page saved says who judged
    assert judge.name == "sheet:person/anna"
    left = [row["answer_1"].startswith("answer") for row in sheet_rows(tmp_path / "sheet.csv")]
    number = [int(row["instruction"].split()[1]) for row in sheet_rows(tmp_path / "sheet.csv")]
    verdicts = {int(v.key): v for v in judge.judge(asked)}
    assert verdicts[number[0]].prefers_first == float(left[0])
    assert verdicts[number[1]].prefers_first == 0.5
    assert verdicts[number[2]].prefers_first == float(not left[2])
    assert verdicts[number[3]].error == "not judged yet"
    (kept,) = from_raw(verdicts[number[0]].raw)
    assert kept.attempts == ((True, False) if left[0] else (False, True))
    assert rater.problems == []


def test_typing_in_a_field_is_no_verdict_and_buttons_work(browser: Any, tmp_path: Path) -> None:
    export_sheet(comparisons(2), tmp_path / "sheet.csv", seed=0)
    rater = Rater(browser, tmp_path / "sheet.html")
    rater.tab.fill("#comment", "")
    rater.tab.type("#comment", "1 2 = a b s")
    rater.tab.type("#rater", "ab12")
    assert "0 judged" in rater.text("progress")
    for button in ("#yes1", "#no2", "#two"):
        rater.tab.click(button)
    assert "1 judged" in rater.text("progress")
    (first, _) = sheet_rows(rater.save(tmp_path))
    assert [first[c] for c in ("verdict", "attempts_1", "attempts_2", "comment", "rater")] == [
        "2",
        "yes",
        "no",
        "1 2 = a b s",
        "ab12",
    ]
    assert rater.problems == []


def test_nothing_in_an_answer_runs_or_asks_for_anything(browser: Any, tmp_path: Path) -> None:
    evil = {
        **{name: text for name, text in NASTY.items() if len(text) < 10_000},
        "script": "</script><script>document.title='hacked'</script>",
        "image": "<img src=x onerror=\"document.title='hacked'\"><svg onload=\"document.title='hacked'\">",
        "style": "</pre><style>body{display:none}</style><iframe src='http://example.com'></iframe>",
        "template": "${document.title='hacked'}{{ 7*7 }}",
    }
    asked = [Comparison(name, text or "q", text, "harmless") for name, text in evil.items()]
    export_sheet(asked, tmp_path / "sheet.csv", seed=0)
    rater = Rater(browser, tmp_path / "sheet.html")
    shown = [json.loads(line) for line in (tmp_path / "sheet.jsonl").read_text().splitlines()]
    assert len(shown) == len(evil)
    for row in shown:
        for name in ("instruction", "answer_1", "answer_2"):
            assert rater.text(name) == row[name]
        rater.press("ArrowRight")
    assert rater.tab.title() == "sheet"
    assert rater.tab.evaluate("document.querySelectorAll('main img, main svg, main iframe, main style').length") == 0
    assert rater.problems == []


def test_the_page_has_no_accessibility_violation(browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    export_sheet(comparisons(2), tmp_path / "sheet.csv", seed=0)
    rater = Rater(browser, tmp_path / "sheet.html")
    found = axe.run(rater.tab, options={"runOnly": AXE_RULES["runOnly"]}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
