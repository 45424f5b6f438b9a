"""What a judge's answer says: letters weighed by their logprobs, strict text verdicts, and what is no verdict."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from implicit_if.harness.judging.api.prompts import ATTEMPT, PAIR, Labels
from implicit_if.harness.thoughts import after_thoughts

TEXT_REMEDY = (
    "Raise max_tokens if the answers end before their verdict (models that think need thousands), or change the "
    "prompt: an answer is the verdict alone, or ends in a line 'Verdict: m'."
)
"""What may help text answers without a verdict."""

_BY_ITSELF = frozenset(
    "stop stop_sequence stop_token eos eos_token end_turn complete completed tool_calls tool_call tool_use "
    "function_call".split()
)
"""How servers call it when the model ended its answer; any other reason leaves none, whatever it is called."""
_CUT = frozenset("length max_length model_length max_tokens max_output_tokens model_context_window_exceeded".split())


@cache
def _patterns(labels: Labels) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A verdict alone, and a line that gives one."""
    verdict = rf"[\"'`*_(\[]*({labels.first}|{labels.second})[\"'`*_)\]]*\.?"
    flags = re.IGNORECASE if labels.any_case else 0
    line = rf"[*_#\s]*[Vv]erdict[*_]*\s*:\s*{verdict}[*_]*\s*"
    return re.compile(verdict, flags), re.compile(line, flags)


def parse_text(text: str, labels: Labels = PAIR) -> tuple[float | None, str | None]:
    """Reads a text verdict: 1.0 for the first label, 0.0 for the second, or None and why.

    A verdict is the identifier alone (quotes, emphasis and a final full stop are permitted), or a last line
    "Verdict: m". An answer that says two different verdicts, or anything else, holds none. What a model thought does
    not count, and a thought that does not end leaves no verdict.
    """
    text, thinking = after_thoughts(text)
    if thinking:
        return None, f"the judge's thought does not end: {_short(text)}"
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return None, "the judge said nothing"
    verdict, verdict_line = _patterns(labels)
    first, second = labels.first, labels.second
    said = [labels.of(match.group(1)) for line in lines if (match := verdict_line.fullmatch(line))]
    alone = verdict.fullmatch(lines[0]) if len(lines) == 1 else None
    if alone is not None:
        return float(labels.of(alone.group(1)) == first), None
    if len(set(said)) > 1:
        return None, f"the judge said both verdicts: {_short(text)}"
    if not said or not verdict_line.fullmatch(lines[-1]):
        return None, f"no verdict in: {_short(text)} (expected {first} or {second}, or a last line 'Verdict: {first}')"
    return float(said[0] == first), None


def no_verdict(finish: Any, *, may_be_cut: bool = False) -> str | None:
    """Why an answer that ended for this reason holds no verdict; None if it may hold one.

    Args:
        finish: The API's finish or stop reason, in capitals or not; None or nothing where it gives none.
        may_be_cut: True where the first token decides, so that the rest may be missing.
    """
    if finish is None:
        return None
    reason = finish.casefold() if isinstance(finish, str) else "no text"
    if not reason or reason in _BY_ITSELF or (reason in _CUT and may_be_cut):
        return None
    return f"the answer ended by {_short(str(finish))}, so what it says is no verdict"


def token_counts(content: dict[str, Any]) -> tuple[float | None, float | None]:
    """Tokens read and written, as OpenAI's or Anthropic's usage counts them; None where it does not."""
    usage = content.get("usage")
    values = usage if isinstance(usage, dict) else {}
    read, written = (
        next((v for name in names if isinstance(v := values.get(name), int | float) and 0 <= v < math.inf), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    return read, written


def letter_of(token: str) -> str:
    """A token without the white space before and after it, also as tokenizers write it."""
    return token.replace("\u2581", " ").replace("\u0120", " ").strip()


def weigh_letters(
    top_logprobs: Iterable[tuple[str, float]], min_mass: float, labels: Labels = PAIR
) -> tuple[float | None, str | None]:
    """The probability of the first identifier against the second, from one token's most probable alternatives.

    Tokens that differ only by white space before or after the letter are one letter. A letter that is not among
    the alternatives has probability 0 (alpaca-eval does the same).

    Args:
        top_logprobs: Tokens with natural-log probabilities.
        min_mass: The least probability that both letters must have together.
        labels: The identifiers.

    Returns:
        The probability and None, or None and why there is none.
    """
    first, second, *_ = labels
    mass = {first: 0.0, second: 0.0}
    for token, logprob in top_logprobs:
        letter = labels.of(letter_of(token))
        if letter in mass and not math.isnan(logprob):
            mass[letter] += math.exp(min(logprob, 0.0))
    total = mass[first] + mass[second]
    if total < min_mass or total == 0.0:
        return None, f"the letters {first} and {second} have probability {total:.2g}, expected at least {min_mass:g}"
    return mass[first] / total, None


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return repr(shown if len(shown) <= 120 else shown[:57] + "..." + shown[-57:])


def record(raw: Mapping[str, Any], limit: int) -> str:
    """What an annotation keeps of an answer: JSON that `read_record` understands, of about `limit` characters at most.

    Where what was said is too long, thoughts before it go first, then its middle; a verdict stands at either end.
    """
    text, said = json.dumps(raw, ensure_ascii=False), raw.get("said")
    if len(text) <= limit or not isinstance(said, str):
        return text
    rest, thinking = after_thoughts(said)
    said = said if thinking else rest
    keep = min(len(said), limit)
    while len(text := json.dumps({**raw, "said": said}, ensure_ascii=False)) > limit and keep:
        keep = keep * 3 // 4
        said = f"{said[: keep // 2]}\n[...]\n{said[len(said) - keep // 2 :]}"
    return text


def read_record(raw: str) -> tuple[str, dict[str, float] | None] | None:
    """What the judge said, and the logprobs of its token's alternatives if asked for; None if it is incomplete."""
    try:
        kept = json.loads(raw)
        said, alternatives = kept["said"], kept.get("top_logprobs")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(said, str):
        return None
    if not isinstance(alternatives, dict):
        return said, None
    return said, {token: float(p) for token, p in alternatives.items() if type(p) in (int, float) and abs(p) < 1e9}


def reread_attempt(raw: str, argument: str = "") -> tuple[float, float] | None:
    """As `reread`, of what a judge said about one answer."""
    return reread(raw, argument, ATTEMPT)


def reread(raw: str, argument: str = "", labels: Labels = PAIR) -> tuple[float, float] | None:
    """The lowest and highest preference for the first label that stored words allow; None if they are incomplete.

    Of a weighted verdict the record holds the most probable tokens only, which bounds it. Words that hold no verdict
    allow no preference: the lowest is above the highest.
    """
    kept = read_record(raw)
    if kept is None:
        return None
    said, alternatives = kept
    if alternatives is None:
        found = parse_text(said, labels)[0]
        return (1.0, 0.0) if found is None else (found, found)
    known = list(alternatives.items())
    found = weigh_letters(known, 0.0, labels)[0]
    if found is None:
        return 1.0, 0.0
    mass = sum(math.exp(min(p, 0.0)) for token, p in known if labels.of(letter_of(token)) in labels[:2])
    rest = max(0.0, 1.0 - sum(math.exp(min(p, 0.0)) for _, p in known))
    return found * mass / (mass + rest), (found * mass + rest) / (mass + rest)
