"""Numbers for the page's tables: each rounded here, by the one rule of every other table, and shipped as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from implicit_if.harness.columns import FORM
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.attempt_rate import decisions
from implicit_if.harness.stats.vectors import Floats

FIRST, CLIPPED = 3, 2_000
"""Instructions in the gallery, and characters of an answer there."""


def score_data(score: Score | None, sd: float | None = None) -> dict[str, Any] | None:
    """A score: its numbers to draw and sort by, and what other tables show of it as text; None if there is none."""
    if score is None:
        return None
    low, high = (None, None) if score.interval is None else score.interval.ends
    brackets = "" if score.interval is None else score.interval.show()
    shown = score.bracketed(sd).removesuffix(brackets).strip()
    return {"value": score.value, "low": low, "high": high, "shown": shown, "ends": brackets}


def form_data(form: Mapping[str, float | None]) -> dict[str, Any]:
    """Measures of form by column, and under "shown" what other tables show of them."""
    values = {column.name: form.get(column.name) for column in FORM}
    return {**values, "shown": {column.name: column.show(values[column.name]) for column in FORM}}


def pairing_data(ids: Sequence[str], texts: Sequence[str | None], references: Sequence[str]) -> dict[str, Any]:
    """What systems share that answered one set and were judged against one reference.

    Args:
        ids: `[n]` of the instructions.
        texts: `[n]` their texts; None where they are not known or not shippable.
        references: `[n]` the reference's answers; empty where nothing was judged.
    """
    categories = {item.id: item.category for item in load_instructions("builtin").items}
    return {
        "ids": list(ids),
        "texts": list(texts),
        "categories": [categories.get(i) for i in ids],
        "outputs": list(references) or None,
    }


def category_table(
    names: Sequence[str], systems: Sequence[Sequence[tuple[Floats, Floats]]], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Counts of attempts and win rates by category, put into the rows they belong to.

    Args:
        names: `[n]` category of each instruction.
        systems: A list a row, of each of its seeds: `[n]` preferences (NaN where not judged), and `[n]` probabilities
            of an attempt, or none. An empty list has no entry.
        rows: The page's rows; each gets `by_category`.

    Returns:
        `categories`: name and number of instructions of each, by name.
    """
    counts = Counter(names)
    order = sorted(counts)
    places = {name: [k for k, other in enumerate(names) if other == name] for name in order}
    for row, seeds in zip(rows, systems, strict=True):
        if not seeds:
            continue
        preferences = np.mean([shares for shares, _ in seeds], axis=0)
        wins = [_percent(preferences[places[name]]) for name in order]
        attempts = None
        if len(seeds) == 1 and seeds[0][1].size:
            decided = decisions(seeds[0][1])
            attempts = [int(decided[places[name]].sum()) for name in order]
        row["by_category"] = {"attempts": attempts, "wins": wins}
    return {"categories": [(name, counts[name]) for name in order]}


def _percent(shares: Floats) -> str | None:
    judged = shares[~np.isnan(shares)]
    return None if judged.size < shares.size or not judged.size else f"{100 * judged.mean():.1f}"
