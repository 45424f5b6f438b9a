"""The rules: pure functions that change next-token scores in place (Hewitt et al. 2024, section 5).

Shapes: `b` rows, `v` vocabulary, `n` tokens of a row's history, `k` token ids.

The product of experts p_base(w | x, y_<i) · p_rules(w | x, y_<i) / Z is, in scores, a sum, and a constant added to a
whole row changes neither the softmax nor any choice: so a rule adds its weights to the base model's logits, and
touches no other column. A rule is one function here, entered in `RULES`; a preset names it and gives its options.

A rule may change the scores of end-of-sequence ids, of ids in an option of type `TokenWeights`, and of used tokens,
and of no others: `product.py` relies on this to score a text exactly without a `[n, v]` matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

UsedScope = Literal["response", "prompt+response"]


@dataclass(frozen=True)
class TokenWeights:
    """Token ids and what is added to each.

    Attributes:
        ids: int64 `[k]`, unique.
        weights: float32 `[k]`.
    """

    ids: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Step:
    """What a rule may look at when the next token of each row is scored.

    Attributes:
        index: Response tokens there already: one int for all rows, or int64 `[b]`.
        eos_ids: int64 `[k]`, unique ids that end a response.
        response: int64 `[b, n]`, the response so far; `n` may be 0.
        response_mask: bool `[b, n]`, False where a column is no part of that row's response; None: all are.
        history: int64 `[b, n]`, prompt and response so far; None if no rule looks at the prompt.
        history_mask: bool `[b, n]`, False for padding and for what stands before the prompt's scope; None: none.
    """

    index: int | Tensor
    eos_ids: Tensor
    response: Tensor
    response_mask: Tensor | None = None
    history: Tensor | None = None
    history_mask: Tensor | None = None

    def used(self, scope: UsedScope) -> tuple[Tensor, Tensor | None]:
        """The used tokens `[b, n]` of each row, with repeats, and their mask."""
        if scope == "response":
            return self.response, self.response_mask
        if self.history is None:
            raise ValueError("scope 'prompt+response' needs a step that carries the prompt")
        return self.history, self.history_mask


def eos_ramp(
    scores: Tensor,
    step: Step,
    *,
    maximum: float = 15.0,
    length: int = 250,
    after: Literal["hold", "zero"] = "hold",
) -> None:
    """Raises the end-of-sequence scores slowly: `maximum * i / length` at response index i (paper, section 5.1).

    Args:
        scores: float `[b, v]`, changed in place.
        step: The state of the rows.
        maximum: The weight reached at `length`.
        length: Tokens the ramp takes.
        after: From `length` on, "hold" keeps `maximum` (the paper's text), "zero" adds nothing (the released code).
    """
    shape = (scores.shape[0], len(step.eos_ids))
    if isinstance(step.index, int):  # filled on the device: a tensor made here would be copied there at every step
        share = step.index / length
        shift = scores.new_full(shape, maximum * (min(share, 1.0) if after == "hold" else share * (share < 1)))
    else:
        shares = step.index.reshape(-1, 1).double() / length  # float64, as above: the same bits for either index
        shares = shares.clamp(max=1.0) if after == "hold" else torch.where(shares < 1, shares, 0.0)
        shift = (maximum * shares).to(scores.dtype).expand(shape)
    scores.index_add_(1, step.eos_ids, shift)


def token_bias(scores: Tensor, step: Step, *, weights: TokenWeights) -> None:
    """Shifts a few tokens at every position (paper, section 5.1 and Table 8).

    Args:
        scores: float `[b, v]`, changed in place.
        step: Not looked at.
        weights: The tokens and their shifts; may be empty.
    """
    shift = weights.weights.to(scores.dtype).expand(scores.shape[0], -1)
    scores.index_add_(1, weights.ids, shift)


def used_token_penalty(
    scores: Tensor,
    step: Step,
    *,
    weight: float = -1.5,
    scope: UsedScope = "response",
    prompt_after: str = "<|user|>\n",
) -> None:
    """Adds `weight` once to every token the row has used, however often (paper, section 5.1).

    Args:
        scores: float `[b, v]`, changed in place.
        step: The state of the rows.
        weight: What is added; negative penalises.
        scope: Whether the prompt's tokens count as used: "response" (the paper's text) or "prompt+response" (what
            the released code does).
        prompt_after: Where the prompt's scope begins: after the last occurrence of this text. A prompt without it
            counts whole, special tokens excepted. Read when the step is built, not here.
    """
    ids, mask = step.used(scope)
    if ids.shape[1] == 0:
        return
    moved = scores.gather(1, ids) + weight
    if mask is None:
        scores.scatter_(1, ids, moved)  # every repeat of an id writes the same value
    else:
        # a masked repeat must lose against an unmasked one of the same id, whatever the order of the writes
        worst, keep = (float("inf"), "amin") if weight < 0 else (float("-inf"), "amax")
        scores.scatter_reduce_(1, ids, moved.masked_fill(~mask, worst), reduce=keep, include_self=True)


RULES: dict[str, Callable[..., None]] = {f.__name__: f for f in (eos_ramp, token_bias, used_token_penalty)}
"""Every rule by name. A rule takes `(scores, step, *, options...)`; options of type `TokenWeights` are given in
presets as groups of strings and resolved with the model's tokenizer."""
