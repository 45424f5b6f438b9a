"""Greedy decoding of one prompt, token by token, with a record of what the rules did to each.

Shapes: `s` sequence, `v` vocabulary, `u` candidates.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from implicit_if.model_wrappers.rules.product import RulesProcessor

CANDIDATES = 3
"""How many of the best tokens before, and as many of those after the rules, are recorded."""


@dataclass(frozen=True)
class Candidate:
    """A token that could have been chosen.

    Attributes:
        token: Its id.
        before: Its probability under the base model.
        after: Its probability under base times rules.
        shifts: What each rule added to its score, by the rule's name.
    """

    token: int
    before: float
    after: float
    shifts: dict[str, float]


@dataclass(frozen=True)
class Choice:
    """One decoding step.

    Attributes:
        token: The id that was chosen.
        candidates: The best tokens before and after the rules, most probable after them first; empty where no rule
            was at work.
    """

    token: int
    candidates: tuple[Candidate, ...] = ()

    @property
    def base_token(self) -> int:
        """What the base model alone would have chosen after the same text."""
        return max(self.candidates, key=lambda c: (c.before, -c.token)).token if self.candidates else self.token

    @property
    def changed(self) -> bool:
        """Whether the rules made it another token."""
        return self.base_token != self.token


@torch.no_grad()
def stream_choices(lm: Any, prompt: str, rules: Any, max_new_tokens: int) -> Iterator[Choice]:
    """Decodes greedily, with a key-value cache; the same tokens as `lm.answer` in batches of one.

    Args:
        lm: An `ImplicitLM`.
        prompt: The text as the model is to see it.
        rules: As in a request; see `ImplicitLM.processors_for`.
        max_new_tokens: Tokens at most.

    Yields:
        Each step, the one that chose EOS included, which is the last.

    Raises:
        UserError: If the model cannot hold so many tokens.
    """
    prompts = lm.encode_prompts([prompt], max_new_tokens)
    ids, width = prompts.ids, prompts.ids.shape[1]
    factory = lm.processors_for(rules, [prompt], prompts)
    processors = factory(width, torch.zeros(1, dtype=torch.long, device=ids.device)) if factory else []
    ends = set(lm.eos_ids.tolist())
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(lm.model.forward).parameters else {}
    cache = None
    for _ in range(max_new_tokens):
        new = ids if cache is None else ids[:, -1:]
        with torch.autocast(lm.device.type, lm.mixed_precision_dtype, enabled=bool(lm.mixed_precision_dtype)):
            result = lm.model(input_ids=new, past_key_values=cache, use_cache=True, **last_only)
        cache = result.past_key_values
        choice = _choose(processors, ids, result.logits[:, -1].float())
        yield choice
        if choice.token in ends:
            return
        ids = torch.cat([ids, torch.tensor([[choice.token]], device=ids.device)], dim=1)


def _choose(processors: Sequence[Any], ids: Tensor, logits: Tensor) -> Choice:
    scores = logits.clone()
    for processor in processors:
        scores = processor(ids, scores)
    token = int(scores.argmax())
    rules = next((p for p in processors if isinstance(p, RulesProcessor)), None)
    return Choice(token) if rules is None else Choice(token, _candidates(rules, ids, logits, scores))


def _candidates(processor: RulesProcessor, ids: Tensor, before: Tensor, after: Tensor) -> tuple[Candidate, ...]:
    """Adds the rules once more, one by one, to see what each does to the best tokens."""
    k = min(CANDIDATES, before.shape[1])
    best = torch.unique(torch.cat([before.topk(k).indices[0], after.topk(k).indices[0]]))
    step = processor.step(ids)
    scores = before.clone()
    shifts = {}
    for rule, call in zip(processor.rules.preset.rules, processor.rules.calls, strict=True):
        held = scores[0, best]
        replace(processor.rules, calls=(call,)).apply_(scores, step)
        shifts[rule.name] = (scores[0, best] - held).tolist()
    odds = [(m[0, best].double() - m[0].double().logsumexp(-1)).exp().tolist() for m in (before, after)]
    candidates = [
        Candidate(token, odds[0][n], odds[1][n], {name: shift[n] for name, shift in shifts.items()})
        for n, token in enumerate(best.tolist())
    ]
    return tuple(sorted(candidates, key=lambda c: (-c.after, c.token)))


class GrowingText:
    """The text of tokens that are still coming in."""

    def __init__(self, tokenizer: Any, ends: set[int]) -> None:
        """Starts empty.

        Args:
            tokenizer: Decodes; special tokens are not shown, as in stored answers.
            ends: Ids that end a text and are no part of it.
        """
        self._tokenizer, self._ends = tokenizer, ends
        self.tokens: list[int] = []
        self.ended = False
        self.text = ""

    def add(self, token: int) -> None:
        """Takes the next token; a character whose bytes are not all there yet is not shown."""
        if token in self._ends:
            self.ended = True
        else:
            self.tokens.append(token)
        text = str(self._tokenizer.decode(self.tokens, skip_special_tokens=True))
        self.text = text if self.ended else text.rstrip("\N{REPLACEMENT CHARACTER}")

    def close(self) -> str:
        """The whole text, an unfinished character included."""
        self.text = str(self._tokenizer.decode(self.tokens, skip_special_tokens=True))
        return self.text
