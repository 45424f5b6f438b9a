"""What `/why` shows: for each token of an answer, which rule made it what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.safe_text import printable
from implicit_if.model_wrappers.chat.streaming import Candidate, Choice
from implicit_if.model_wrappers.chat.terminal import fit

_OPENED = 5
"""Changed tokens whose candidates stand below them without being asked for."""


class Surfaces:
    """Tokens as people read them: quoted, with their leading space, control characters escaped."""

    def __init__(self, tokenizer: Any) -> None:
        from implicit_if.model_wrappers.rules.tokens import token_surfaces

        self._tokenizer = tokenizer
        self._bytes = token_surfaces(tokenizer)

    def __call__(self, token: int) -> str:
        if token in self._bytes:
            text = self._bytes[token].decode("utf-8", "backslashreplace")
        else:
            text = str(self._tokenizer.convert_ids_to_tokens(token))  # a special token
        return f"'{printable(text, lines=False)}'"


def why(name: str, choices: Sequence[Choice], surface: Surfaces, shown: str = "") -> str:
    """The explanation of one answer.

    Args:
        name: The system's name.
        choices: Its steps.
        surface: Spells tokens.
        shown: "" lists the changed tokens, the candidates of the first few opened; "all" opens all tokens in the
            answer's order, a number that token's alone.

    Raises:
        UserError: If `shown` is none of these.
    """
    if not any(choice.candidates for choice in choices):
        return f"{name}: no rules at work, so every token is the model's own choice"
    rows = list(enumerate(choices, start=1))
    if shown.isdecimal() and 1 <= int(shown) <= len(rows):
        rows = rows[int(shown) - 1 : int(shown)]
    elif shown not in ("", "all"):
        raise UserError(f"/why {shown}: expected nothing, 'all', or a token's number from 1 to {len(rows)}.")
    changed = sum(choice.changed for choice in choices)
    lines = [f"{name}: {len(choices)} tokens, {changed} of them (*) not the base model's choice after the same text"]
    if not shown:
        rows = [row for row in rows if row[1].changed]
    for place, (number, choice) in enumerate(rows):
        lines.append(_line(number, choice, surface))
        if shown or place < _OPENED:
            lines += _table(choice, surface)
    if not shown and changed < len(choices):
        rest = f"the other {len(choices) - changed} are" if changed else "all are"
        lines.append(f"  {rest} the base model's own choice; /why all opens every token, /why 12 one")
    return "\n".join(lines)


def _line(number: int, choice: Choice, surface: Surfaces) -> str:
    own = next(c for c in choice.candidates if c.token == choice.token)
    line = f"{number:4d}{'*' if choice.changed else ' '} {fit(surface(choice.token), 18)} {_move(own)}"
    if choice.changed:
        base = next(c for c in choice.candidates if c.token == choice.base_token)
        line += f"  instead of {surface(base.token)} {_move(base)}"
    return line


def _move(candidate: Candidate) -> str:
    acting = [f"{name} {shift:+.2f}" for name, shift in candidate.shifts.items() if abs(shift) >= 0.005]
    because = f" ({', '.join(acting)})" if acting else ""
    return f"{candidate.before:.3f} -> {candidate.after:.3f}{because}"


def _table(choice: Choice, surface: Surfaces) -> list[str]:
    rules = list(choice.candidates[0].shifts)
    head = "".join(f"{fit(name, 10, right=True)} " for name in rules)
    lines = [f"        {fit('candidate', 18)} {'before':>7} {head}{'after':>7}"]
    for c in choice.candidates:
        marks = [mark for mark, at in (("chosen", choice.token), ("the base's", choice.base_token)) if c.token == at]
        cells = "".join(f"{f'{c.shifts[name]:+.2f}' if abs(c.shifts[name]) >= 0.005 else '.':>10} " for name in rules)
        line = f"        {fit(surface(c.token), 18)} {c.before:7.3f} {cells}{c.after:7.3f}  {', '.join(marks)}"
        lines.append(line.rstrip())
    return lines
