"""Which answers begin by rephrasing their instruction (paper, appendix C), and removing that beginning.

Response tuning never shows an instruction, but an answer that opens with "Here is a recipe for tiramisu:" still tells
it. The paper asked GPT-4: of LIMA, its published verdicts are used (`lima_rephrasing.json`: hashes and row numbers, no
text). Other answers are decided by a model where one is given, else by a lexical rule; every decision can be read in
`rephrasing.jsonl`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import atomic_write, sha256_text
from implicit_if.harness.tuning.data.conversations import Conversation
from implicit_if.harness.tuning.data.row_formats import Message

Ask = Callable[[Sequence[str]], list[str]]
"""Sends prompts to a language model and returns its answers, in their order."""

PROMPT = """An instruction and the beginning of its response follow. Does the response begin by restating or \
rephrasing the instruction, as "Sure! Here is a recipe for tiramisu:" does for "Give me a tiramisu recipe"? \
End your answer with #### YES or #### NO.

Instruction:
{instruction}

Response:
{response}
"""

REMINDER = "Does the response begin by restating or rephrasing the instruction? Answer #### YES or #### NO."
"""What follows an answer without a verdict."""

PUBLISHED = Path(__file__).with_name("lima_rephrasing.json")
"""GPT-4's verdicts on LIMA's answers, from the paper's released code: "flagged" by row and message, both from 0."""

Outcome = Literal["kept", "cut", "left out"]

MIN_SHARED = 2
MIN_SHARE = 0.7
OPENING_SHARE = 0.25
_OPENING = re.compile(
    r"(sure|certainly|absolutely|of course|okay|here(?:'s|’s| is| are)|below (?:is|are)|the following|this is)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?:](?=\s|$)|\n")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_STOP = frozenset(
    "a about all also am an and any are as at be been being but by can could did do does doing done each for from get "
    "give good had has have here how i if in into is it it's its just like make many may me more most much my need no "
    "not of on one or other our out please should so some such sure tell than that the their them then there these "
    "they this those to too up use used using very want was way we were what what's when where which while who why "
    "will with would write you your".split()
)


@dataclass(frozen=True)
class Decision:
    """One answer's verdict; a line of `rephrasing.jsonl`.

    Attributes:
        where: The row.
        turn: The answer's position among the messages, counted from 0.
        opening: Its first sentence.
        shared: Content words that the opening shares with the instruction.
        share: Their share of the opening's content words, in [0, 1]; 0 if it has none.
        rephrases: The verdict.
        by: "published" (`PUBLISHED`), "lexical" or "model".
        outcome: What became of the answer: "kept", "cut" (its opening), or "left out" with its conversation.
    """

    where: str
    turn: int
    opening: str
    shared: list[str]
    share: float
    rephrases: bool
    by: Literal["published", "lexical", "model"]
    outcome: Outcome = "kept"


def first_sentence(answer: str) -> str:
    """The answer up to its first `.`, `!`, `?` or `:` before white space, or its first line break; mark included.

    An exclamation of at most two words ("Sure!") is no sentence of its own. A sentence ends before a block of code.
    """
    text = answer.lstrip().partition("```")[0]
    for end in _SENTENCE_END.finditer(text):
        if len(_WORD.findall(text[: end.end()])) > 2:
            return text[: end.end()]
    return text


def decide(where: str, turn: int, instruction: str, answer: str) -> Decision:
    """Whether an answer begins by rephrasing its instruction: as published for LIMA's, else by the lexical rule.

    The rule: the first sentence shares at least two content words with the instruction, and they make up 70 %
    of its content words, or 25 % where it opens with a formula such as "Here is". The shares were set so that about as
    many LIMA answers are flagged as in the paper (99); against the verdicts published with its code, precision is .515
    and recall .520.
    """
    opening = first_sentence(answer)
    words = _content_words(opening)
    shared = sorted(words & _content_words(instruction))
    share = len(shared) / len(words) if words else 0.0
    enough = OPENING_SHARE if _OPENING.match(opening) else MIN_SHARE
    verdict = len(shared) >= MIN_SHARED and share >= enough
    published = _published().get(answer_key(instruction, answer))
    decision = Decision(where, turn, opening, shared, round(share, 3), verdict, "lexical")
    return decision if published is None else replace(decision, rephrases=published, by="published")


