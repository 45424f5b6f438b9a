"""Exact likelihoods of texts under a product of experts, with the output head run on continuations only.

Shapes: `b` rows, `s` positions, `h` hidden size, `v` vocabulary, `n` tokens of a continuation.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from implicit_if.model_wrappers.rules.product import BoundRules, response_log_probs

HEAD_ROWS = 64
"""Positions whose logits exist at once: 64 rows of a 262,144-token vocabulary are 64 MiB in float32."""


Logits = Callable[[int, int], Tensor]
"""Gives a row's float32 logits `[t, v]` from a first to before a last position, which the caller may overwrite."""


@dataclass(frozen=True)
class Text:
    """One text to score.

    Attributes:
        context: Token ids before the continuation, not empty.
        continuation: Token ids to score, not empty.
        past: Tokens of the same response that earlier windows scored; they count for index and used tokens.
        prompt_scope: Prompt tokens that count as used, under rules that look at the prompt.
    """

    context: Sequence[int]
    continuation: Sequence[int]
    past: Sequence[int] = ()
    prompt_scope: Sequence[int] = ()


@dataclass(frozen=True)
class TextScore:
    """What scoring a text gives.

    Attributes:
        log_prob: Sum over the continuation's tokens, under base times rules.
        base_log_prob: The same under the base alone.
        greedy: Whether every token is the product's argmax.
    """

    log_prob: float
    base_log_prob: float
    greedy: bool


class Head:
    """A model's logits in two steps, so that only the rows needed pay for the vocabulary.

    Some architectures scale or cap logits after the head. The two steps are therefore compared with the model's own
    forward pass once; where they differ, the forward pass is used, and the whole `[s, v]` exists for a row.
    """

    def __init__(self, model: Any) -> None:
        if hasattr(model, "get_base_model"):  # an adapter's shell; its layers are in the model itself
            model = model.get_base_model()
        self.model = model
        self.backbone: Any = getattr(model, "base_model", None)
        self.head = model.get_output_embeddings()
        self.splits = self.backbone is not None and self.backbone is not model and self._agrees()

    @torch.no_grad()
    def _agrees(self) -> bool:
        probe = torch.arange(4, device=self.model.device)[None] % self.model.config.get_text_config().vocab_size
        split = self.head(self.backbone(input_ids=probe).last_hidden_state)
        return bool(torch.allclose(split, self.model(input_ids=probe).logits, rtol=1e-3, atol=1e-3))

    @functools.cached_property
    def shares(self) -> bool:
        """Whether rows may go on from one context's key-value cache; compared with a whole forward pass once."""
        return self.splits and self._continues()

    @torch.no_grad()
    def _continues(self) -> bool:
        probe = torch.arange(4, device=self.model.device)[None] % self.model.config.get_text_config().vocab_size
        try:
            states = self.after(probe[0, :2])(probe[:, 2:].repeat(2, 1))
        except (AttributeError, NotImplementedError, TypeError, ValueError):  # a model without such a cache
            return False
        whole = self.backbone(input_ids=probe).last_hidden_state[:, 1:]
        return bool(torch.allclose(states, whole.expand_as(states), rtol=1e-3, atol=1e-3))

    def after(self, context: Tensor) -> Callable[[Tensor], Tensor]:
        """Reads a context int64 `[s]` once.

        Returns:
            A function from rows int64 `[b, n]` that go on from it to the backbone's states `[b, n + 1, h]`: those that
            predict the first token after the context, and each token after the rows'.
        """
        read = self.backbone(
            input_ids=context[None], past_key_values=DynamicCache(config=self.model.config), use_cache=True
        )
        return functools.partial(self._continued, read.past_key_values, read.last_hidden_state[:, -1:])

    def _continued(self, cache: Any, last: Tensor, batch: Tensor) -> Tensor:
        states = last.expand(len(batch), -1, -1)
        if batch.shape[1] == 0:
            return states
        own = copy.deepcopy(cache)  # a forward pass appends to it
        own.batch_repeat_interleave(len(batch))
        grown = self.backbone(input_ids=batch, past_key_values=own, use_cache=True).last_hidden_state
        return torch.cat([states, grown], dim=1)

    def logits(self, states: Tensor) -> Tensor:
        """Float32 logits `[t, v]` of states `[t, h]`, which the caller may overwrite."""
        logits: Tensor = self.head(states).float()
        return logits

    def rows(self, batch: Tensor) -> Sequence[Logits]:
        """The logits of each row of int64 `[b, s]`."""
        if self.splits:
            return [_Rows(row, self.head) for row in self.backbone(input_ids=batch).last_hidden_state]
        return [_Rows(row, torch.clone) for row in self.model(input_ids=batch).logits]


@dataclass(frozen=True)
class _Rows:
    """A row's `Logits`: the head is run when they are asked for."""

    positions: Tensor
    head: Callable[[Tensor], Tensor]

    def __call__(self, first: int, last: int) -> Tensor:
        return self.head(self.positions[first:last]).float()


@torch.no_grad()
def score_texts(
    head: Head,
    rules: BoundRules,
    texts: Sequence[Text],
    *,
    max_length: int,
    batch_size: int,
    pad_id: int,
    on_done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, TextScore]]:
    """Scores texts, longest first.

    Args:
        head: The base model.
        rules: On the model's device; none at all gives the base model.
        texts: What to score.
        max_length: Longest input of the model; longer contexts are cut on the left.
        batch_size: Rows at once.
        pad_id: Any token id, for the right of shorter rows, where causal attention does not look.
        on_done: Called after each text.

    Yields:
        The text's position in `texts`, and its score.
    """
    device = rules.eos_ids.device
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i].context) - len(texts[i].continuation), i))
    for at in range(0, len(order), batch_size):
        chunk = order[at : at + batch_size]
        inputs = [([*texts[i].context, *texts[i].continuation])[-(max_length + 1) :][:-1] for i in chunk]
        width = max(map(len, inputs))
        batch = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in inputs], device=device)
        for i, row, logits in zip(chunk, inputs, head.rows(batch), strict=True):
            yield i, _score_text(rules, texts[i], len(row), logits)
            on_done()


def _score_text(rules: BoundRules, text: Text, length: int, logits: Logits) -> TextScore:
    device = rules.eos_ids.device
    n, offset = len(text.continuation), len(text.past)
    response = torch.tensor([*text.past, *text.continuation], dtype=torch.long, device=device)
    prompt = torch.tensor(list(text.prompt_scope), dtype=torch.long, device=device)
    first = length - n
    product = base = 0.0
    greedy = True
    for at in range(0, n, HEAD_ROWS):
        end = min(at + HEAD_ROWS, n)
        scores = response_log_probs(
            rules, logits(first + at, first + end), response[: offset + end], offset + at, prompt
        )
        product += float(scores.product.sum())
        base += float(scores.base.sum())
        greedy &= bool(scores.greedy.all())
    return TextScore(product, base, greedy)
