"""Numbers in the documentation: each table has its command beside it, and one of them is made again by it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from implicit_if.harness.cli import main

ROOT = Path(__file__).parents[2]
# What a command writes, without a word of ours; the page that shows it names the command.
RAW = {"docs/ablations", "examples/audit/audit.md"}
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "leaderboards").glob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
        *sorted((ROOT / "tasks").rglob("*.md")),
    )
    if not any(path.is_relative_to(ROOT / folder) for folder in RAW)
]
NUMBER = re.compile(r"[*`]*[+-]?\d[\d,]*(\.\d+)?( ?%| m?s| GiB)?( ?[±\[(].*)?[*`]*")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = "|".join(PROJECT["entry-points"]["implicit_if.commands"])
COMMAND = re.compile(rf"(implicit-if (?:{OURS})\b|lm_eval |pytest |python (?:tools|benchmarks|examples)/[\w/]+\.py)")
SCORE = re.compile(r"\d+\.\d( ± \d+\.\d)? \[-?\d+\.\d, -?\d+\.\d\]")


def tables(text: str) -> list[list[list[str]]]:
    """The Markdown tables of a text, as rows of cells without the line under the header."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    rows = [[line.strip().strip("|").split("|") for line in block.strip().splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for n, row in enumerate(table) if n != 1] for table in rows]


def holds_measurements(table: list[list[str]]) -> bool:
    """Whether a quarter of the cells beside the first column are numbers; settings have no heading, or few numbers."""
    cells = [cell for row in table[1:] for cell in row[1:]]
    n = sum(bool(NUMBER.fullmatch(cell)) for cell in cells)
    return n >= 2 and 4 * n > len(cells) and any(table[0])


@pytest.mark.parametrize("page", PAGES)
def test_a_table_of_numbers_names_its_command(page: str) -> None:
    """In its section, or at the top of the page."""
    lead, *sections = re.split(r"^(?=## )", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
    missing = [
        section.splitlines()[0]
        for section in (lead, *sections)
        if any(map(holds_measurements, tables(section))) and not COMMAND.search(section) and not COMMAND.search(lead)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_a_script_that_makes_numbers_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    scripts = re.findall(r"python ((?:tools|benchmarks|examples)/[\w/]+\.py)", text)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_rule_finds_tables_without_a_command() -> None:
    numbers = "| a | win rate % |\n|---|---|\n| x | 47.5 [39.6, 55.5] |\n| y | 4.6 |\n"
    assert [holds_measurements(table) for table in tables(numbers)] == [True]
    assert not any(map(holds_measurements, tables("| option | default |\n|---|---|\n| `x` | a text |\n")))
    assert COMMAND.search("`python tools/fit_length_prior.py` makes it")
    assert not COMMAND.search("made by a tool")


def shown_scores() -> list[str]:
    """The README's win rates with intervals, in the columns that say so."""
    found = []
    for head, *rows in tables((ROOT / "README.md").read_text(encoding="utf-8")):
        columns = [place for place, name in enumerate(head) if name.endswith("win rate %")]
        found += [row[place] for row in rows for place in columns if SCORE.fullmatch(row[place])]
    return found


def test_the_readme_s_scores_are_the_boards() -> None:
    """Which `implicit-if leaderboard` makes of the submissions' answers and verdicts."""
    boards = " ".join((ROOT / "leaderboards" / name).read_text(encoding="utf-8") for name in ("README.md", "rules.md"))
    assert shown_scores()
    assert [score for score in shown_scores() if score not in boards] == []


def test_the_readme_s_measures_of_form_are_the_boards() -> None:
    forms = ("finish %", "leak %", "repetition %", "length")
    made: dict[str, list[float]] = {}
    shown: dict[str, list[float]] = {}
    for name, found in (("leaderboards/README.md", made), ("README.md", shown)):
        for head, *rows in tables((ROOT / name).read_text(encoding="utf-8")):
            if set(forms) <= set(head):
                found |= {
                    row[head.index("attempts %")]: [float(row[head.index(form)]) for form in forms] for row in rows
                }
    assert len(shown) == 2
    assert shown == {attempts: made[attempts] for attempts in shown}


def test_a_number_of_the_readme_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The first win rate that the README shows: `implicit-if verify` judges its row's answers again and scores them."""
    score = shown_scores()[0]
    rows = (row for row in (ROOT / "leaderboards" / "README.md").read_text(encoding="utf-8").splitlines())
    folders = [re.search(r"\]\((submissions/[^)]+)\)", row) for row in rows if f" {score} " in row]
    folder = next(found[1] for found in folders if found is not None)
    assert main(["verify", str(ROOT / "leaderboards" / folder), "--rejudge"]) == 0
    printed = capsys.readouterr().out
    assert f"win rate: {score}" in printed
    assert "verdicts are the same" in printed
