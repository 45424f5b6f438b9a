"""The pairs a judge is measured on: those of a labelled set, and controls against a system's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def read_labelled(path: Path) -> list[tuple[Pair, float]]:
    """Pairs with the probability that the second answer is better, from alpaca-eval's annotations.

    Rows are objects with `instruction`, `output_1`, `output_2` and `preference` from 1 (the first is better) to 2; a
    JSON list or JSON Lines. `generator_2` names the system. Rows without a preference are left out.

    Raises:
        UserError: If the file cannot be read as such, or no row has a preference.
    """
    try:
        rows = read_rows(path, "alpaca-eval's annotations")
        labelled = [_labelled(row) for _, row in rows if row["preference"] is not None]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not a labelled set ({error!r}). Expected alpaca-eval's annotations: objects with `instruction`, "
            f"`output_1`, `output_2` and `preference` from 1 to 2."
        ) from error
    if not labelled:
        raise UserError(f"{path}: no row has a preference. Expected numbers from 1 to 2.")
    return labelled


def _labelled(row: dict[str, Any]) -> tuple[Pair, float]:
    preference = float(row["preference"]) or 1.5  # alpaca-eval's 0 is a tie
    if not 1 <= preference <= 2:
        raise ValueError(f"preference {preference}")
    instruction, system, reference = (str(row[name]) for name in ("instruction", "output_2", "output_1"))
    names = str(row.get("generator_2", "system")), str(row.get("generator_1", "reference"))
    return _pair(instruction, system, reference, *names), preference - 1


def _pair(instruction: str, system: str, reference: str, name: str, opponent: str) -> Pair:
    key = instruction_id(instruction)
    system_side, reference_side = (
        Output(instruction_id=key, instruction=instruction, output=text, generator=generator)
        for text, generator in ((system, name), (reference, opponent))
    )
    return Pair(key, instruction, system_side, reference_side)
