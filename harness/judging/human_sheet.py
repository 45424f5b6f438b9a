"""The blind sheet on which people compare answers: written as CSV and as a page for the browser, and read back.

Both hold the same rows; the page works without a network and saves the same CSV. A row's key is a hash of the
instruction and the two answers as shown; it tells neither the system nor the order, and is all that reading back needs.
It starts with a letter, else a spreadsheet would take some keys for numbers and save them as such.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.safe_text import cut, neutralise
from implicit_if.harness.storage import atomic_write, sha256_json

COLUMNS = ("key", "instruction", "answer_1", "answer_2", "verdict", "comment")
PREFERENCES = {"1": 1.0, "2": 0.0, "tie": 0.5, "=": 0.5}
"""What may stand in the column `verdict`, as a preference for the answer shown as number 1."""

MAX_CHARS = 24_000
"""Characters of a text that the sheet shows: a spreadsheet's cell holds 32,767."""

SHEET = "sheet.csv"
SAVED = "sheet-judged.csv"
"""What the page of `SHEET` saves."""

_KEY = re.compile("k[0-9a-f]{20}")
_OLD_KEY = re.compile("[0-9a-f]{20}")
"""Keys of sheets that were exported when keys had no letter."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_TEMPLATE = Path(__file__).parent / "prompts" / "human_sheet.html.jinja"


@dataclass(frozen=True)
class Row:
    """One row of a sheet, as raters see it."""

    key: str
    instruction: str
    answer_1: str
    answer_2: str


def export_sheet(comparisons: Iterable[Comparison], path: str | Path, seed: int) -> int:
    """Writes a sheet: `path` (CSV) and a page of the same name (HTML), each atomically.

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
    page = target.with_suffix(".html")
    if target.suffix != ".csv":
        raise UserError(f"the sheet is {str(target)!r}, expected a name that ends in .csv.")
    if os.path.exists(target) or os.path.exists(page):
        raise UserError(f"{target} or {page.name} exists already and may hold verdicts. Give another name, or move it.")
    rows = _rows(comparisons, random.Random(seed))
    try:
        with atomic_write(page) as file:
            file.write(_page(rows, title=target.stem))
        with atomic_write(target) as file:
            file.write("\ufeff")  # else spreadsheets take UTF-8 for something else
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([r.key, *map(as_cell, (r.instruction, r.answer_1, r.answer_2)), "", ""] for r in rows)
    except OSError as error:
        raise UserError(f"{target}: the sheet cannot be written ({error}). Give a folder you may write to.") from error
    return len(rows)


def sheet_exists(folder: Path) -> bool:
    """Whether a folder holds a sheet, empty or judged."""
    return any(os.path.exists(folder / name) for name in (SHEET, SAVED))  # also for names that are too long


def as_cell(text: str) -> str:
    """The text as a spreadsheet shows it without running it: an apostrophe before anything it takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def row_key(instruction: str, answer_1: str, answer_2: str) -> str:
    """A row's key: "k" and 20 hex digits of the hash of its full texts in the order shown."""
    return "k" + sha256_json([instruction, answer_1, answer_2])[:20]


def read_sheet(path: Path) -> dict[str, str]:
    """Verdicts by row key, an empty text where there is none yet. Separators `,`, `;` and tab are understood.

    Raises:
        UserError: If the file is no sheet, or a verdict or its key is none; names the row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"sheet {path}: cannot be read ({error}). Expected UTF-8 CSV as exported.") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    rows = list(_records(reader, path))
    if not {"key", "verdict"} <= set(reader.fieldnames or ()):
        raise UserError(f"sheet {path}: found columns {reader.fieldnames}, expected key and verdict among them.")
    verdicts: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        key, said = (row["key"] or "").strip(), (row["verdict"] or "").strip().lower()
        if said and said not in PREFERENCES:
            known = ", ".join(PREFERENCES)
            raise UserError(f"sheet {path}, record {number}: verdict {said!r}, expected {known} or nothing.")
        if _OLD_KEY.fullmatch(key):
            key = f"k{key}"
        if said and not _KEY.fullmatch(key):
            raise UserError(
                f"sheet {path}, record {number}: {key!r} is no row's key, so its verdict has no pair. Expected k and "
                f"20 hex digits, as exported; a spreadsheet may have changed it."
            )
        before = verdicts.get(key, "")
        if before and said and before != said:
            raise UserError(f"sheet {path}, record {number}: key {key} comes twice with different verdicts. Keep one.")
        verdicts[key] = said or before
    return verdicts


def read_folder(folder: Path) -> dict[str, str]:
    """The verdicts of a folder's sheet: what the page saved, or the CSV itself."""
    found = {path.name: read_sheet(path) for path in (folder / SAVED, folder / SHEET) if path.exists()}
    filled = [name for name, verdicts in found.items() if any(verdicts.values())]
    if not found or len(filled) > 1:
        raise UserError(
            f"{folder}: found verdicts in {', '.join(filled) or 'no sheet'}. Expected one sheet with verdicts, "
            f"{SAVED} or {SHEET}; move the other away."
        )
    return found[filled[0] if filled else next(iter(found))]


def _records(reader: csv.DictReader[str], path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"sheet {path}: not CSV ({error}). Export it again as UTF-8 CSV.") from error


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
