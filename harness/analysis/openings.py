"""Openings: how alike a training set's responses begin.

A model tuned on responses that all begin alike learns the beginning by heart and needs no instruction for it: chess
games, which open with a handful of moves, are the one task of the paper that does not bring instruction following.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from implicit_if.harness.errors import UserError

POSITIONS = (1, 2, 3, 5, 8, 13, 21)
"""Words of a response, from 1, whose entropy a table shows."""
LENGTH = 3
"""Words that make an opening."""
_WORD = re.compile(r"\w+|[^\w\s]")
END = ""
"""Stands for the end of a response at every position beyond it."""


@dataclass(frozen=True)
class Openings:
    """How a training set's responses begin.

    Attributes:
        name: Of the training set.
        rows: Responses, at least one.
        entropy: Bits, by position in words from 1: of the distribution of the rows' words there, the end being a word.
            At most log2(rows), which is what all different rows give.
        opening: The commonest opening of `LENGTH` words (shorter for a shorter response), joined by spaces.
        share: Percent of rows that begin with it.
    """

    name: str
    rows: int
    entropy: tuple[float, ...]
    opening: str
    share: float

    @property
    def most_bits(self) -> float:
        """The entropy that rows would have if all differed."""
        return math.log2(self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "name": self.name,
            "rows": self.rows,
            "most_bits": round(self.most_bits, 4),
            "entropy_bits": [round(value, 4) for value in self.entropy],
            "opening": self.opening,
            "opening_percent": round(self.share, 4),
        }


def words_of(text: str) -> list[str]:
    """Words and single punctuation marks, as written."""
    return _WORD.findall(text)


def find_openings(name: str, responses: Sequence[str], length: int = 32) -> Openings:
    """Entropy by position, and the commonest opening.

    Args:
        name: Of the training set.
        responses: Its responses.
        length: Positions to look at.

    Raises:
        UserError: If there is no response.
    """
    if not responses:
        raise UserError(f"{name}: found 0 responses. Expected at least one.")
    rows = [words_of(response)[: max(length, LENGTH)] for response in responses]
    entropy = tuple(_bits(Counter(row[i] if i < len(row) else END for row in rows)) for i in range(length))
    openings = Counter(" ".join(row[:LENGTH]) for row in rows)
    opening, times = min(openings.items(), key=lambda item: (-item[1], item[0]))
    return Openings(name, len(rows), entropy, opening, 100 * times / len(rows))


def _bits(counts: Counter[str]) -> float:
    whole = sum(counts.values())
    return -sum(n / whole * math.log2(n / whole) for n in counts.values()) + 0.0
