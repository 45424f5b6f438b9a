"""Ranks of an answer's tokens under a base model, and what each rule moved them by.

Shapes: `t` positions of the answer, `v` vocabulary, `u` ids that some rule may touch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from implicit_if.model_wrappers.rules.likelihood import Head
from implicit_if.model_wrappers.rules.product import BoundRules, teacher_forced_step

_ROWS = 128
"""Positions whose logits exist at once: more than for likelihoods, of which there are many at a time."""


@torch.no_grad()
def ranks_under(head: Head, context: list[int], answer: list[int]) -> tuple[Tensor, Tensor]:
    """Rank of each token of an answer, and the first choice at its place, each int64 `[t]`.

    A rank is one more than the number of tokens with a higher score, or with the same score and a lower id.

    Args:
        head: The base model.
        context: Token ids, not empty.
        answer: Token ids, not empty.
    """
    device = head.model.device
    (logits,) = head.rows(torch.tensor([[*context, *answer][:-1]], device=device))
    target = torch.tensor(answer, device=device)
    ranks, first = [], []
    for at in range(0, len(answer), _ROWS):
        end = min(at + _ROWS, len(answer))
        scores = logits(len(context) - 1 + at, len(context) - 1 + end)
        chosen = target[at:end]
        own = scores.gather(1, chosen[:, None])[:, 0]
        ranks += [  # row by row: on a CPU, a sum over a whole block of comparisons takes as long as the logits
            1 + torch.count_nonzero(row > score) + torch.count_nonzero(row[:token] == score)
            for row, score, token in zip(scores, own, chosen.tolist(), strict=True)
        ]
        first.append(scores.argmax(-1))  # the lowest id among ties
    return torch.stack(ranks), torch.cat(first)


@torch.no_grad()
def moves(rules: BoundRules, answer: Tensor, first: Tensor, prompt_scope: Tensor) -> dict[str, Tensor]:
    """By rule, how far it moved each token against the base's first choice there: float64 `[t]`, in nats.

    Args:
        rules: On the tokens' device.
        answer: int64 `[t]`.
        first: int64 `[t]`, the base's first choices.
        prompt_scope: Prompt tokens that count as used.
    """
    ids = rules.touched(torch.cat([prompt_scope, answer, first]))
    step = teacher_forced_step(rules, ids, prompt_scope, answer, 0)
    own, base = (torch.searchsorted(ids, tokens)[:, None] for tokens in (answer, first))
    found = {}
    for rule, call in zip(rules.preset.rules, rules.calls, strict=True):
        added = torch.zeros(len(answer), len(ids), dtype=torch.float64, device=answer.device)
        replace(rules, calls=(call,)).compact(ids).apply_(added, step)
        found[rule.name] = (added.gather(1, own) - added.gather(1, base))[:, 0]
    return found