def answer_key(instruction: str, answer: str) -> str:
    """The first 16 hex digits of the sha256 of an instruction and its answer, as `PUBLISHED` names them."""
    return sha256_text(f"{instruction.strip()}\n\0\n{answer.strip()}")[:16]


@cache
def _published() -> dict[str, bool]:
    verdicts = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return dict.fromkeys(verdicts["others"], False) | dict.fromkeys(verdicts["flagged"].values(), True)


def remove_rephrasing(
    conversations: Iterable[Conversation], action: Literal["cut", "drop"], ask: Ask | None = None
) -> tuple[list[Conversation], list[Decision]]:
    """Applies the detector to every answer.

    Args:
        conversations: With their instructions still in place.
        action: "cut" removes the rephrasing sentence, and leaves the conversation out where nothing else remains;
            "drop" leaves it out at once.
        ask: A language model; None uses the published verdicts, and the lexical rule for answers without one.

    Returns:
        The conversations that remain, and every decision with its outcome.

    Raises:
        UserError: If an answer of the model has no verdict.
    """
    rows = list(conversations)
    decisions = [decide(c.where, turn, *texts) for c in rows for turn, texts in _answers(c)]
    if ask is not None:
        decisions = _asked(decisions, [texts for c in rows for _, texts in _answers(c)], ask)
    kept, outcomes = [], []
    pending = iter(decisions)
    for conversation in rows:
        own = [next(pending) for _ in _answers(conversation)]
        flagged = {d.turn: d.opening for d in own if d.rephrases}
        messages = [_cut(m, flagged.get(n)) for n, m in enumerate(conversation.messages)]
        stays = not flagged or (action == "cut" and all(messages[turn]["content"] for turn in flagged))
        if stays:
            kept.append(Conversation(conversation.where, messages))
        outcomes += [replace(d, outcome=_outcome(d, stays)) for d in own]
    return kept, outcomes


def _outcome(decision: Decision, stays: bool) -> Outcome:
    if not stays:
        return "left out"
    return "cut" if decision.rephrases and decision.opening else "kept"


def save_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Writes the decisions for review, one a line as JSON; nothing where the detector did not run."""
    if decisions:
        with atomic_write(path) as file:
            file.writelines(json.dumps(asdict(decision)) + "\n" for decision in decisions)


def _answers(conversation: Conversation) -> list[tuple[int, tuple[str, str]]]:
    """Each answer's position with its instruction and itself."""
    turns = conversation.messages
    return [(n, (turns[n - 1]["content"], m["content"])) for n, m in enumerate(turns) if m["role"] == "assistant"]


def _asked(decisions: list[Decision], texts: list[tuple[str, str]], ask: Ask) -> list[Decision]:
    """The decisions with the model's verdicts."""
    prompts = [PROMPT.format(instruction=instruction, response=answer[:2000]) for instruction, answer in texts]
    return [
        replace(decision, rephrases=_verdict(decision.where, answer), by="model")
        for decision, answer in zip(decisions, ask(prompts), strict=True)
    ]


def _cut(message: Message, opening: str | None) -> Message:
    if opening is None:
        return message
    return {**message, "content": message["content"].lstrip().removeprefix(opening).strip()}


def _content_words(text: str) -> set[str]:
    """Casefolded words without stop words, a plural's final s cut off."""
    words = {word.casefold() for word in _WORD.findall(text)}
    return {w[:-1] if w.endswith("s") and len(w) > 3 else w for w in words - _STOP}


def find_verdict(answer: str) -> bool | None:
    """What a model's answer to `PROMPT` says; None if it has no verdict."""
    verdicts = re.findall(r"####\s*(YES|NO)\b", answer, re.IGNORECASE)
    return verdicts[-1].upper() == "YES" if verdicts else None


def _verdict(where: str, answer: str) -> bool:
    verdict = find_verdict(answer)
    if verdict is None:
        raise UserError(
            f"{where}: the model answered {answer!r:.80}, expected it to end with #### YES or #### NO. Run the command "
            f"again, which asks about such rows only, or choose another data.rephrasing_model."
        )
    return verdict
