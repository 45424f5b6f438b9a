"""A rater's verdicts as every form of a sheet gives them: who said what about which two answers, in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.outputs import instruction_id
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import sha256_json, sha256_text

KINDS = ("person", "language-model", "other")
"""What a rater may be."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_LONGEST = 150  # characters of a judge's name
_JUDGE = re.compile(rf"sheet:(?P<kinds>{'|'.join(KINDS)}|[a-z+-]+)/[A-Za-z0-9._+-]+")
MAX_RAW = 2_000
"""Characters of what an annotation keeps; a submission holds no more."""


class Rater(NamedTuple):
    """Who filled a sheet in.

    Attributes:
        kind: One of `KINDS`; empty where the sheet does not say.
        name: Letters, digits, dots, hyphens and underscores; empty where the sheet does not say.
    """

    kind: str
    name: str


class SheetVerdict(NamedTuple):
    """One filled-in row.

    Attributes:
        place: Where it stands, for messages.
        pair: The two answers: a row's key, or `hash_key`; the answer that is named first is "first" below.
        rater: Who said it.
        system: Name of the system whose answer it is, if the row says so; a pair may come up as two systems' answers.
        shown: 1 if the first answer was shown first, 2 if the second was, 0 if neither.
        preference: For the first answer, in [0, 1]; None where the row is not filled in.
        attempts: Whether the first and the second answer attempt the instruction; None where it is not said.
        why: The rater's reason.
    """

    place: str
    pair: str
    rater: Rater
    system: str = ""
    shown: int = 1
    preference: float | None = None
    attempts: tuple[bool | None, bool | None] = (None, None)
    why: str = ""

    def flipped(self) -> SheetVerdict:
        """The same verdict with the second answer as the first; `pair` stays."""
        preference = None if self.preference is None else 1 - self.preference
        return self._replace(preference=preference, attempts=self.attempts[::-1], shown=(0, 2, 1)[self.shown])


def row_key(instruction: str, answer_1: str, answer_2: str) -> str:
    """A row's key: "k" and 20 hex digits of the hash of its full texts in the order shown."""
    return "k" + sha256_json([instruction, answer_1, answer_2])[:20]


def hash_key(instruction: str, first_sha256: str, second_sha256: str) -> str:
    """What names two answers without their texts: the instruction's id and the answers' hashes."""
    return f"{instruction}:{first_sha256}:{second_sha256}"


def keys_of(comparison: Comparison) -> tuple[tuple[str, bool], ...]:
    """The names under which a sheet may hold a comparison, and whether its answers are swapped there."""
    text, first, second = comparison.instruction, comparison.first, comparison.second
    key, one, two = instruction_id(text), sha256_text(first), sha256_text(second)
    return (
        (row_key(text, first, second), False),
        (row_key(text, second, first), True),
        (hash_key(key, one, two), False),
        (hash_key(key, two, one), True),
    )


def checked_rater(kind: str, name: str, place: str) -> Rater:
    """A rater as a sheet or an option names it; either may be empty.

    Raises:
        UserError: If the kind is none of `KINDS`, or the name is not plain.
    """
    kind = kind.strip().lower().replace(" ", "-").replace("_", "-")
    if kind and kind not in KINDS:
        raise UserError(f"{place}: kind of rater {one_line(kind, 60)!r}, expected one of {', '.join(KINDS)}.")
    if (name := name.strip()) and not _NAME.fullmatch(name):
        raise UserError(
            f"{place}: rater {one_line(name, 60)!r}, expected up to 40 letters, digits, dots, hyphens and underscores."
        )
    return Rater(kind, name)


def judge_name(raters: Iterable[Rater]) -> str:
    """The judge's name: `sheet:KIND/NAME`; of several raters' mean, with "+" between kinds and between names.

    Raises:
        UserError: If the names of the raters are too long together.
    """
    found = set(raters)
    if len(name := _joined(found)) > _LONGEST:
        raise UserError(
            f"{len(found)} raters: their names have {len(name)} characters together, expected at most {_LONGEST}. Give "
            f"them shorter names."
        )
    return name


def _joined(raters: Iterable[Rater]) -> str:
    found = sorted(set(raters))
    kinds, names = ("+".join(dict.fromkeys(rater[part] for rater in found)) for part in (0, 1))
    return f"sheet:{kinds}/{names}"


def fingerprint_of_name(judge: str) -> str | None:
    """The fingerprint of a sheet's judge, which its raters alone decide; None if the name is none of a sheet's."""
    match = _JUDGE.fullmatch(judge)
    if match is None or not set(match["kinds"].split("+")) <= set(KINDS):
        return None
    return sha256_json({"judge": "sheet", "version": 1, "name": judge})


def mean_preference(verdicts: Sequence[SheetVerdict]) -> float:
    """Raters' mean preference for the first answer: first over each rater's own verdicts, then over the raters.

    Args:
        verdicts: On one pair, all filled in; at least one.
    """
    by_rater: dict[Rater, list[float]] = {}
    for one in verdicts:
        if one.preference is not None:
            by_rater.setdefault(one.rater, []).append(one.preference)
    means = [sum(values) / len(values) for _, values in sorted(by_rater.items())]
    return sum(means) / len(means)


