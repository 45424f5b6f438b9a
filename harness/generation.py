"""A generated answer that knows how it ended and who made it, and how a task learns which model it asks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from implicit_if.harness.outputs import FinishReason


@dataclass(frozen=True)
class Maker:
    """The system that made an answer.

    Attributes:
        name: What is done to the base model, e.g. "rules:paper@1a2b3c4d"; "none" is the base model itself.
        model: The model and the system as data; see `get_model_info` of the wrappers.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Generation(str):
    """A generated text; everywhere else it is a plain string.

    Attributes:
        finish_reason: "eos", "stop" (a stop string) or "length".
        n_tokens: Response tokens without the final EOS.
        maker: The system that made it; None if it is not known yet.
        prompt_tokens_cut: Tokens of a too long prompt that the model was not shown.
    """

    finish_reason: FinishReason
    n_tokens: int
    maker: Maker | None
    prompt_tokens_cut: int = 0

    @classmethod
    def of(cls, text: str, finish_reason: FinishReason, n_tokens: int, maker: Maker | None = None) -> Generation:
        """The text with its attributes."""
        self = cls(text)
        self.finish_reason, self.n_tokens, self.maker = finish_reason, n_tokens, maker
        return self


class Prompt(str):
    """A prompt that knows which of its parts are messages, so that a special token's text in them stays text.

    Attributes:
        users: Start and end of each part, in order.
    """

    users: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str, messages: Iterable[str]) -> Prompt:
        """The text; its parts are searched for in order, since a template may strip them."""
        self, at, parts = cls(text), 0, []
        for message in messages:
            stripped = message.strip()
            if stripped and (start := text.find(stripped, at)) >= 0:
                at = start + len(stripped)
                parts.append((start, at))
        self.users = tuple(parts)
        return self


class Rank(int):
    """A process's rank that also holds its model: all that lm-eval shows a task of a model before it asks it.

    Attributes:
        model: The wrapper.
    """

    model: Any

    @classmethod
    def of(cls, rank: int, model: Any) -> Rank:
        """The rank with its model."""
        self = cls(rank)
        self.model = model
        return self


def sampling_seed() -> int | None:
    """The seed that this process's samples are drawn from; None where torch, which draws them, is not loaded."""
    torch: Any = sys.modules.get("torch")
    return None if torch is None else int(torch.initial_seed())
