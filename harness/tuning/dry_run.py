"""What `--dry-run` prints: counts, lengths, and rows with their loss mask."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import TextIO

from implicit_if.harness.safe_text import printable
from implicit_if.harness.tuning.data.encode import IGNORED, EncodedRow
from implicit_if.harness.tuning.data.prepare import Prepared

_GREEN, _GREY, _RESET = "\x1b[32m", "\x1b[90m", "\x1b[0m"
_SHOWN_TOKENS = 400


def preview(prepared: Prepared, file: TextIO | None = None, rows: int = 3) -> None:
    """Prints row counts, token lengths, notes, and some rows with the trained tokens marked.

    Trained text is green, the rest grey; without colours it stands in `[[` `]]`.

    Args:
        prepared: From `prepare`.
        file: Where to print; None is standard output.
        rows: How many rows are shown: the first, the longest, then the next ones.
    """
    out = file or sys.stdout
    colour = out.isatty() and "NO_COLOR" not in os.environ
    stats = prepared.statistics()
    recipe = prepared.recipe
    turns = f", {stats['multi_turn']} multi-turn" if stats["multi_turn"] else ""
    print(f"{recipe.name}: {stats['rows']} rows of {prepared.rows.origin}{turns}", file=out)
    print(f"tokens: {stats['tokens']}, of which {stats['loss_tokens']} are trained", file=out)
    print(f"length: median {stats['median_length']}, longest {stats['longest']}", file=out)
    if stats["truncated"]:
        print(f"truncated at {recipe.encoding.max_length} tokens: {stats['truncated']}", file=out)
    print(f"training: {_plan(prepared)}", file=out)
    for note in prepared.notes:
        print(f"note: {note}", file=out)
    for decision in prepared.decisions:
        if decision.rephrases or decision.outcome != "kept":
            opening = printable(" ".join(decision.opening.split()))
            print(f"rephrasing, {decision.outcome}: {decision.where}, message {decision.turn}: {opening}", file=out)
    for row in _choose(prepared.encoded, rows):
        print(f"\n--- {row.where}: {len(row.input_ids)} tokens", file=out)
        print(render_mask(prepared, row, colour), file=out)


def _plan(prepared: Prepared) -> str:
    """Epochs and steps; where rows are packed, a step takes packs."""
    train, most = prepared.recipe.train, prepared.recipe.encoding.max_length
    count, unit, packed = len(prepared.encoded), "rows", ""
    if train.packing == "packed":
        from datasets import Dataset
        from trl.data_utils import pack_dataset

        rows = Dataset.from_dict({"input_ids": [row.input_ids for row in prepared.encoded]})
        count, unit = len(pack_dataset(rows, most)), "packs"
        packed = f"; {count} packs of at most {most} tokens"
    steps = f"{train.steps(count)} steps of {train.batch} {unit}"
    if train.max_steps is not None:
        return f"{steps}, as train.max_steps says{packed}"
    return f"{train.epochs} epochs, {steps}{packed}"


def render_mask(prepared: Prepared, row: EncodedRow, colour: bool) -> str:
    """A row's text with its trained runs marked; the middle of a long row is left out, and said to be.

    Control characters of the data are shown escaped, so that no row can steer the terminal.
    """
    half = _SHOWN_TOKENS // 2
    positions = list(range(len(row.input_ids)))
    if len(positions) <= _SHOWN_TOKENS:
        return "".join(_runs(prepared, row, positions, colour))
    left_out = len(positions) - 2 * half
    head = "".join(_runs(prepared, row, positions[:half], colour))
    tail = "".join(_runs(prepared, row, positions[-half:], colour))
    return f"{head}\n... {left_out} tokens not shown ...\n{tail}"


def _runs(prepared: Prepared, row: EncodedRow, positions: list[int], colour: bool) -> Iterator[str]:
    for trained, group in groupby(positions, key=lambda n: row.labels[n] != IGNORED):
        text = printable(str(prepared.tokenizer.decode([row.input_ids[n] for n in group], skip_special_tokens=False)))
        if colour:
            yield f"{_GREEN if trained else _GREY}{text}{_RESET}"
        else:
            yield f"[[{text}]]" if trained else text


def _choose(encoded: list[EncodedRow], count: int) -> list[EncodedRow]:
    longest = max(encoded, key=lambda row: row.full_length)
    others = [row for row in encoded if row is not longest]
    return [*others[:1], longest, *others[1:]][:count]
