"""The judge `sheet:<sheet>`: verdicts that people or other raters filled in outside of the program (`sheets/`).

The judge is the rater, not the sheet: a rater's verdicts on any number of sheets, filled in at any time, are one
judge's. The sheet is read again by every run, so that what is changed on it counts at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict
from implicit_if.harness.judging.sheets.export import SHEETS
from implicit_if.harness.judging.sheets.read import read_sheets
from implicit_if.harness.judging.sheets.verdicts import (
    KINDS,
    Rater,
    SheetVerdict,
    as_raw,
    attempts_as_raw,
    attempts_of,
    checked_rater,
    fingerprint_of_name,
    judge_name,
    keys_of,
    mean_attempts,
    mean_preference,
)
from implicit_if.harness.outputs import instruction_id
from implicit_if.harness.storage import sha256_text

__all__ = ["SheetAttempts", "SheetJudge", "build", "build_attempts", "fingerprint_of_name"]

_OPTIONS = ("kind", "rater", "raters", "system")


@dataclass(frozen=True)
class Identity:
    """What a judge is known by; see `Judge`."""

    name: str
    fingerprint: str


class SheetJudge(LocalJudge):
    """The verdicts of one rater, or the mean of several, read from sheets; see `Judge`.

    A pair that a rater judged more than once, in both orders or as two systems' answers, counts once, with the mean. Of
    several raters each must have judged a pair.

    Attributes:
        name: `sheet:KIND/RATER`.
        fingerprint: Hash of the raters, so that verdicts of several sheets and sittings may stand together.
        folder: Where the sheet lies.
    """

    def __init__(self, rows: Sequence[SheetVerdict], identity: Identity, folder: Path = Path()) -> None:
        self.name, self.fingerprint, self.folder = identity.name, identity.fingerprint, folder
        self._raters = sorted(raters_of(rows))
        self._by_pair: dict[str, list[SheetVerdict]] = {}
        for row in rows:
            self._by_pair.setdefault(row.pair, []).append(row)

    @property
    def for_answer_1(self) -> list[float]:
        """Preferences for the answer that was shown first, of every verdict that says which was."""
        rows = [row for each in self._by_pair.values() for row in each if row.preference is not None and row.shown]
        return [p if row.shown == 1 else 1 - p for row in rows if (p := row.preference) is not None]

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields the verdict on each comparison, whichever answer the sheet shows first.

        A row without verdict is an error, "not judged yet", and so is a comparison without a row.
        """
        for c in comparisons:
            verdict = self._look_up(c)
            yield verdict or Verdict(c.key, None, error="not on the sheet", cost=0.0)

    def stands(self, comparison: Comparison, prefers_first: float) -> bool:
        """See `Judge`: a row that was changed or emptied refutes a stored verdict, a missing row does not."""
        verdict = self._look_up(comparison)
        return verdict is None or verdict.prefers_first == prefers_first

    def _look_up(self, c: Comparison) -> Verdict | None:
        """The verdict on a comparison; None if no row is about it."""
        rows = [row.flipped() if swapped else row for key, swapped in keys_of(c) for row in self._by_pair.get(key, ())]
        if not rows:
            return None
        filled = [row for row in rows if row.preference is not None]
        missing = [rater.name for rater in self._raters if rater not in {row.rater for row in filled}]
        if missing:
            by = f" by {', '.join(missing)}" if len(self._raters) > 1 else ""
            return Verdict(c.key, None, error=f"not judged yet{by}", cost=0.0)
        return Verdict(c.key, mean_preference(filled), raw=as_raw(filled), cost=0.0)


