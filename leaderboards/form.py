"""Measures of form of a whole submission, as the task computes them for a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from implicit_if.harness import stats
from implicit_if.leaderboards.rows import OutputRow


def form_measures(rows: Sequence[OutputRow], tags: Iterable[str]) -> dict[str, float | None]:
    """Means over the answers.

    Args:
        rows: The answers, at least one.
        tags: Role tags of the chat template.

    Returns:
        `finish_rate`, `format_leak_rate` and `repetition` in percent, `avg_length` in characters, `n_tokens`. None
        where the model class did not say how answers ended or how many tokens they had, and where there are no tags.
    """
    tags = tuple(tags)
    ended = [100.0 * (row["finish_reason"] == "eos") for row in rows if row["finish_reason"] is not None]
    tokens = [float(row["n_tokens"]) for row in rows if row["n_tokens"] is not None]
    return {
        "finish_rate": _mean(ended),
        "format_leak_rate": _mean([100.0 * leaks(row["output"], tags) for row in rows]) if tags else None,
        "repetition": _mean([100.0 * repeated_share(row["output"]) for row in rows]),
        "avg_length": _mean([float(len(row["output"])) for row in rows]),
        "n_tokens": _mean(tokens),
    }


def leaks(text: str, tags: tuple[str, ...]) -> bool:
    """`stats.format_leak`, whose slow pattern is asked only where it can match."""
    return any(mark in text for mark in _marks(tags)) and stats.format_leak(text, tags)


def repeated_share(text: str) -> float:
    """`stats.repeated_ngram_share(text)`, several times faster for ASCII, where tokens are what `split` gives."""
    tokens = text.split() if text.isascii() else []
    if len(tokens) < 2:
        return stats.repeated_ngram_share(text)
    total = len(tokens) - 3
    return 1 - len(set(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))) / total if total > 0 else 0.0


@cache
def _marks(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Strings one of which stands in every text with a leak: the tags' outer marks, or whole tags with short ones."""
    marks = []
    for tag in map(str.strip, tags):
        match = re.fullmatch(r"([^\w\s]*)\w+([^\w\s]*)", tag)
        sides = [side for side in match.groups() if len(side) >= 2] if match else []
        marks += [*sides, *([] if match and len(match[1]) >= 2 else [tag])]
    return tuple(mark for mark in marks if mark)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
