"""Prompts as batches of tokens: every row is encoded by itself, and a prompt that is too long loses its middle.

A prompt begins with BOS and a role tag and ends with a role tag; both stay when the middle is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Prompt


@dataclass
class Prompts:
    """A left-padded batch.

    Attributes:
        ids: int64 `[b, s]`.
        mask: int64 `[b, s]`, 0 for padding.
        cuts: Tokens that each row lost; empty where none lost any.
    """

    ids: Tensor
    mask: Tensor
    cuts: Sequence[int] = ()


def prompt_room(max_length: int, new: int) -> int:
    """Tokens a prompt may have beside `new` ones.

    Raises:
        UserError: If `new` tokens alone are too many.
    """
    if new >= max_length:
        raise UserError(f"max_gen_toks={new}: the model holds {max_length} tokens in all; ask for fewer.")
    return max_length - new


def cut_middle(tokens: list[int], room: int) -> list[int]:
    """At most `room` tokens: the first and the last ones, half of each."""
    if len(tokens) <= room:
        return tokens
    return [*tokens[: room // 2], *tokens[len(tokens) - (room - room // 2) :]]


def place_after_cut(position: int, length: int, kept: int) -> int:
    """Where a token of a prompt of `length` tokens stands after `cut_middle` to `kept`; the cut, if it is gone."""
    return position if position < kept // 2 or length == kept else max(kept // 2, position - (length - kept))


def left_padded(rows: Sequence[Sequence[int]], pad: int, cuts: Sequence[int] = ()) -> Prompts:
    """The rows as one batch, on the CPU."""
    width = max(map(len, rows))
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], dtype=torch.long)
    mask = torch.tensor([[*[0] * (width - len(row)), *[1] * len(row)] for row in rows], dtype=torch.long)
    return Prompts(ids, mask, cuts if any(cuts) else ())


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text of those before it; a character's tokens but the last add nothing."""
    found: list[str] = []
    done = ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        grown = text if end == len(ids) or not text.endswith("\ufffd") else done
        found.append(grown[len(done) :])
        done = grown
    return found


def with_response(prompt: str, response: str) -> Prompt:
    """A prompt with a response after it, in which a special token's text stays text as in the prompt's messages."""
    whole = Prompt(prompt + response)
    whole.users = (*getattr(prompt, "users", ()), (len(prompt), len(whole)))
    return whole
