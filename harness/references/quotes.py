"""Answers without what they quote of their instruction, for sets whose texts may not be shipped.

Models repeat their instruction. Such passages are stored as places in the instruction's text, and put back from it when
the answers are read: an answer becomes a list of its own text and of `[start, end]` pairs, or stays a string where it
quotes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

SHORTEST = 12
"""Characters; shorter coincidences are words."""

Stored = str | Sequence[str | Sequence[int]]


def lift_quotes(answer: str, instruction: str) -> Stored:
    """Replaces every passage of at least `SHORTEST` characters of the (stripped) instruction by its place there."""
    source = instruction.strip()
    pieces: list[str | list[int]] = []
    own_from = position = 0
    while position <= len(answer) - SHORTEST:
        start, length = _longest_quote(answer, position, source)
        if length < SHORTEST:
            position += 1
            continue
        pieces += [answer[own_from:position], [start, start + length]]
        own_from = position = position + length
    if not pieces:
        return answer
    return [piece for piece in [*pieces, answer[own_from:]] if piece]


def put_quotes_back(stored: Stored, instruction: str) -> str:
    """The answer that `lift_quotes` was given, from the same instruction."""
    if isinstance(stored, str):
        return stored
    source = instruction.strip()
    return "".join(piece if isinstance(piece, str) else source[slice(*piece)] for piece in stored)


def _longest_quote(answer: str, position: int, source: str) -> tuple[int, int]:
    """Start and length of the longest passage of `source` that `answer` has at `position`; the first if tied."""
    best = (0, 0)
    start = source.find(answer[position : position + SHORTEST])
    while start >= 0:
        length = SHORTEST
        while answer[position + length : position + length + 1] == source[start + length : start + length + 1] != "":
            length += 1
        best = max(best, (start, length), key=lambda found: found[1])
        start = source.find(answer[position : position + SHORTEST], start + 1)
    return best
