"""The page in a real browser, from a file: what readers see and do, that nothing of a submission runs, accessibility.

Needs Chromium (Debian: `apt-get install chromium`) and the `dev` extra.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_samples import make_verified
from factory import LongestJudge, make_submission, outputs

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.attempts import is_installed
from implicit_if.harness.web.document import PARTS
from implicit_if.leaderboards.boards import build
from implicit_if.leaderboards.boards.board import make_boards
from implicit_if.leaderboards.site import page, page_data
from implicit_if.leaderboards.verification.result import read_pairs
from implicit_if.leaderboards.verification.verify import verify

ROOT = Path(__file__).parents[3]
EVIL = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'><b>bold</b> \u202eright to left"
AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
VIEWS = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "tablet": {"viewport": {"width": 820, "height": 1180}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
SYSTEMS = "[aria-label='Table of systems'] tbody"


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

    def __init__(self, browser: Any, root: Path, view: str = "desk") -> None:
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
        return [text.split("\n")[1] for text in self.tab.locator(f"{SYSTEMS} th").all_inner_texts()]

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
    row = reader.tab.locator(f"{SYSTEMS} tr").filter(has=reader.tab.get_by_role("link", name="base", exact=True))
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
    places = sorted(
        range(80), key=lambda i: (-member.preferences[i], -member.attempts[i] if member.attempts.size else 0, i)
    )
    best = places[0]
    orders = [member.by_order["system_first"], member.by_order["reference_first"]]
    tab.locator(f"{SYSTEMS} tr", has_text="acme/rules").locator("td").first.click()
    tab.wait_for_selector("article")
    assert tab.locator("article").count() == 20
    first = tab.locator("article").first
    assert first.locator("h3").text_content() == pairs[best].instruction.strip()
    assert first.locator(".sides .text").nth(1).text_content() == pairs[best].reference.output[:1500]
    verdicts = first.locator(".verdicts").inner_text()
    assert f"shown first: {orders[0][best]:.2f}" in verdicts
    assert f"shown second: {orders[1][best]:.2f}" in verdicts
    wins = [p for p in member.preferences if p > 0.5]
    tab.get_by_label("Outcome").select_option("win")
    assert f"of {len(wins)} answers, 80 in all" in tab.get_by_role("status").inner_text()
    tab.get_by_label("Outcome").select_option("split")
    split = [first for first, second in zip(*orders, strict=True) if (first > 0.5) != (second > 0.5)]
    assert f"of {len(split)} answer" in tab.get_by_role("status").inner_text()
    if member.attempts.size:
        tries = int((member.attempts >= 0.5).sum())
        assert f"attempt {member.attempts[best]:.2f}" in verdicts
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
    tab.locator(SYSTEMS).get_by_role("link", name="response tuning").click()
    tab.get_by_role("link", name="s5", exact=True).click()
    tab.wait_for_selector("article")
    assert "revision s5" in tab.locator("main").inner_text()
    tab.get_by_role("link", name="All systems").click()
    tab.locator(SYSTEMS).get_by_role("link", name="other", exact=True).click()
    tab.get_by_text("there are no answers to read").wait_for()
    reader.open()
    reader.choose_board("Published")
    text = tab.locator("main").inner_text()
    assert "24.4 ± 0.4" in text
    assert "were not recomputed" in text


def test_the_keyboard_reaches_everything(reader: Reader) -> None:
    tab = reader.tab
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the numbers"
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.type("acme/rules")
    tab.locator(f"{SYSTEMS} a").first.press("Enter")
    tab.wait_for_selector("article")
    assert tab.evaluate("document.activeElement.tagName") == "H2"
    for key, at in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        tab.keyboard.press(key)
        assert tab.evaluate("[...document.querySelectorAll('article')].indexOf(document.activeElement)") == at
    tab.keyboard.press("Escape")
    tab.wait_for_selector(SYSTEMS)
    assert reader.systems() == ["acme/rules"]  # the search is still there
    tab.go_back()
    tab.wait_for_selector("article")


def test_answers_full_of_markup_are_text(reader: Reader) -> None:
    tab = reader.tab
    reader.choose_board("longest")
    assert "<b>base</b>" in tab.locator(SYSTEMS).inner_text()
    tab.locator(f"{SYSTEMS} a").click()
    tab.wait_for_selector("article")
    tab.get_by_text("How it was made").click()
    assert EVIL.replace("\u202e", "") in tab.locator("dl").inner_text()
    shown = [
        t for t in tab.locator("article .sides div:first-child .text").all_text_contents() if t.startswith("</script>")
    ]
    assert len(shown) == 11
    assert shown[0] == EVIL.replace("\u202e", "\u27e8U+202E\u27e9")
    assert tab.locator("article b, dl b, main img, main script").count() == 0
    assert "their ids are shown" in tab.locator("main").inner_text()
    tab.get_by_role("button", name="Show all 5000 characters").click()
    assert "x" * 5000 in tab.locator("article .text").all_text_contents()


def test_answers_beside_the_page_are_loaded_when_opened(
    browser: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BUDGET", 90_000)
    shutil.copytree(root, tmp_path / "root")
    build.write(tmp_path / "root", build.build(tmp_path / "root"))
    assert len(os.listdir(tmp_path / "root" / "answers")) > 5
    reader = Reader(browser, tmp_path / "root")
    asked: list[str] = []
    reader.tab.on("request", lambda request: asked.append(request.url))
    reader.choose_board("longest")
    reader.tab.locator(f"{SYSTEMS} a").click()
    reader.tab.wait_for_selector("article")
    assert len(asked) == 2  # the submission's answers, and its reference's
    assert reader.tab.locator("article").count() == 12
    reader.close()
    shutil.rmtree(tmp_path / "root" / "answers")
    alone = Reader(browser, tmp_path / "root")
    alone.tab.locator(f"{SYSTEMS} a").first.click()
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


def test_a_visitor_sees_the_chart_first_and_warnings_in_one_line(browser: Any, root: Path) -> None:
    reader = Reader(browser, root, "phone")
    tab = reader.tab
    chart = tab.locator("table.chart")
    shown = {row.split("\t")[0].strip(): row for row in chart.locator("tbody tr").all_inner_texts()}
    assert list(shown) == ["base", "rules paper", "response tuning", "other"]
    box = chart.locator("tbody tr").nth(1).bounding_box()
    assert box["y"] + box["height"] < 844  # on the first screen of a phone
    score = verify(root / "submissions" / "acme__base" / "v1").scores["win_rate"]
    assert score.bracketed() in " ".join(shown["base"].split())
    assert "2.4 / 4.7" in shown["base"]  # what was published of untuned models
    notes = tab.locator("details.mind")
    assert notes.count() == 1
    assert notes.get_attribute("open") is None
    notes.locator("summary").click()
    assert notes.locator("li").first.is_visible()
    tab.get_by_text("What the columns mean").click()
    meanings = tab.locator("details.explained dt").all_inner_texts()
    assert {"attempts %", "win rate %", "LC win rate %", "tie group", "badge", "control", "recomputed"} <= set(meanings)
    ways = tab.locator("dl.ways")
    assert ways.locator("dt").all_inner_texts() == ["Untuned", "Three rules", "Responses only"]
    reader.close()


def test_numbers_are_rounded_as_every_other_table_rounds_them(reader: Reader) -> None:
    """71.25 is 71.2 in Python and 71.3 in JavaScript: the page shows what Python wrote."""
    board = make_boards([make_verified(value=71.25, half=1.25)], {})
    (shown,) = page_data.page_rows(board, [], lambda member: [])
    win_rate = shown["rows"][0]["win_rate"]
    assert (win_rate["shown"], win_rate["ends"]) == ("71.2", "[70.0, 72.5]")
    assert "toFixed" not in (PARTS / "board.js").read_text(encoding="utf-8")
    for row in json.loads((reader.root / "leaderboard.json").read_text(encoding="utf-8"))["boards"][0]["rows"]:
        repetition = reader.tab.locator(f"{SYSTEMS} tr", has_text=row["name"]).first
        assert f"{row['form']['repetition']:.1f}" in repetition.inner_text().split()


def test_the_gallery_has_the_first_instructions_of_the_set_with_every_way_s_answer(reader: Reader) -> None:
    first = load_instructions("builtin").items[:3]
    sections = reader.tab.locator("section.gallery > section")
    assert sections.locator("h3").all_text_contents() == [item.text.strip() for item in first]
    cards = sections.first.locator(".card")
    assert [card.split(" (")[0] for card in cards.locator("h4").all_inner_texts()] == [
        "base",
        "rules paper",
        "response tuning",
    ]
    member = verify(reader.root / "submissions" / "acme__rules" / "v1")
    answer = next(p.system.output for p in read_pairs(member) if p.instruction_id == first[0].id)
    assert cards.nth(1).locator(".text").text_content() == answer[:420]


def test_categories_count_what_the_answers_hold(reader: Reader) -> None:
    tab = reader.tab
    member = verify(reader.root / "submissions" / "acme__base" / "v1")
    by_id = {item.id: item.category for item in load_instructions("builtin").items}
    names = [by_id[i] for i in member.instruction_ids]
    table = tab.locator("section.categories table")
    heads = table.locator("thead th").all_inner_texts()[1:]
    assert heads == [f"{name} ({names.count(name)})" for name in sorted(set(map(str, names)))]
    if member.attempts.size:
        cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
        first = sorted(set(map(str, names)))[0]
        tries = sum(p >= 0.5 for p, name in zip(member.attempts, names, strict=True) if name == first)
        assert cells[0].strip() == f"{tries} of {names.count(first)}"
        tab.get_by_label("Measure").select_option("wins")
    cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
    wins = [p for p, name in zip(member.preferences, names, strict=True) if name == sorted(set(map(str, names)))[0]]
    assert cells[0].strip() == f"{100 * sum(wins) / len(wins):.1f}"


def test_an_answer_has_a_link_that_can_be_shared(reader: Reader) -> None:
    tab = reader.tab
    member = verify(reader.root / "submissions" / "acme__rules" / "v1")
    worst = member.instruction_ids[min(range(80), key=lambda i: (member.preferences[i], -i))]
    reader.open(f"#/submission/{member.id.replace('/', '%2F')}/{worst}")
    tab.reload()
    tab.wait_for_selector(f"#answer-{worst}")
    assert tab.evaluate("document.activeElement.id") == f"answer-{worst}"
    link = tab.locator(f"#answer-{worst}").get_by_role("link", name="Link to this answer")
    assert link.get_attribute("href").endswith(worst)


def test_forms_of_failure_can_be_looked_for(reader: Reader) -> None:
    tab = reader.tab
    reader.choose_board("longest")
    tab.locator(f"{SYSTEMS} a").click()
    tab.wait_for_selector("article")
    tab.get_by_label("Form of failure").select_option("loop")
    assert tab.get_by_role("status").inner_text() == "1 of 1 answer, 12 in all"  # 5,000 times x
    assert "loop" in tab.locator("article .verdicts").inner_text()


def test_on_paper_everything_is_open(reader: Reader) -> None:
    tab = reader.tab
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    assert not tab.locator("#theme").is_visible()
    assert not tab.get_by_label("Search systems").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0


def test_a_page_is_small(root: Path) -> None:
    assert (root / "page.html").stat().st_size < 5_000_000
    assert (ROOT / "leaderboards" / "page.html").stat().st_size < 5_000_000


@pytest.mark.parametrize("view", VIEWS)
def test_accessibility_and_width(browser: Any, root: Path, view: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    reader = Reader(browser, root, view)
    tab = reader.tab

    def examine(where: str) -> None:
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            found = axe.run(tab, options=AXE_RULES).response["violations"]
            told = [f"{v['id']}: {v['nodes'][0]['html'][:120]}: {v['nodes'][0]['failureSummary']}" for v in found]
            assert not told, (where, scheme)
        overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, where

    tab.get_by_text("What the columns mean").click()
    tab.locator("details.mind summary").click()
    if view == "phone":
        tab.get_by_text("Filter and sort").click()
        assert tab.get_by_label("Kind").is_visible()
    examine("table")
    tab.locator(SYSTEMS).get_by_role("link", name="rules paper").click()
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
