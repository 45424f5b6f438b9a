"""Measures of a system's answers that need no judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from implicit_if.harness import stats
from implicit_if.harness.outputs import Output


def form_of(outputs: Sequence[Output], tags: Iterable[str]) -> dict[str, float | None]:
    """Means over at least one answer, in the units of the task `alpaca_winrate`.

    Args:
        outputs: The answers.
        tags: Role tags of the chat template.

    Returns:
        In percent `finish_rate` (ended by EOS; over the answers that say how they ended, None if none does),
        `format_leak_rate` and `repetition` (repeated 4-grams); `avg_length` in characters.
    """
    tags = tuple(tags)
    return {
        "finish_rate": mean([100.0 * (o.finish_reason == "eos") for o in outputs if o.finish_reason is not None]),
        "format_leak_rate": mean([100.0 * stats.format_leak(o.output, tags) for o in outputs]),
        "repetition": mean([100.0 * stats.repeated_ngram_share(o.output) for o in outputs]),
        "avg_length": mean([float(len(o.output)) for o in outputs]),
    }


def mean(values: Sequence[float]) -> float | None:
    """The mean as lm-eval's table shows it, to the last digit; None without values."""
    return float(np.mean(values)) if values else None
