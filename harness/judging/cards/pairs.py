"""The pairs a judge is measured on: those of a labelled set, and controls against a system's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from implicit_if.harness.controls import CONTROLS, control_answers
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.outputs import Output, instruction_id
from implicit_if.harness.storage import read_rows


def control_pairs(answers: Sequence[Output], others: Sequence[Output]) -> dict[str, list[Pair]]:
    """The pairs of each control, and of the other system, against the answers; see `measure_controls`."""
    other = others[0].generator
    sides = tuple({o.instruction_id: o.output for o in side} for side in (others, answers))
    texts = {o.instruction_id: o.instruction or "" for o in answers}
    if sides[0].keys() != texts.keys():
        raise UserError("--answers: found answers to different instructions, expected two systems on the same set.")
    rows = {label: control_answers(name, texts, sides) for name, label in CONTROLS.items()} | {other: sides[0]}
    return {
        name: [_pair(o.instruction or "", by_id[o.instruction_id], o.output, name, o.generator) for o in answers]
        for name, by_id in rows.items()
    }


class Labelled(NamedTuple):
    """A labelled set.

    Attributes:
        pairs: With the second answer as the system's.
        labels: For each, the probability that the second answer is better.
        left_out: Rows without a preference or a text, by their place in the file.
        repeated: Rows equal to an earlier one, which counts alone.
    """

    pairs: list[Pair]
    labels: list[float]
    left_out: list[str]
    repeated: list[str]

    def notes(self) -> list[str]:
        """What of the file does not count, in sentences."""
        kinds = (
            (self.left_out, "without a preference or a text are left out"),
            (self.repeated, "repeat an earlier one, which counts once"),
        )
        return [
            f"{len(places)} rows {what}: {', '.join(places[:5])}{', ...' if len(places) > 5 else ''}"
            for places, what in kinds
            if places
        ]


def read_labelled(path: Path) -> Labelled:
    """A labelled set from alpaca-eval's annotations.

    Rows are objects with `instruction`, `output_1`, `output_2` and `preference` from 1 (the first is better) to 2; a
    JSON list or JSON Lines. `generator_2` names the system.

    Raises:
        UserError: If the file cannot be read as such, or no row counts; names the row.
    """
    found: dict[tuple[str, ...], float] = {}
    left_out, repeated = [], []
    for place, row in read_rows(path, "alpaca-eval's annotations"):
        try:
            texts = [row[name] for name in ("instruction", "output_2", "output_1")]
            if row["preference"] is None or None in texts:
                left_out.append(place)
                continue
            preference = float(row["preference"]) or 1.5  # alpaca-eval's 0 is a tie
            if not 1 <= preference <= 2 or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"preference {row['preference']!r}, texts {[type(text).__name__ for text in texts]}")
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, {place}: not a labelled set ({error!r}). Expected alpaca-eval's annotations: objects with "
                f"`instruction`, `output_1`, `output_2` and `preference` from 1 to 2."
            ) from error
        key = (*texts, str(row.get("generator_2", "system")), str(row.get("generator_1", "reference")))
        if key in found:
            repeated.append(place)
        found.setdefault(key, preference - 1)
    if not found:
        raise UserError(f"{path}: no row has a preference. Expected numbers from 1 to 2.")
    return Labelled([_pair(*key) for key in found], list(found.values()), left_out, repeated)


def _pair(instruction: str, system: str, reference: str, name: str, opponent: str) -> Pair:
    key = instruction_id(instruction)
    system_side, reference_side = (
        Output(instruction_id=key, instruction=instruction, output=text, generator=generator)
        for text, generator in ((system, name), (reference, opponent))
    )
    return Pair(key, instruction, system_side, reference_side)
