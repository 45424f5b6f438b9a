"""Measures of a system's answers that need no judge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from implicit_if.harness.outputs import Output


def form_of(outputs: Sequence[Output], tags: Iterable[str]) -> dict[str, float | None]:
    """Means over at least one answer, in the units of the task `alpaca_winrate`.

    Args:
        outputs: The answers.
        tags: Role tags of the chat template.

    Returns:
        By the names of `columns.FORM`; of each measure over the answers that have it, None if none has.
    """
    tags = tuple(tags)
    values = ((name, [measure(output, tags) for output in outputs]) for name, measure in MEASURES.items())
    return {name: mean([value for value in found if value is not None]) for name, found in values}


def mean(values: Sequence[float]) -> float | None:
    """The mean as lm-eval's table shows it, to the last digit; None without values."""
    return float(np.mean(values)) if values else None


_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: scripts that put no spaces between words."""

_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]+")
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W\d_{_SPACELESS}]{{2,}}")
_FEW_WORDS, _ENOUGH = 200, 100
"""Words below which nothing is said about answers' language, and answers that are enough to tell."""
_TAG = re.compile(r"(?P<left>[^\w\s]*)(?P<word>\w+)(?P<right>[^\w\s]*)")


def format_leak(text: str, tags: Iterable[str]) -> bool:
    """Whether a role tag of the chat template, or part of one, stands in the answer.

    Args:
        text: The answer.
        tags: The template's tags, e.g. "<|user|>"; surrounding white space is ignored.

    Returns:
        True for a whole tag; for a tag without its closing or opening marks, if the marks left are two or more
        ("<|user", "user|>"), so that an ordinary "user" is no leak; and for an answer that ends within a tag ("<|us").
    """
    for tag in map(str.strip, tags):
        marks, pattern = _leak(tag)
        if any(mark in text for mark in marks) and pattern.search(text):
            return True
    return False


def repeated_ngram_share(text: str, n: int = 4) -> float:
    """Share of n-grams that are repeats: 1 - distinct / total, between 0 and 1.

    Tokens are white-space separated, and single characters in scripts without spaces. A text of one token only (a
    loop without spaces) is taken character by character. 0 for fewer than n tokens.
    """
    # of ASCII, `split` gives the same tokens several times faster
    tokens: list[str] | str = text.split() if text.isascii() else _TOKEN.findall(text)
    if len(tokens) == 1:
        tokens = text.strip()
    total = len(tokens) - n + 1
    if total < 1:
        return 0.0
    return 1 - len(set(zip(*(tokens[i:] for i in range(n)), strict=False))) / total


def foreign_words(answers: Sequence[Output], others: Sequence[Output]) -> str | None:
    """A note if fewer than half of the answers' words occur in other answers to the same instructions; else None.

    Answers of models that speak have more than three quarters of their words in common with a reference's; random
    letters and tokens a third at most.
    """
    step = max(1, len(answers) // _ENOUGH)
    answers, others = answers[::step], others[::step]
    known = {word for output in others for word in _WORD.findall(output.output.casefold())}
    words = [word for output in answers for word in set(_WORD.findall(output.output.casefold()))]
    if min(len(words), len(known)) < _FEW_WORDS:
        return None
    share = sum(word in known for word in words) / len(words)
    if share >= 0.5:
        return None
    return f"only {share:.0%} of its words occur in the reference's answers: it may be no language, or another one"


@lru_cache(maxsize=256)
def _leak(tag: str) -> tuple[list[str], re.Pattern[str]]:
    """A tag's leaks as a pattern, which is slow, and strings one of which stands in every text that it matches."""
    marks, forms = [tag] if tag else [], [re.escape(tag)]
    match = _TAG.fullmatch(tag)
    if match:
        left, word, right = (re.escape(match[part]) for part in ("left", "word", "right"))
        if len(match["left"]) >= 2:
            marks = [match["left"][:3]]
            forms.append(rf"{left}{word}\b")
            forms += [re.escape(tag[:cut]) + r"\Z" for cut in range(3, len(match["left"] + match["word"]))]
        if len(match["right"]) >= 2:
            marks.append(match["right"])
            forms.append(rf"\b{word}{right}")
    return marks, re.compile("|".join(forms))


MEASURES: Mapping[str, Callable[[Output, tuple[str, ...]], float | None]] = {
    "finish_rate": lambda o, tags: None if o.finish_reason is None else 100.0 * (o.finish_reason == "eos"),
    "format_leak_rate": lambda o, tags: 100.0 * format_leak(o.output, tags),
    "repetition": lambda o, tags: 100.0 * repeated_ngram_share(o.output),
    "avg_length": lambda o, tags: float(len(o.output)),
}
"""What one answer contributes to each measure, given the template's role tags; None if it does not tell. In percent
but for the length, in characters. Each is a column of `columns.FORM`."""