def as_raw(verdicts: Sequence[SheetVerdict]) -> str:
    """What an annotation keeps of the verdicts behind it, as JSON; in `MAX_RAW` characters as far as that goes.

    Reasons are left out where they do not fit, then everything but the preferences.
    """
    rows = [_raw_row(one) for one in verdicts]
    least = [{"kind": row["kind"], "preference": row["preference"], "rater": row["rater"]} for row in rows]
    texts = [json.dumps({"verdicts": g}, sort_keys=True) for g in (rows, [r | {"why": ""} for r in rows], least)]
    return next((text for text in texts if len(text) <= MAX_RAW), texts[-1])


def from_raw(raw: str) -> list[SheetVerdict]:
    """The verdicts that `as_raw` wrote; none if it is no such text."""
    try:
        rows = json.loads(raw)["verdicts"]
        return [
            SheetVerdict(
                "",
                "",
                Rater(str(row["kind"]), str(row["rater"])),
                shown=(0, 1, 2).index(row.get("shown_first", 0)),
                preference=_probability(row["preference"]),
                attempts=_two(row.get("attempts", (None, None))),
                why=str(row.get("why", "")),
            )
            for row in rows
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def reread(raw: str, argument: str) -> tuple[float, float] | None:
    """The preference that follows from what an annotation keeps, for verification; see `Backend.reread`.

    None does if these are not verdicts of the raters that the judge is named after in `argument`.
    """
    found = from_raw(raw)
    if not found or _joined(row.rater for row in found) != f"sheet:{argument}":
        return 1.0, 0.0  # no preference lies between
    return (value := mean_preference(found)), value


def attempts_of(verdicts: Iterable[SheetVerdict]) -> dict[tuple[str, str], dict[Rater, list[bool]]]:
    """What each rater said of each answer, by instruction id and answer's hash: whether it attempts its instruction.

    An answer attempts or does not, whoever's it is: all verdicts about the same text count, in any pair and order.
    Only rows that name their answers by hash are counted, and of these what was said.
    """
    said: dict[tuple[str, str], dict[Rater, list[bool]]] = {}
    for one in verdicts:
        instruction, *hashes = one.pair.split(":")
        for sha256, attempt in zip(hashes, one.attempts, strict=False):
            if attempt is not None:
                said.setdefault((instruction, sha256), {}).setdefault(one.rater, []).append(attempt)
    return said


def mean_attempts(by_rater: Mapping[Rater, Sequence[bool]]) -> float:
    """Raters' mean share of verdicts which say that an answer attempts its instruction."""
    return _mean_share({rater: (sum(said), len(said)) for rater, said in by_rater.items()})


def _mean_share(by_rater: Mapping[Rater, tuple[int, int]]) -> float:
    shares = [yes / of for _, (yes, of) in sorted(by_rater.items())]
    return sum(shares) / len(shares)


def attempts_as_raw(by_rater: Mapping[Rater, Sequence[bool]]) -> str:
    """What an annotation on one answer keeps, as JSON: how often each rater said yes, of how many times."""
    rows = [
        {"kind": rater.kind, "of": len(said), "rater": rater.name, "yes": sum(said)}
        for rater, said in sorted(by_rater.items())
    ]
    return json.dumps({"attempts": rows}, sort_keys=True)


def reread_attempt(raw: str, argument: str) -> tuple[float, float] | None:
    """As `reread`, of what `attempts_as_raw` wrote."""
    try:
        rows = json.loads(raw)["attempts"]
        said = {Rater(str(row["kind"]), str(row["rater"])): (int(row["yes"]), int(row["of"])) for row in rows}
        value = _mean_share(said)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return 1.0, 0.0  # no probability lies between
    fits = _joined(said) == f"sheet:{argument}" and all(0 <= yes <= of for yes, of in said.values())
    return (value, value) if fits else (1.0, 0.0)


def attempts_by_answer(verdicts: Iterable[SheetVerdict]) -> dict[tuple[str, str], float]:
    """`mean_attempts` of each answer; see `attempts_of`."""
    return {answer: mean_attempts(said) for answer, said in attempts_of(verdicts).items()}


def _probability(given: Any) -> float:
    if not 0 <= given <= 1:
        raise ValueError(f"preference: {given!r}")
    return float(given)


def _two(given: Any) -> tuple[bool | None, bool | None]:
    first, second = given
    if not {type(first), type(second)} <= {bool, type(None)}:
        raise TypeError(f"attempts: {given!r}")
    return first, second


def _raw_row(one: SheetVerdict) -> dict[str, Any]:
    return {
        "rater": one.rater.name,
        "kind": one.rater.kind,
        "shown_first": one.shown,
        "preference": one.preference,
        "attempts": list(one.attempts),
        "why": one.why,
    }
