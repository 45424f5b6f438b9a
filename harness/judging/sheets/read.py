"""Sheets read back: CSV as a spreadsheet or the page saves it, and JSON Lines; docs/judges.md describes both.

What is read is not trusted: every row is checked, and names and reasons lose what a terminal would obey.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.errors import UserError, raise_all, unknown_name
from implicit_if.harness.judging.sheets.verdicts import Rater, SheetVerdict, checked_rater, from_raw, hash_key
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import read_rows

PREFERENCES = {"1": 1.0, "2": 0.0, "tie": 0.5, "=": 0.5}
"""What may stand in the column `verdict`, as a preference for the answer shown as number 1."""

_ATTEMPTS: Mapping[Any, bool | None] = {
    **dict.fromkeys(("yes", "true", "1"), True),
    **dict.fromkeys(("no", "false", "0"), False),
    "": None,
}
_KEY = re.compile("k[0-9a-f]{20}")
_OLD_KEY = re.compile("[0-9a-f]{20}")
"""Keys of sheets that were exported when keys had no letter."""
_ID = re.compile("[0-9a-f]{16}")
_SHA256 = re.compile("[0-9a-f]{64}")
_SHOWN = {"system_first": 1, "reference_first": 2, "none": 0}
_WHY = 300

_ABOUT = {"rater", "rater_kind", "preference", "why"}
_BLIND = {*_ABOUT, "key", "instruction", "answer_1", "answer_2", "attempts_1", "attempts_2"}
_VERDICT = {*_ABOUT, "order", "system_attempts", "reference_attempts"}
_HASHED = {*_VERDICT, "instruction_id", "system", "system_sha256", "reference", "reference_sha256", "verdicts"}
_EXPECTED = "a sheet of verdicts, one JSON object a line"


def read_sheet(path: str | os.PathLike[str]) -> list[SheetVerdict]:
    """The rows of one sheet; those that are not filled in have no preference. A row that repeats another counts once.

    Args:
        path: A file that ends in .jsonl (or .json, a list) is JSON; anything else is CSV with `,`, `;` or tab. A file
            of a sheet's annotations gives the rows that they were made of.

    Raises:
        UserError: If the file is no sheet, or rows are malformed or contradict each other; names the first 20.
    """
    target = Path(path)
    json_lines = target.suffix.lower() in (".jsonl", ".json")
    return _without_repetitions(_json_rows(target) if json_lines else _csv_rows(target), target)


def read_folder(folder: Path, names: Iterable[str]) -> list[SheetVerdict]:
    """The rows of a folder's sheets: of those with verdicts, one a rater, else of the first.

    Args:
        folder: The folder.
        names: Patterns of the sheets' names.

    Raises:
        UserError: If there is no sheet, or two hold one rater's verdicts.
    """
    paths = sorted({path for name in names for path in folder.glob(name)})
    found = {path.name: read_sheet(path) for path in paths}
    filled = {name: rows for name, rows in found.items() if any(row.preference is not None for row in rows)}
    raters: dict[Rater, list[str]] = {}
    for name, rows in filled.items():
        for rater in {row.rater for row in rows if row.preference is not None}:
            raters.setdefault(rater, []).append(name)
    twice = next((names for names in raters.values() if len(names) > 1), [])
    if not found or twice:
        raise UserError(
            f"{folder}: found {'verdicts of one rater in ' + ', '.join(twice) if twice else 'no sheet'}. Expected one "
            f"sheet with verdicts for each rater; move the others away."
        )
    return [row for rows in filled.values() for row in rows] or found[next(iter(found))]


def read_sheets(argument: str, names: Iterable[str]) -> list[SheetVerdict]:
    """The rows of a sheet, of a folder's sheets, or of several sheets.

    Args:
        argument: A path, or several joined by commas; `NAME=PATH` says who filled a sheet in that does not say it.
        names: As in `read_folder`.

    Raises:
        UserError: As `read_sheet` and `read_folder`, and if a sheet names another rater than NAME.
    """
    whole = Path(os.path.expanduser(argument))
    parts = [str(whole)] if os.path.exists(whole) else [part for part in argument.split(",") if part]
    return [row for part in parts for row in _read_part(part, names)]


def _read_part(part: str, names: Iterable[str]) -> list[SheetVerdict]:
    name, equals, rest = part.partition("=")
    named = bool(equals) and not os.path.exists(os.path.expanduser(part))
    path = Path(os.path.expanduser(rest if named else part))
    rows = read_folder(path, names) if os.path.isdir(path) else read_sheet(path)
    if not named:
        return rows
    wanted = checked_rater("", name, part).name
    if other := next((row for row in rows if row.rater.name not in ("", wanted)), None):
        raise UserError(
            f"{other.place}: the rater is {other.rater.name}, not {wanted}. Give the file without {wanted}=."
        )
    return [row._replace(rater=row.rater._replace(name=wanted)) for row in rows]


def _csv_rows(path: Path) -> Iterator[SheetVerdict]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"sheet {path}: cannot be read ({error}). Expected UTF-8 CSV as exported.") from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"sheet {path}: not CSV ({error}). Export it again as UTF-8 CSV.") from error
    if not {"key", "verdict"} <= set(reader.fieldnames or ()):
        raise UserError(f"sheet {path}: found columns {reader.fieldnames}, expected key and verdict among them.")
    yield from _each(path, ((f"record {n}", row) for n, row in enumerate(rows, start=2)), _csv_row)


def _csv_row(row: dict[str, Any], place: str) -> list[SheetVerdict]:
    cells = {name: (row.get(name) or "").strip() for name in ("key", "verdict", "comment", "rater", "rater_kind")}
    said, key = cells["verdict"].lower(), cells["key"]
    if said and said not in PREFERENCES:
        known = ", ".join(PREFERENCES)
        raise UserError(f"{place}: verdict {one_line(said, 60)!r}, expected {known} or nothing.")
    if _OLD_KEY.fullmatch(key):
        key = f"k{key}"
    first, second = (_attempt((row.get(name) or "").strip(), place) for name in ("attempts_1", "attempts_2"))
    if (said or (first, second) != (None, None)) and not _KEY.fullmatch(key):
        raise UserError(
            f"{place}: {one_line(key, 60)!r} is no row's key, so its verdict has no pair. Expected k and 20 hex "
            f"digits, as exported; a spreadsheet may have changed it."
        )
    rater = checked_rater(cells["rater_kind"], cells["rater"], place)
    preference = PREFERENCES.get(said)
    return [SheetVerdict(place, key, rater, "", 1, preference, (first, second), _reason(cells["comment"], place))]


def holds_annotations(path: Path) -> bool:
    """Whether a file holds a judge's stored verdicts rather than a sheet's rows."""
    return path.suffix.lower() == ".jsonl" and "fingerprint" in next(read_rows(path, _EXPECTED), ("", {}))[1]


def _json_rows(path: Path) -> Iterator[SheetVerdict]:
    if holds_annotations(path):
        yield from _stored_rows(path)
    else:
        yield from _each(path, read_rows(path, _EXPECTED), _json_row)


def _stored_rows(path: Path) -> Iterator[SheetVerdict]:
    """The rows that stored verdicts were made of, by hash."""
    others = set()
    for a in AnnotationStore(path).read().verdicts.values():
        pair = hash_key(a.instruction_id, a.system_sha256, a.reference_sha256)
        if a.judge.startswith("sheet:"):
            yield from (row._replace(place=f"{path}", pair=pair) for row in from_raw(a.raw))
        else:
            others.add(a.judge)
    if others:
        raise UserError(f"sheet {path}: holds verdicts of {', '.join(sorted(others))}, expected those of sheets alone.")


def _json_row(row: dict[str, Any], place: str) -> list[SheetVerdict]:
    """A row's verdict, or the several that its `verdicts` lists."""
    if "key" in row:
        _known(row, _BLIND, place)
        key = row["key"]
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise UserError(f"{place}: key {_shown(key)}, expected k and 20 hex digits, as exported.")
        return [_verdict(row, place, key, "", 1, ("attempts_1", "attempts_2"))]
    _known(row, _HASHED, place)
    hashes = []
    for name, form in (("instruction_id", _ID), ("system_sha256", _SHA256), ("reference_sha256", _SHA256)):
        value = row.get(name)
        if not isinstance(value, str) or not form.fullmatch(value):
            digits = 16 if form is _ID else 64
            raise UserError(f"{place}: {name} is {_shown(value)}, expected {digits} hex digits (or a `key` instead).")
        hashes.append(value)
    given = row.get("verdicts", [row])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UserError(f"{place}: verdicts is {_shown(given)}, expected a list of objects.")
    if given != [row] and (both := sorted(row.keys() & _VERDICT - {"rater", "rater_kind"})):
        raise UserError(f"{place}: holds `verdicts` and {both[0]!r}. Expected either, since both are a verdict.")
    found = []
    for one in given:
        if one is not row:
            _known(one, _VERDICT, place)
        if (order := str(one.get("order", "none"))) not in _SHOWN:
            raise UserError(f"{place}: order {_shown(one['order'])}, expected {', '.join(_SHOWN)}.")
        about = {"rater": row.get("rater"), "rater_kind": row.get("rater_kind")} | one
        shown, sides = _SHOWN[order], ("system_attempts", "reference_attempts")
        system = _reason(row.get("system") or "", place)
        found.append(_verdict(about, place, hash_key(*hashes), system, shown, sides))
    return found


