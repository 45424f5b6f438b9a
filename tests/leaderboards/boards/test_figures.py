"""Figures: well-formed, drawn to scale, and text stays text."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from board_samples import SHA, make_verified
from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.svg import Bar, BarRow, bar_panels
from implicit_if.leaderboards.boards import figures
from implicit_if.leaderboards.boards.board import Board, make_boards

ROOT = Path(__file__).parents[3]
NS = "{http://www.w3.org/2000/svg}"


def board_of(*verified: object) -> Board:
    ((board, _),) = make_boards(verified, {})  # type: ignore[arg-type]
    return board


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{NS}text")]


def test_win_rates_are_drawn_to_scale_best_first() -> None:
    control = {"kind": "control", "control": "empty"}
    board = board_of(
        make_verified("a/low", value=20, half=10),
        make_verified("a/high", value=70, half=5),
        make_verified("c/c", system=control, value=45),
    )
    root = ET.fromstring(figures.win_rates(board))
    circles = [(float(c.get("cx", "")), float(c.get("cy", "")), c.get("fill")) for c in root.iter(f"{NS}circle")]
    ticks = {t.text: float(t.get("x", "")) for t in root.iter(f"{NS}text") if (t.text or "").endswith(" %")}
    scale = (ticks["100 %"] - ticks["0 %"]) / 100
    assert [(x - ticks["0 %"]) / scale for x, _, _ in circles] == pytest.approx([70, 45, 20], abs=0.05)
    assert [y for _, y, _ in circles] == sorted(y for _, y, _ in circles)
    assert [fill == "#ffffff" for _, _, fill in circles] == [False, True, False]
    ends = [
        tuple(map(float, re.findall(r"^M([\d.]+) [\d.]+H([\d.]+)", p.get("d", ""))[0])) for p in root.iter(f"{NS}path")
    ]
    shown = [((low - ticks["0 %"]) / scale, (high - ticks["0 %"]) / scale) for low, high in ends]
    assert [v for pair in shown for v in pair] == pytest.approx([65, 75, 40, 50, 10, 30], abs=0.05)
    assert "95% intervals; controls are hollow" in texts(figures.win_rates(board))


def test_length_figure_places_systems_by_length_and_win_rate() -> None:
    board = board_of(
        make_verified("a/a", value=25, form={"avg_length": 500.0}),
        make_verified("a/b", value=75, form={"avg_length": 1000.0}),
    )
    root = ET.fromstring(figures.lengths(board))
    (b, a) = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{NS}circle")]
    assert b[0] - 56 == pytest.approx(2 * (a[0] - 56), abs=0.2)
    assert a[1] - b[1] == pytest.approx(420 / 2, abs=0.2)
    assert "rules paper · a/b" in texts(figures.lengths(board))
    ends = [p.get("d", "") for p in root.iter(f"{NS}path") if p.get("d", "").count("V")]
    assert len(ends) == 2  # the intervals that the figure's note names
    assert "95% intervals" in texts(figures.lengths(board))


def test_a_system_without_length_is_not_placed() -> None:
    board = board_of(make_verified("a/a", form={"avg_length": None}), make_verified("a/b"))
    assert figures.lengths(board).count("<circle") == 1
    assert "<circle" not in figures.lengths(board_of(make_verified("a/a", form={"avg_length": None})))


@given(st.floats(0, 1e6))
def test_the_axis_reaches_the_largest_length_in_few_round_steps(largest: float) -> None:
    step, end = figures._scale(largest)
    assert end >= largest
    assert 1 <= end / step <= 6
    assert f"{step:e}"[0] in "125"


def test_of_a_large_board_the_best_are_drawn_and_the_rest_counted() -> None:
    board = board_of(*(make_verified(f"a/s{i:03}", value=i / 2) for i in range(100)))
    svg = figures.win_rates(board)
    assert svg.count("<circle") == figures.MOST
    assert any(f"the best {figures.MOST} of 100 systems" in t for t in texts(svg))
    assert any("a/s099" in t for t in texts(svg))


def test_hostile_texts_are_text() -> None:
    nasty = "</text><script>alert(1)</script>\"&'"
    board = board_of(make_verified(judge={"name": nasty}, reference={"name": nasty}))
    rules = {"kind": "rules", "preset": "paper", "without": ["eos"]}
    ((_, ablation),) = make_boards([make_verified(system=rules, reference={"name": nasty})], {})
    assert ablation is not None
    for _, name, svg in [*figures.figures_of(board, rules=False), *figures.figures_of(ablation, rules=True)]:
        root = ET.fromstring(svg)
        assert {e.tag.removeprefix(NS) for e in root.iter()} <= {
            "svg",
            "style",
            "rect",
            "text",
            "line",
            "path",
            "circle",
        }
        assert "<script" not in svg
        assert nasty in (root.get("aria-label") or "")
        assert re.fullmatch(r"[a-z-]+-[0-9a-f]{12}\.svg", name)


def test_what_xml_forbids_is_replaced() -> None:
    svg = bar_panels("\x00\u202e\ud800", ["p"], [BarRow("a\x0bb\u2066", "#000000", [Bar(None, note="none")])])
    assert ET.fromstring(svg.encode("utf-8")).get("aria-label") == "\ufffd" * 3
    assert "a\ufffdb\ufffd" in texts(svg)


def boxes(svg: str, browser: Any) -> list[tuple[str, dict[str, float]]]:
    """Every text of a figure with the box that Chromium draws it in."""
    tab = browser.new_page(viewport={"width": 1400, "height": 2000})
    tab.set_content(f"<body style='margin:0'>{svg}</body>")
    found = tab.evaluate(
        "[...document.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect().toJSON()])"
    )
    size = tab.evaluate("document.querySelector('svg').getBoundingClientRect().toJSON()")
    tab.close()
    assert not [text for text, box in found if box["left"] < 0 or box["right"] > size["right"]], "cut off"
    return found


def test_no_text_covers_another_or_is_cut_off(browser: Any) -> None:
    long, key = "owner/a-model-with-a-long-name-instruction-full-s1", {"name": "a-model/instruction-full-s1"}
    several = [make_verified(f"{long}-{i}", value=10 + i / 3, form={"avg_length": 200.0 + 9 * i}) for i in range(14)]
    rules = {"kind": "rules", "preset": "paper"}
    ablations = [
        make_verified(f"a/{name}", system=rules | {"without": [name]}, value=40, reference=key)
        for name in ("eos", "diversity", "uniform")
    ]
    ((_, ablation),) = make_boards(ablations, {})
    assert ablation is not None
    for svg in (figures.win_rates(board_of(*several)), figures.lengths(board_of(*several)), figures.ablation(ablation)):
        found = boxes(svg, browser)
        for i, (text, a) in enumerate(found):
            for other, b in found[:i]:
                apart = (
                    min(a["right"], b["right"]) - max(a["left"], b["left"]) < 1
                    or min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) < 4
                )
                assert apart, (text, other)


def test_a_figure_follows_the_reader_s_scheme(browser: Any) -> None:
    svg = figures.win_rates(board_of(make_verified("a/a")))
    shown = []
    for scheme in ("light", "dark"):
        tab = browser.new_page(color_scheme=scheme)
        tab.set_content(svg)
        colour = "s => getComputedStyle(document.querySelector(s)).fill.match(/\\d+/g).map(Number)"
        shown.append([sum(tab.evaluate(colour, what)) / 3 for what in ("rect", "text")])
        tab.close()
    (ground, ink), (dark_ground, dark_ink) = shown
    assert ground == 255
    assert ink < 60
    assert dark_ground < 30
    assert dark_ink > 200


def test_the_reference_has_no_interval_and_no_tie_group_against_itself() -> None:
    reference = {"name": "r", "sha256": SHA["d"]}  # what the made-up answers hash to
    board = board_of(
        make_verified("a/r", value=50, system={"kind": "instruction"}, reference=reference),
        replace(make_verified("a/a", value=20, half=10, reference=reference), outputs_sha256=SHA["f"]),
    )
    rows = {row.label.endswith("(the reference)"): row for row in board.rows}
    assert rows[True].win_rate.value == 50
    assert rows[True].win_rate.interval is None
    assert rows[True].id not in board.groups
    assert rows[False].win_rate.interval is not None
    assert rows[False].id in board.groups
    assert figures.win_rates(board).count("<path") == 1


def test_ablation_bars_have_their_length() -> None:
    rules = {"kind": "rules", "preset": "paper"}
    verified = [
        make_verified("a/r", system=rules, value=80),
        make_verified("a/w", system=rules | {"without": ["eos"]}, value=40, form={"finish_rate": None}),
    ]
    ((_, board),) = make_boards(verified, {})
    assert board is not None
    root = ET.fromstring(figures.ablation(board))
    bars = [float(r.get("width", "")) for r in root.iter(f"{NS}rect")][1:]
    assert bars == [160, 80, 180, 2, 2]  # 200 pixels a panel, panel by panel; the second finish rate is unknown
    assert "-" in texts(figures.ablation(board))


def test_the_readme_s_figure_and_table_are_the_boards(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "systems_figure.py"), str(ROOT / "leaderboards"), "new.svg"]
    printed = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert (tmp_path / "new.svg").read_bytes() == (ROOT / "docs" / "figures" / "systems.svg").read_bytes()
    assert printed.strip() in (ROOT / "README.md").read_text(encoding="utf-8")
