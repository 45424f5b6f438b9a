"""How much the order of a text's words is that of English prose: high for sentences, near 0 for shuffled words.

Words are put into few classes: the commonest ones each in its own, the others by their ending.
`configs/word_order.json` holds, for each class after each other, the logarithm of how much likelier it is there than
anywhere. The mean over a text is the pointwise mutual information of neighbours (Church and Hanks 1990).
`tools/fit_word_order.py` made it.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from implicit_if.harness.storage import sha256_json

CONFIG = Path(__file__).parent / "configs" / "word_order.json"

MAX_TOKENS = 600
"""Words and marks read of a text."""

STEPS = 10
"""The table's numbers are in tenths of a nat."""

ENDINGS = ("ing", "ed", "ly", "tion", "ment", "ness", "ity", "able", "al", "ive", "ous", "ful", "ic", "er", "est", "s")
OTHER, NUMBER, MARK, STOP = "-", "0", ",", "."
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['’](?=\w)){0,39}|\d{1,20}|[.!?\n]|[^\w\s]")


class WordOrder(BaseModel):
    """The table.

    Attributes:
        words: The words that have a class each.
        table: By the class before, the class after: tenths of a nat.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]

    @model_validator(mode="after")
    def _square(self) -> WordOrder:
        size = len(classes(self.words))
        if [len(row) for row in self.table] != [size] * size:
            raise ValueError(f"expected {size} rows of {size} numbers")
        return self


def classes(common: tuple[str, ...]) -> dict[str, int]:
    """The place of each class in the table."""
    return {name: place for place, name in enumerate((*common, *(f"-{e}" for e in ENDINGS), OTHER, NUMBER, MARK, STOP))}


def class_places(text: str, places: dict[str, int]) -> list[int]:
    """The classes of a text's first MAX_TOKENS words and marks."""
    found: list[int] = []
    for match in _TOKEN.finditer(text.lower()):
        if len(found) == MAX_TOKENS:
            break
        found.append(places[_class(match.group().replace("’", "'"), places)])
    return found


def _class(token: str, places: dict[str, int]) -> str:
    if token in places:
        return token
    if token in "!?\n":
        return STOP
    if token[0].isdigit():
        return NUMBER
    if not token[0].isalpha():
        return MARK
    return next((f"-{ending}" for ending in ENDINGS if len(token) > len(ending) + 2 and token.endswith(ending)), OTHER)


def word_order(text: str) -> float:
    """Mean over neighbours, in nats; 0 for a text of fewer than two words."""
    config = _config()
    places = class_places(text, _places())
    pairs = list(pairwise(places))
    if not pairs:
        return 0.0
    return sum(config.table[a][b] for a, b in pairs) / len(pairs) / STEPS


def fingerprint() -> str:
    """Hash of the table and of how text becomes classes."""
    return sha256_json([_config().model_dump(mode="json"), list(ENDINGS), MAX_TOKENS, _TOKEN.pattern])


@cache
def _config() -> WordOrder:
    return WordOrder.model_validate_json(CONFIG.read_text(encoding="utf-8"))


@cache
def _places() -> dict[str, int]:
    return classes(_config().words)