def _verdict(
    row: Mapping[str, Any], place: str, pair: str, system: str, shown: int, sides: tuple[str, str]
) -> SheetVerdict:
    preference = row.get("preference")
    if preference is not None and (
        isinstance(preference, bool) or not isinstance(preference, int | float) or not 0 <= preference <= 1
    ):
        raise UserError(f"{place}: preference {_shown(preference)}, expected a number from 0 to 1, or null.")
    kind, rater = (row.get(name) or "" for name in ("rater_kind", "rater"))
    if not isinstance(kind, str) or not isinstance(rater, str):
        raise UserError(f"{place}: rater_kind and rater are {_shown([kind, rater])}, expected texts.")
    return SheetVerdict(
        place,
        pair,
        checked_rater(kind, rater, place),
        system,
        shown,
        None if preference is None else float(preference),
        (_attempt(row.get(sides[0]), place), _attempt(row.get(sides[1]), place)),
        _reason(row.get("why") or "", place),
    )


def _each(
    path: Path,
    rows: Iterable[tuple[str, dict[str, Any]]],
    read: Callable[[dict[str, Any], str], list[SheetVerdict]],
) -> Iterator[SheetVerdict]:
    """The verdicts of all rows; one error names every bad row."""
    faults: list[UserError] = []
    for place, row in rows:
        try:
            yield from read(row, f"sheet {path}, {place}")
        except UserError as error:
            faults.append(error)
    raise_all(faults, f"sheet {path}")


