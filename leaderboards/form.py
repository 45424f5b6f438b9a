"""Measures of form of a whole submission, as the task computes them for a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
        "format_leak_rate": _mean([100.0 * stats.format_leak(row["output"], tags) for row in rows]) if tags else None,
        "repetition": _mean([100.0 * stats.repeated_ngram_share(row["output"]) for row in rows]),
        "avg_length": _mean([float(len(row["output"])) for row in rows]),
        "n_tokens": _mean(tokens),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
