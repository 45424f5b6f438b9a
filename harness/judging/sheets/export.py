"""The blind sheet on which raters compare answers, written as CSV, as a page for the browser and as JSON Lines.

All hold the same rows; the page works without a network and saves the same CSV. A row's key is a hash of the
instruction and the two answers as shown; it tells neither the system nor the order, and is all that reading back needs.
It starts with a letter, else a spreadsheet would take some keys for numbers and save them as such.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.sheets.verdicts import row_key
from implicit_if.harness.safe_text import cut, neutralise
from implicit_if.harness.storage import atomic_write

COLUMNS = ("key", "instruction", "answer_1", "answer_2", "verdict", "attempts_1", "attempts_2", "comment")

MAX_CHARS = 24_000
"""Characters of a text that the sheet shows: a spreadsheet's cell holds 32,767."""

SHEET = "sheet.csv"
SHEETS = ("sheet.csv", "sheet.jsonl", "sheet-*.csv", "sheet-*.jsonl")
"""What lies in a sheet's folder: `SHEET`, the same as JSON Lines, and what its page saved."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_TEMPLATE = Path(__file__).parents[1] / "prompts" / "sheet.html.jinja"


@dataclass(frozen=True)
class Row:
    """One row of a sheet, as raters see it."""

    key: str
    instruction: str
    answer_1: str
    answer_2: str


def export_sheet(comparisons: Iterable[Comparison], path: str | Path, seed: int) -> int:
    """Writes a sheet: `path` (CSV), a page (HTML) and JSON Lines of the same name, each atomically.

    Every pair stands on it once, whichever orders are given; identical answers, a tie without a rater, do not. Rows,
    and the two answers within each, are shuffled. Equal comparisons and seed give equal bytes. Texts are shown up to
    `MAX_CHARS` characters.

    Args:
        comparisons: What is to be judged.
        path: The CSV file; its suffix is .csv.
        seed: Of the shuffling.

    Returns:
        The number of rows.

    Raises:
        UserError: If the path does not end in .csv, or the sheet exists (people may have worked on it).
    """
    target = Path(path)
    page, lines = target.with_suffix(".html"), target.with_suffix(".jsonl")
    if target.suffix != ".csv":
        raise UserError(f"the sheet is {str(target)!r}, expected a name that ends in .csv.")
    if any(map(os.path.exists, (target, page, lines))):
        raise UserError(
            f"{target}, {page.name} or {lines.name} exists already and may hold verdicts. Give another name, or "
            f"move it."
        )
    rows = _rows(comparisons, random.Random(seed))
    try:
        with atomic_write(page) as file:
            file.write(_page(rows, title=target.stem))
        with atomic_write(lines) as file:
            empty = {"preference": None, "attempts_1": None, "attempts_2": None, "why": ""}
            file.writelines(json.dumps(asdict(row) | empty) + "\n" for row in rows)
        with atomic_write(target) as file:
            file.write("\ufeff")  # else spreadsheets take UTF-8 for something else
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([r.key, *map(as_cell, (r.instruction, r.answer_1, r.answer_2)), *[""] * 4] for r in rows)
    except OSError as error:
        raise UserError(f"{target}: the sheet cannot be written ({error}). Give a folder you may write to.") from error
    return len(rows)


def sheet_exists(folder: Path) -> bool:
    """Whether a folder holds a sheet, empty or judged."""
    return os.path.isdir(folder) and any(True for name in SHEETS for _ in folder.glob(name))


def as_cell(text: str) -> str:
    """The text as a spreadsheet shows it without running it: an apostrophe before anything it takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _rows(comparisons: Iterable[Comparison], rng: random.Random) -> list[Row]:
    pairs = {(*sorted((c.first, c.second)), c.instruction) for c in comparisons if c.first != c.second}
    rows = []
    for low, high, instruction in sorted(pairs):
        first, second = (low, high) if rng.random() < 0.5 else (high, low)
        shown = (neutralise(cut(text, MAX_CHARS)[0]) for text in (instruction, first, second))
        rows.append(Row(row_key(instruction, first, second), *shown))
    rng.shuffle(rows)
    return rows


def _page(rows: Sequence[Row], title: str) -> str:
    """The page. Texts travel as JSON in which `<`, `>` and `&` are escaped, and are shown as text, never as HTML."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    script = "".join(template.blocks["script"](template.new_context({})))
    data = json.dumps([asdict(row) for row in rows], ensure_ascii=True)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    page: str = template.render(title=title, data=data, script_hash=_csp_hash(script))
    return page


def _csp_hash(script: str) -> str:
    """What the page's content security policy permits to run: this script and nothing else."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