def _without_repetitions(rows: Iterable[SheetVerdict], path: Path) -> list[SheetVerdict]:
    """Each verdict once; a row that is not filled in counts only where no other of its kind is."""
    found: dict[tuple[Any, ...], SheetVerdict] = {}
    faults: list[UserError] = []
    for row in rows:
        what = (row.pair, row.rater, row.system, row.shown)
        before = found.get(what)
        if before is None:
            found[what] = row
            continue
        parts = ((before.preference, row.preference), *zip(before.attempts, row.attempts, strict=True))
        if any(a is not None and b is not None and a != b for a, b in parts):
            name = "key" if _KEY.fullmatch(row.pair) else "pair"
            faults.append(UserError(f"{row.place}: {name} {row.pair} comes twice with different verdicts. Keep one."))
        elif before.preference is None:
            found[what] = row
    raise_all(faults, f"sheet {path}")
    return list(found.values())


def _known(row: Mapping[str, Any], names: set[str], place: str) -> None:
    for name in row.keys() - names:
        raise UserError(f"{place}: {unknown_name('field', one_line(name, 60), names)}")


def _attempt(value: Any, place: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, str | int) else None
    if text not in _ATTEMPTS:
        raise UserError(f"{place}: attempts {_shown(value)}, expected yes or no (in JSON true, false or null).")
    return _ATTEMPTS[text]


def _reason(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {_shown(value)} stands where a text is expected.")
    return one_line(value, _WHY)


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)
