"""Answers without what they recite of their training data, whose licence may forbid passing it on.

A tuned model may say rows of its training data word for word. Unlike quotes of an instruction, such passages cannot be
put back: what is judged and shown is the answer with a mark in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from implicit_if.harness.outputs import Output

RUN = 10
"""Words in a row that an answer shares with a training text; fewer are common phrases."""

MARK = "[… recited …]"
"""Holds a word, so that the words around it make no run of their own."""

_WORD = re.compile(r"\w+")


class TrainingTexts:
    """Training texts, to be kept out of answers.

    Args:
        texts: Every text of the rows, instructions and responses alike.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs = {run for text in texts for run in _runs([word for word, _, _ in _words(text)])}

    def withhold(self, answer: str) -> tuple[str, int]:
        """The answer with `MARK` for every passage of `RUN` or more words of a training text, and how many there were.

        Case, spaces and marks do not count.
        """
        words = list(_words(answer))
        recited: list[list[int]] = []
        for place, run in enumerate(_runs([word for word, _, _ in words])):
            if run not in self._runs:
                continue
            if recited and place <= recited[-1][1]:
                recited[-1][1] = place + RUN
            else:
                recited.append([place, place + RUN])
        for first, end in reversed(recited):
            answer = answer[: words[first][1]] + MARK + answer[words[end - 1][2] :]
        return answer, len(recited)

    def withhold_from(self, outputs: Sequence[Output]) -> tuple[list[Output], int]:
        """The outputs with every answer as `withhold` leaves it, and how many passages are withheld in all."""
        kept = [self.withhold(output.output) for output in outputs]
        shown = [o.model_copy(update={"output": text}) for o, (text, _) in zip(outputs, kept, strict=True)]
        return shown, sum(passages for _, passages in kept)


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    """Each word in lower case, with the places where it begins and ends."""
    return ((found[0].lower(), found.start(), found.end()) for found in _WORD.finditer(text))


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))