class SheetAttempts(LocalJudge):
    """What raters say of single answers: whether they attempt their instructions; see `Judge`."""

    pointwise = True

    def __init__(self, rows: Sequence[SheetVerdict], identity: Identity) -> None:
        self.name, self.fingerprint = identity.name, identity.fingerprint
        self._raters, self._said = raters_of(rows), attempts_of(rows)

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields the raters' mean on each comparison's first answer; none where one of them said nothing."""
        for c in comparisons:
            said = self._said.get((instruction_id(c.instruction), sha256_text(c.first)), {})
            if said.keys() == self._raters:
                yield Verdict(c.key, mean_attempts(said), raw=attempts_as_raw(said), cost=0.0)
            else:
                yield Verdict(c.key, None, error="not said on the sheet", cost=0.0)


def build_attempts(argument: str | None, options: Mapping[str, Any]) -> SheetAttempts:
    """The judge of attempts; arguments and errors as of `build`.

    Rows must name their answers by hash: JSON Lines do, and the annotations that were made of any sheet.
    """
    rows, identity = _chosen(argument, options)
    return SheetAttempts(rows, identity)


def build(argument: str | None, options: Mapping[str, Any]) -> SheetJudge:
    """The judge.

    Args:
        argument: A sheet, the folder of `implicit-if judge --sheet`, or several sheets; see `read_sheets`.
        options: `rater` and `kind` say who filled in the rows that do not, and `rater` chooses among several;
            `raters=mean` takes the mean of all; `system` keeps the rows that name this system, where rows do.

    Raises:
        UserError: If there is no such sheet, a row is malformed, or it is not clear who the rater is.
    """
    rows, identity = _chosen(argument, options)
    return SheetJudge(rows, identity, folder_of(argument or ""))


def _chosen(argument: str | None, options: Mapping[str, Any]) -> tuple[list[SheetVerdict], Identity]:
    """The rows that count, and whose they are."""
    if not argument or options.keys() - set(_OPTIONS):
        raise UserError(
            f"judge 'sheet': found sheet {argument!r} and options {dict(options)}. Expected a sheet, and no options "
            f"but {', '.join(_OPTIONS)}."
        )
    rows = chosen_rows(read_sheets(argument, SHEETS), options, f"judge 'sheet:{argument}'")
    name = judge_name(raters_of(rows))
    return rows, Identity(name, fingerprint_of_name(name) or "")


def folder_of(argument: str) -> Path:
    """The folder in which a sheet lies."""
    path = Path(os.path.expanduser(argument))
    return path if os.path.isdir(path) else path.parent


def raters_of(rows: Iterable[SheetVerdict]) -> set[Rater]:
    """Who filled in rows; of a sheet that is still empty, who is to."""
    every = list(rows)
    return {row.rater for row in every if row.preference is not None} or {row.rater for row in every}


def chosen_rows(
    rows: Sequence[SheetVerdict], options: Mapping[str, Any], place: str, *, anonymous: bool = False
) -> list[SheetVerdict]:
    """The rows that count, those not filled in among them, with their rater's kind and name.

    Args:
        rows: What was read.
        options: See `build`.
        place: What was read, for messages.
        anonymous: Whether a rater may have no name.

    Raises:
        UserError: If a rater's name or kind is missing, contradicted or not clear.
    """
    given = checked_rater(str(options.get("kind", "")), str(options.get("rater", "")), place)
    if (mean := options.get("raters")) not in (None, "mean") or (mean and given.name):
        raise UserError(f"{place}: raters is {mean!r}, rater is {given.name!r}. Expected rater=NAME or raters=mean.")
    wanted = str(options.get("system", ""))
    named = [_named(row, given) for row in rows if not wanted or row.system in ("", wanted)]
    if wanted and not any(row.system == wanted for row in named):
        known = ", ".join(sorted({row.system for row in rows if row.system})) or "none"
        raise UserError(f"{place}: no row is about the system {wanted!r}. Rows name: {known}.")
    kept = [row for row in named if not given.name or row.rater.name == given.name]
    raters = raters_of(kept)
    if named and not kept:
        others = ", ".join(sorted({row.rater.name for row in named}))
        raise UserError(f"{place}: no row is by {given.name!r}. The raters are: {others}.")
    if unknown := next((r for r in raters if not r.kind or not (r.name or anonymous)), None):
        lacking = "kind" if unknown.name else "rater"
        empty = "" if any(row.preference is not None for row in kept) else "no verdict is on it yet, and "
        raise UserError(
            f"{place}: {empty}the sheet does not say who judged ({lacking} is missing). Say it: --option "
            f"rater=NAME --option kind=KIND, one of {', '.join(KINDS)}."
        )
    if len({rater.name for rater in raters}) < len(raters):
        raise UserError(f"{place}: one rater's name stands with two kinds. Expected one kind for each rater.")
    if len(raters) > 1 and not mean:
        names = ", ".join(sorted(rater.name for rater in raters))
        raise UserError(
            f"{place}: holds verdicts of {len(raters)} raters ({names}). Choose one, --option rater=NAME, or take "
            f"their mean, --option raters=mean."
        )
    return kept


def _named(row: SheetVerdict, given: Rater) -> SheetVerdict:
    """The row with what the options say of its rater where it says nothing itself."""
    kind, name = row.rater
    if given.name and name not in ("", given.name):
        return row
    if given.kind and kind and given.kind != kind:
        raise UserError(f"{row.place}: the rater's kind is {kind}, not {given.kind}. Leave --option kind= out.")
    return row._replace(rater=Rater(kind or given.kind, name or given.name))
