"""Measures of a system's answers that need no judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    tags, n = tuple(tags), len(outputs)
    ended = [o.finish_reason == "eos" for o in outputs if o.finish_reason is not None]
    return {
        "finish_rate": 100 * sum(ended) / len(ended) if ended else None,
        "format_leak_rate": 100 * sum(stats.format_leak(o.output, tags) for o in outputs) / n,
        "repetition": 100 * sum(stats.repeated_ngram_share(o.output) for o in outputs) / n,
        "avg_length": sum(len(o.output) for o in outputs) / n,
    }
