"""Many continuations of one context: the context is read once, and all go on from its key-value cache.

Shapes: `b` rows, `n` tokens of a row, `t` scored positions, `h` hidden size, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from implicit_if.model_wrappers.rules.likelihood import HEAD_ROWS, Head, Text, TextScore, score_texts
from implicit_if.model_wrappers.rules.product import BoundRules, response_log_probs

LEAST = 8
"""Continuations from which on a context is read by itself: fewer are faster in a batch with other contexts'."""

_ROWS = 256
"""Rows of the head that are multiplied at once."""


def score_all(
    head: Head,
    rules: BoundRules,
    texts: Sequence[Text],
    *,
    max_length: int,
    batch_size: int,
    pad_id: int,
    on_done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, TextScore]]:
    """As `score_texts`, but texts that go on from one context, where they are many, share its key-value cache."""
    groups = shared_contexts(texts, max_length)
    groups = groups if groups and head.shares else []
    for group in groups:
        for i, score in score_after(head, rules, [texts[i] for i in group], batch_size=batch_size, pad_id=pad_id):
            yield group[i], score
            on_done()
    alone = sorted(set(range(len(texts))).difference(*groups))
    rest = [texts[i] for i in alone]
    for i, score in score_texts(
        head, rules, rest, max_length=max_length, batch_size=batch_size, pad_id=pad_id, on_done=on_done
    ):
        yield alone[i], score


def shared_contexts(texts: Sequence[Text], max_length: int) -> list[list[int]]:
    """Positions of texts that go on from one context, for contexts that enough texts share and that need no cut."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for i, text in enumerate(texts):
        if not text.past and len(text.context) + len(text.continuation) <= max_length:
            groups.setdefault((tuple(text.context), tuple(text.prompt_scope)), []).append(i)
    return [group for group in groups.values() if len(group) >= LEAST]


@torch.no_grad()
def score_after(
    head: Head, rules: BoundRules, texts: Sequence[Text], *, batch_size: int, pad_id: int
) -> Iterator[tuple[int, TextScore]]:
    """Scores texts with equal context and prompt scope, and nothing scored before.

    Args:
        head: Of a model that `shares`.
        rules: On the model's device.
        texts: At least one.
        batch_size: Rows at once.
        pad_id: Any token id, for the right of shorter rows.

    Yields:
        The text's position in `texts`, and its score.
    """
    device = rules.eos_ids.device
    context = torch.tensor(list(texts[0].context), device=device)
    prompt = torch.tensor(list(texts[0].prompt_scope), dtype=torch.long, device=device)
    goes_on = head.after(context)
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i].continuation), i))
    for at in range(0, len(order), batch_size):
        chunk = order[at : at + batch_size]
        rows = [list(texts[i].continuation) for i in chunk]
        width = len(rows[0]) - 1
        padded = [[*row[:-1], *[pad_id] * (width + 1 - len(row))] for row in rows]
        states = goes_on(torch.tensor(padded, dtype=torch.long, device=device).view(len(rows), width))
        kept = [state[: len(row)] for state, row in zip(states, rows, strict=True)]
        targets = [torch.tensor(row, dtype=torch.long, device=device) for row in rows]
        score = _by_rules if rules else _by_base
        yield from zip(chunk, score(head, rules, kept, targets, prompt), strict=True)


def _by_rules(
    head: Head, rules: BoundRules, states: list[Tensor], targets: list[Tensor], prompt: Tensor
) -> Iterator[TextScore]:
    for own, target in zip(states, targets, strict=True):
        parts = [
            response_log_probs(rules, head.logits(piece), target[: at + len(piece)], at, prompt)
            for at, piece in _pieces(own, HEAD_ROWS)
        ]
        yield TextScore(
            float(sum(part.product.sum() for part in parts)),
            float(sum(part.base.sum() for part in parts)),
            all(bool(part.greedy.all()) for part in parts),
        )


def _by_base(
    head: Head, rules: BoundRules, states: list[Tensor], targets: list[Tensor], prompt: Tensor
) -> Iterator[TextScore]:
    """All rows' positions together, since large products are faster than many small ones."""
    layer = head.head if type(head) is Head else None
    plain = type(layer) is torch.nn.Linear and layer.bias is None  # an adapter's layer is of another type
    together, target = torch.cat(states), torch.cat(targets)
    parts = [
        _by_columns(layer.weight, piece, target[at : at + len(piece)])
        if plain and layer is not None
        else _whole(head.logits(piece), target[at : at + len(piece)])
        for at, piece in _pieces(together, _ROWS if plain else HEAD_ROWS)
    ]
    log_probs, greedy = (torch.cat(column) for column in zip(*parts, strict=True))
    lengths = [len(row) for row in targets]
    for own, best in zip(*(torch.split_with_sizes(column, lengths) for column in (log_probs, greedy)), strict=True):
        total = float(own.sum())
        yield TextScore(total, total, bool(best.all()))


def _pieces(states: Tensor, rows: int) -> Iterator[tuple[int, Tensor]]:
    return ((at, states[at : at + rows]) for at in range(0, len(states), rows))


def _whole(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability float64 `[t]` of each target, and whether it is the argmax (the lowest id among ties)."""
    chosen = logits.gather(1, target[:, None])[:, 0]
    return chosen.double() - logits.logsumexp(-1).double(), logits.argmax(-1) == target


def _by_columns(weight: Tensor, states: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """As `_whole`, some columns of the head at a time, whose scores stay in a processor's cache."""
    columns = 8192 if weight.device.type == "cpu" else 65536
    best = torch.full((len(states),), float("-inf"), device=states.device)
    best_id, found, normalisers = torch.zeros_like(target), torch.zeros_like(best), []
    for first in range(0, len(weight), columns):
        scores = torch.nn.functional.linear(states, weight[first : first + columns]).float()
        normalisers.append(scores.logsumexp(-1))
        top, at = scores.max(-1)
        best_id = torch.where(top > best, at + first, best_id)
        best = torch.maximum(top, best)
        place = target - first
        inside = (place >= 0) & (place < scores.shape[1])
        found = torch.where(inside, scores.gather(1, place.clamp(0, scores.shape[1] - 1)[:, None])[:, 0], found)
    return found.double() - torch.stack(normalisers, -1).double().logsumexp(-1), best_id == target
