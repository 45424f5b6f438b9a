"""Annotations that alpaca-eval wrote or published (`annotations.json`), as answers and verdicts."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import official_ids
from implicit_if.harness.judging.judgement import Judgement, Unjudged
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.outputs import Output
from implicit_if.harness.storage import read_rows, sha256_json

_EXPECTED = "alpaca-eval's annotations: a JSON list of objects with instruction, output_1, output_2 and preference"
_TEXTS = ("instruction", "output_1", "output_2")
_DRAW = 1.5
_SHOWN = 5


@dataclass(frozen=True)
class PublishedAnnotations:
    """One system's annotations by one annotator.

    Attributes:
        pairs: The answers: `output_2` is the system's, `output_1` the reference's.
        annotations: A verdict, or the reason why there is none, for each pair.
        n_expected: Instructions in the set: 805 where all are AlpacaEval's.
    """

    pairs: list[Pair]
    annotations: list[Annotation]
    n_expected: int

    @property
    def judgement(self) -> Judgement:
        """The verdicts as if they had just been obtained."""
        preferences = array("d", [math.nan if a.preference is None else a.preference for a in self.annotations])
        return Judgement(
            judge=self.annotations[0].judge,
            fingerprint=self.annotations[0].fingerprint,
            orders=("none",),
            instruction_ids=[a.instruction_id for a in self.annotations],
            by_order={"none": preferences},
            unjudged=[Unjudged(a.instruction_id, a.order, a.error) for a in self.annotations if a.error is not None],
            expected=self.n_expected,
        )

    def answers(self) -> tuple[dict[str, Output], dict[str, Output]]:
        """The system's and the reference's answers by instruction id."""
        return {p.instruction_id: p.system for p in self.pairs}, {p.instruction_id: p.reference for p in self.pairs}


def is_published(path: Path) -> bool:
    """Whether a file of annotations is a JSON list, as alpaca-eval writes it, and not JSON Lines of ours."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return file.read(1000).lstrip()[:1] == "["
    except OSError:
        return False


@functools.lru_cache(maxsize=64)
def read_published(path: Path) -> PublishedAnnotations:
    """Reads alpaca-eval's annotations.

    A null preference, which alpaca-eval leaves out without a word, is a missing verdict.

    Raises:
        UserError: If the file is malformed, or holds several systems, references or annotators, or an instruction
            twice; names the rows.
    """
    rows = list(read_rows(path, _EXPECTED))
    if not rows:
        raise UserError(f"{path}: found no row. Expected {_EXPECTED}.")
    names = {
        key: _only(path, rows, key, default)
        for key, default in (("generator_1", "reference"), ("generator_2", path.stem), ("annotator", "annotator"))
    }
    fingerprint = sha256_json(["alpaca-eval's annotations", names["annotator"]])
    pairs: list[Pair] = []
    annotations: list[Annotation] = []
    seen: dict[str, str] = {}
    for place, row in rows:
        if not all(isinstance(row.get(key), str) for key in _TEXTS):
            wrong = next(key for key in _TEXTS if not isinstance(row.get(key), str))
            raise UserError(f"{path}, {place}: {wrong} is {str(row.get(wrong))[:40]!r}. Expected {_EXPECTED}.")
        reference, system = (
            Output.model_validate(
                {"instruction": row["instruction"], "output": row[key], "generator": names[name]}
                | ({"dataset": row["dataset"]} if isinstance(row.get("dataset"), str) else {})
            )
            for key, name in (("output_1", "generator_1"), ("output_2", "generator_2"))
        )
        if seen.setdefault(system.instruction_id, place) != place:
            raise UserError(
                f"{path}: {seen[system.instruction_id]} and {place} annotate the same instruction "
                f"({row['instruction'][:60]!r}). Expected one verdict an instruction; remove one of them."
            )
        preference, error = _preference(row.get("preference"), f"{path}, {place}")
        pairs.append(Pair(system.instruction_id, row["instruction"], system, reference))
        annotations.append(
            Annotation(
                instruction_id=system.instruction_id,
                order="none",
                preference=preference,
                error=error,
                judge=names["annotator"],
                fingerprint=fingerprint,
                system_sha256=system.sha256,
                reference_sha256=reference.sha256,
            )
        )
    return PublishedAnnotations(pairs, annotations, expected_of(seen))


def expected_of(ids: Mapping[str, Any] | Sequence[str]) -> int:
    """How many instructions the set has: AlpacaEval's 805 where all of these are among them."""
    official = official_ids()
    return len(official) if set(ids) <= set(official) else len(ids)


def missing_rows(found: PublishedAnnotations) -> list[str]:
    """A line for the rows without a verdict, and one for the instructions without a row; none where all are there."""
    null = [a.instruction_id for a in found.annotations if a.preference is None]
    ids = {a.instruction_id for a in found.annotations}
    absent = [i for i in official_ids() if i not in ids] if found.n_expected > len(ids) else []
    return [
        f"{what}: {len(some)} ({', '.join(some[:_SHOWN])}{', ...' if len(some) > _SHOWN else ''})"
        for what, some in (("rows without a preference", null), ("instructions without a row", absent))
        if some
    ]


def _preference(value: Any, where: str) -> tuple[float | None, str | None]:
    """The preference for the system, or why there is none. 1 is a loss, 2 a win, 1.5 and 0 are draws."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None, "the row's preference is null"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 1 <= value <= 2):
        raise UserError(
            f"{where}: preference is {str(value)[:40]!r}. Expected 1 (output_1) to 2 (output_2), 0 or null."
        )
    return (_DRAW if value == 0 else float(value)) - 1, None


def _only(path: Path, rows: Sequence[tuple[str, Mapping[str, Any]]], key: str, default: str) -> str:
    names = sorted({str(row.get(key) or default) for _, row in rows})
    if len(names) > 1:
        raise UserError(
            f"{path}: {key} has {len(names)} values ({', '.join(names[:3])}). Expected one system, reference and "
            f"annotator a file; split it."
        )
    return names[0]
