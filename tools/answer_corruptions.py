"""Thirteen ways in which an answer goes wrong, the ways of base models among them; used to fit the embedded judge."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What a corruption may draw on.

    Attributes:
        instruction: The instruction answered.
        answer: A real answer to it, of some words at least.
        stranger: An answer of the same system to another instruction.
        strong_stranger: An answer of a strong system to another instruction.
        others: Some other instructions, three at least.
    """

    instruction: str
    answer: str
    stranger: str
    strong_stranger: str
    others: Sequence[str]


def corrupt(kind: str, case: Case, seed: str) -> str:
    """The answer, corrupted; the same seed gives the same text."""
    return KINDS[kind](case, random.Random(f"{kind}/{seed}"))


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s.strip()]


def _first_looped(case: Case, rng: random.Random) -> str:
    return " ".join(_sentences(case.answer)[:1] * rng.randint(4, 30))


def _last_looped(case: Case, rng: random.Random) -> str:
    return f"{case.answer} {' '.join(_sentences(case.answer)[-1:] * rng.randint(4, 30))}"


def _truncated(case: Case, rng: random.Random) -> str:
    return case.answer[: int(len(case.answer) * 0.4)]


def _run_on(user: str, assistant: str) -> Callable[[Case, random.Random], str]:
    def run_on(case: Case, rng: random.Random) -> str:
        turns = [f"{user}{other}{assistant}{case.stranger[:300]}" for other in case.others[: rng.randint(1, 3)]]
        return case.answer + "".join(turns)

    return run_on


def _echo(case: Case, rng: random.Random) -> str:
    return "\n".join([case.instruction] * rng.choice([1, 1, 2, rng.randint(3, 12)]))


def _instruction_list(case: Case, rng: random.Random) -> str:
    lines = [other.strip().split("\n")[0] for other in case.others]
    if rng.random() < 0.5:
        lines = [f"{number}. {line}" for number, line in enumerate(lines, start=1)]
    return "\n".join(lines[: rng.randint(3, len(lines))])


def _shuffled(case: Case, rng: random.Random) -> str:
    words = case.answer.split()
    rng.shuffle(words)
    return " ".join(words)


def _looks_empty(case: Case, rng: random.Random) -> str:
    return rng.choice(["", "\n\n", ".", "...", "-", "N/A", "\u200b", "<|assistant|>", "I"])


def _token_looped(case: Case, rng: random.Random) -> str:
    return " ".join([rng.choice(case.answer.split())] * rng.randint(10, 200))


KINDS: dict[str, Callable[[Case, random.Random], str]] = {
    "first sentence looped": _first_looped,
    "last sentence looped at the end": _last_looped,
    "another instruction's answer": lambda case, rng: case.stranger,
    "another instruction's strong answer": lambda case, rng: case.strong_stranger,
    "truncated at 40 %": _truncated,
    "run on in <|user|> turns": _run_on("\n<|user|>\n", "\n<|assistant|>\n"),
    "run on in ### Instruction: turns": _run_on("\n\n### Instruction:\n", "\n\n### Response:\n"),
    "run on in Human: turns": _run_on("\nHuman: ", "\nAssistant: "),
    "instruction echoed": _echo,
    "list of further instructions": _instruction_list,
    "words shuffled": _shuffled,
    "looks empty": _looks_empty,
    "one word looped": _token_looped,
}

WORTHLESS = frozenset(KINDS) - {
    "last sentence looped at the end",
    "truncated at 40 %",
    "run on in <|user|> turns",
    "run on in ### Instruction: turns",
    "run on in Human: turns",
}
"""Kinds after which nothing of the answer is of use, so that any other real answer is better too."""
