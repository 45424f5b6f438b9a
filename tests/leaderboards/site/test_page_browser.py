"""The page in a real browser, from a file: what readers see and do, that nothing of a submission runs, accessibility.

Needs Chromium (Debian: `apt-get install chromium`) and the `dev` extra.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factory import LongestJudge, make_submission, outputs

from implicit_if.harness.judging.attempts import is_installed
from implicit_if.leaderboards.boards import build
from implicit_if.leaderboards.site import page, page_data
from implicit_if.leaderboards.verification.result import read_pairs
from implicit_if.leaderboards.verification.verify import verify

EVIL = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'><b>bold</b> \u202eright to left"
AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True, "is_mobile": True},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built root: a board with both orders on the builtin set, one without texts, one submission full of markup."""
    cache = tmp_path_factory.mktemp("cache")
    root = tmp_path_factory.mktemp("leaderboards")
    folder = root / "submissions"
    make_submission(folder, name="acme/base", n=80, system={"kind": "base"}, seed=1, words=(20, 60))
    make_submission(folder, name="acme/rules", n=80, seed=2, words=(60, 300))
    for seed in (4, 5):
        make_submission(
            folder, name="acme/tuned", revision=f"s{seed}", n=80, system={"kind": "response", "seed": seed}, seed=seed
        )
    control = {"kind": "control", "control": "longest_of_two"}
    make_submission(folder, name="controls/longest", n=80, system=control, seed=6, words=(150, 300))
    make_submission(folder, name="acme/told", n=80, system={"kind": "other"}, seed=7, self_reported=True)
    evil = [o.model_copy(update={"output": EVIL if i else "x" * 5000}) for i, o in enumerate(outputs("evil", 12, 7))]
    system = {"kind": "other", "description": EVIL.replace("\u202e", "")}
    make_submission(
        folder, name="evil/evil", answers=evil, system=system, judge=LongestJudge(), base_model={"name": "<b>base</b>"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPLICIT_IF_CACHE", str(cache))
        build.write(root, build.build(root))
    return root


class Reader:
    """A tab that fails the test if the page errs, breaks its policy or asks for anything but files beside it."""

    def __init__(self, browser: Any, root: Path, view: str = "light") -> None:
        self.root, self.problems = root, []
        self.tab = browser.new_context(**VIEWS[view], offline=True).new_page()
        self.tab.set_default_timeout(10_000)
        self.tab.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.tab.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.tab.on("dialog", lambda dialog: self.problems.append("a dialog opened"))
        self.tab.on("request", self._request)
        self.open()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self.root.as_uri()):
            self.problems.append(f"request: {request.url}")

    def open(self, place: str = "") -> None:
        self.tab.goto(f"{(self.root / 'page.html').as_uri()}{place}")

    def systems(self) -> list[str]:
        return [text.split("\n")[1] for text in self.tab.locator("tbody th").all_inner_texts()]

    def choose_board(self, text: str) -> None:
        board = self.tab.get_by_label("Board")
        label = next(t for t in board.locator("option").all_inner_texts() if text in t)
        board.select_option(label=label)
        self.tab.wait_for_function("t => document.querySelector('h2').textContent === t", arg=label)

    def close(self) -> None:
        assert not self.tab.evaluate("window.hacked")
        self.tab.context.close()
        assert not self.problems


@pytest.fixture
def reader(browser: Any, root: Path) -> Iterator[Reader]:
    tab = Reader(browser, root)
    yield tab
    tab.close()


def test_the_table_sorts_and_filters(reader: Reader) -> None:
    verified = {p.name: verify(next(p.iterdir())) for p in (reader.root / "submissions").iterdir()}
    values = {
        v.metadata.name: v.scores["win_rate"].value for v in verified.values() if v.metadata.instruction_set.n == 80
    }
    shown = reader.systems()
    assert set(shown) == {"acme/base", "acme/rules", "acme/tuned", "controls/longest", "acme/told"}
    order = [name for name in sorted(values, key=lambda n: -(values[n] or 0)) if name != "acme/tuned"]
    assert [name for name in shown if name != "acme/tuned"] == order
    tab = reader.tab
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("win rate")
    tab.get_by_role("button", name="length", exact=True).click()
    assert reader.systems()[-1] == "acme/base"
    tab.get_by_role("button", name="length", exact=True).press("Enter")
    assert reader.systems()[0] == "acme/base"
    assert tab.locator("th[aria-sort=ascending]").inner_text().startswith("length")
    tab.get_by_label("control rows").uncheck()
    assert "controls/longest" not in reader.systems()
    tab.get_by_label("Kind").select_option("base")
    assert reader.systems() == ["acme/base"]
    tab.get_by_label("Kind").select_option("")
    tab.get_by_label("Badge").select_option("self-reported")
    assert reader.systems() == ["acme/told"]
    tab.get_by_label("Badge").select_option("")
    tab.get_by_label("Search systems").fill("TUNED resp")
    assert reader.systems() == ["acme/tuned"]
    assert tab.get_by_role("status").inner_text() == "1 of 5 systems"


def test_intervals_are_drawn_to_scale(reader: Reader) -> None:
    score = verify(reader.root / "submissions" / "acme__base" / "v1").scores["win_rate"]
    assert score.value is not None
    assert score.interval is not None
    row = reader.tab.locator("tr").filter(has=reader.tab.get_by_role("link", name="base", exact=True))
    drawn = row.locator("td svg").nth(int(is_installed()))  # after that of the attempt rate
    size = "e => [e.getBBox().x, e.getBBox().width]"  # without the width of the stroke
    axis, interval, dot = (drawn.locator(name).evaluate(size) for name in (".axis", ".interval", ".value"))
    ends = [interval[0], interval[0] + interval[1], dot[0] + dot[1] / 2]
    expected = [score.interval.low, score.interval.high, score.value]
    assert [100 * (x - axis[0]) / axis[1] for x in ends] == pytest.approx(expected, abs=0.1)
    assert f"{score.value:.1f}" in row.inner_text()


def test_a_row_opens_its_answers_beside_the_references(reader: Reader) -> None:
    tab, member = reader.tab, verify(reader.root / "submissions" / "acme__rules" / "v1")
    pairs, categories = read_pairs(member), page_data.pairing(read_pairs(member))["categories"]
    orders = [member.by_order["system_first"], member.by_order["reference_first"]]
    tab.locator("tr", has_text="acme/rules").locator("td").first.click()
    tab.wait_for_selector("article")
    assert tab.locator("article").count() == 20
    first = tab.locator("article").first
    assert first.locator("h3").text_content() == pairs[0].instruction.strip()
    assert first.locator(".sides .text").nth(1).text_content() == pairs[0].reference.output[:1500]
    verdicts = first.locator(".verdicts").inner_text()
    assert f"shown first: {orders[0][0]:.2f}" in verdicts
    assert f"shown second: {orders[1][0]:.2f}" in verdicts
    wins = [p for p in member.preferences if p > 0.5]
    tab.get_by_label("Outcome").select_option("win")
    assert f"of {len(wins)} answers, 80 in all" in tab.get_by_role("status").inner_text()
    tab.get_by_label("Outcome").select_option("split")
    split = [first for first, second in zip(*orders, strict=True) if (first > 0.5) != (second > 0.5)]
    assert f"of {len(split)} answer" in tab.get_by_role("status").inner_text()
    if member.attempts.size:
        tries = int((member.attempts >= 0.5).sum())
        assert f"attempt {member.attempts[0]:.2f}" in verdicts
        tab.get_by_label("Outcome").select_option("attempt")
        assert f"of {tries} answer" in tab.get_by_role("status").inner_text()
        tab.get_by_label("Outcome").select_option("none")
        assert f"of {80 - tries} answer" in tab.get_by_role("status").inner_text()
    tab.get_by_label("Outcome").select_option("")
    category = str(categories[0])
    tab.get_by_label("Category").select_option(category)
    assert f"of {sum(found == category for found in categories)} answers" in tab.get_by_role("status").inner_text()
    tab.get_by_label("Category").select_option("")
    words = pairs[5].system.output.split()[3:9]
    tab.get_by_label("Search instructions").fill(" ".join(words).upper())
    assert tab.locator("article").count() >= 1
    tab.get_by_label("Search instructions").fill("")
    while tab.get_by_role("button", name="Show 20 more").is_visible():
        tab.get_by_role("button", name="Show 20 more").click()
    assert tab.locator("article").count() == 80
    tab.get_by_label("Sort").select_option("worst")
    worst = min(member.preferences)
    assert f"{worst:.2f}" in tab.locator("article .verdicts span").first.inner_text()
    tab.get_by_text("How it was made").click()
    assert str(member.scores["win_rate"].signature) in tab.locator("dl").inner_text()


def test_seeds_self_reported_and_published(reader: Reader) -> None:
    tab = reader.tab
    tab.get_by_role("link", name="response tuning").click()
    tab.get_by_role("link", name="s5", exact=True).click()
    tab.wait_for_selector("article")
    assert "revision s5" in tab.locator("main").inner_text()
    tab.get_by_role("link", name="All systems").click()
    tab.get_by_role("link", name="other", exact=True).click()
    tab.get_by_text("there are no answers to read").wait_for()
    reader.open()
    reader.choose_board("Published")
    text = tab.locator("main").inner_text()
    assert "24.4 ± 0.4" in text
    assert "were not recomputed" in text


def test_the_keyboard_reaches_everything(reader: Reader) -> None:
    tab = reader.tab
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the table"
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.type("acme/rules")
    tab.locator("tbody a").first.press("Enter")
    tab.wait_for_selector("article")
    assert tab.evaluate("document.activeElement.tagName") == "H2"
    for key, at in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        tab.keyboard.press(key)
        assert tab.evaluate("[...document.querySelectorAll('article')].indexOf(document.activeElement)") == at
    tab.keyboard.press("Escape")
    tab.wait_for_selector("tbody")
    assert reader.systems() == ["acme/rules"]  # the search is still there
    tab.go_back()
    tab.wait_for_selector("article")


def test_answers_full_of_markup_are_text(reader: Reader) -> None:
    tab = reader.tab
    reader.choose_board("longest")
    assert "<b>base</b>" in tab.locator("tbody").inner_text()
    tab.locator("tbody a").click()
    tab.wait_for_selector("article")
    tab.get_by_text("How it was made").click()
    assert EVIL.replace("\u202e", "") in tab.locator("dl").inner_text()
    shown = [
        t for t in tab.locator("article .sides div:first-child .text").all_text_contents() if t.startswith("</script>")
    ]
    assert len(shown) == 11
    assert shown[0] == EVIL.replace("\u202e", "\u27e8U+202E\u27e9")
    assert tab.locator("main b, main img, main script").count() == 0
    assert "their ids are shown" in tab.locator("main").inner_text()
    tab.get_by_role("button", name="Show all 5000 characters").click()
    assert "x" * 5000 in tab.locator("article .text").all_text_contents()


def test_answers_beside_the_page_are_loaded_when_opened(
    browser: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BUDGET", 70_000)
    shutil.copytree(root, tmp_path / "root")
    build.write(tmp_path / "root", build.build(tmp_path / "root"))
    assert len(os.listdir(tmp_path / "root" / "answers")) > 5
    reader = Reader(browser, tmp_path / "root")
    asked: list[str] = []
    reader.tab.on("request", lambda request: asked.append(request.url))
    reader.choose_board("longest")
    reader.tab.locator("tbody a").click()
    reader.tab.wait_for_selector("article")
    assert len(asked) == 2  # the submission's answers, and its reference's
    assert reader.tab.locator("article").count() == 12
    reader.close()
    shutil.rmtree(tmp_path / "root" / "answers")
    alone = Reader(browser, tmp_path / "root")
    alone.tab.locator("tbody a").first.click()
    alone.tab.get_by_text("is not beside this page").wait_for()
    alone.tab.context.close()


def test_theme_can_be_chosen(reader: Reader) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    button = reader.tab.get_by_role("button", name="Theme")
    light = reader.tab.evaluate(ground)
    button.click()
    assert reader.tab.evaluate(ground) == light
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert reader.tab.evaluate(ground) != light


@pytest.mark.parametrize("view", VIEWS)
def test_accessibility_and_width(browser: Any, root: Path, view: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    reader = Reader(browser, root, view)
    tab = reader.tab

    def examine(where: str) -> None:
        found = axe.run(tab, options=AXE_RULES).response["violations"]
        told = [f"{v['id']}: {v['nodes'][0]['html'][:120]}: {v['nodes'][0]['failureSummary']}" for v in found]
        assert not told, where
        overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, where

    examine("table")
    if view == "phone":
        tab.get_by_text("Filter and sort").click()
        assert tab.get_by_label("Kind").is_visible()
    tab.get_by_role("link", name="rules paper").click()
    tab.wait_for_selector("article")
    tab.get_by_text("How it was made").click()
    examine("answers")
    sides = [s.bounding_box() for s in tab.locator("article").first.locator(".sides > div").all()]
    assert (sides[0]["x"] == sides[1]["x"]) == (view == "phone")
    reader.open("#/board/published-1")
    tab.wait_for_selector("text=were not recomputed")
    examine("published")
    reader.tab.context.close()
    assert not [p for p in reader.problems if "axe" not in p]
