"""What is wrong with the form of an answer, in a word or two that a reader can look for."""

from __future__ import annotations

from collections.abc import Iterable

from implicit_if.harness.answer_form import format_leak, repeated_ngram_share
from implicit_if.harness.judging.attempt_features import segments
from implicit_if.harness.judging.text_features import clean
from implicit_if.harness.thoughts import without_thoughts

FAILURE_FORMS = {
    "empty": "nothing, or only thoughts",
    "echo": "at least half of its words stand in passages of the instruction's",
    "loop": "at least half of its 4-grams are repeats",
    "leak": "a role tag of the chat template stands in it",
    "cut": "it ended at the limit of tokens",
}
"""By name, what each means."""

_HALF = 0.5


def failure_forms(answer: str, finish_reason: str | None, instruction: str, tags: Iterable[str]) -> list[str]:
    """Names of `FAILURE_FORMS` that an answer has, in their order; none for an answer of good form.

    Args:
        answer: The answer.
        finish_reason: How it ended; see `outputs.Output`.
        instruction: What it answers; empty if that is not known, and then no answer is an echo.
        tags: Role tags of the chat template.
    """
    text = without_thoughts(answer)
    found = {
        "empty": not text.strip(),
        "echo": bool(instruction) and _echoes(instruction, text),
        "loop": repeated_ngram_share(text) >= _HALF,
        "leak": format_leak(answer, tags),
        "cut": finish_reason == "length",
    }
    return [name for name in FAILURE_FORMS if found[name]]


def _echoes(instruction: str, text: str) -> bool:
    parts = segments(clean(instruction), clean(text))
    words = sum(len(part.words) for part in parts)
    return words > 0 and sum(len(part.words) for part in parts if part.copied >= _HALF) >= _HALF * words
