"""Decoding a batch with transformers' `generate`, so that finished rows stop costing time.

`generate` keeps every row until the last one ends. Here it is interrupted when half of the rows are done, and goes
on with the others from the same key-value cache: the same tokens, at most twice the work of the unfinished rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from implicit_if.harness.generation import Generation

ProcessorFactory = Callable[[int, Tensor], LogitsProcessorList]
"""Makes the processors of some rows: from the prompt's width and the rows' indices int64 `[b]`."""


@dataclass
class Prompts:
    """A left-padded batch.

    Attributes:
        ids: int64 `[b, s]`.
        mask: int64 `[b, s]`, 0 for padding.
    """

    ids: Tensor
    mask: Tensor


class _Watch(StoppingCriteria):
    """Notes which rows are done, and ends `generate` when half of those it began with are.

    Without stop strings nothing here waits for the device: `generate` does so once a step, and a second time would
    cost at small batches.
    """

    def __init__(
        self,
        tokenizer: Any,
        eos_ids: Tensor,
        stop: Sequence[str],
        width: int,
        rows: int,
        on_step: Callable[[int], object],
    ) -> None:
        self.tokenizer, self.eos_ids, self.stop, self.width, self.on_step = tokenizer, eos_ids, stop, width, on_step
        self.done = torch.zeros(rows, dtype=torch.bool, device=eos_ids.device)
        self.stopped = torch.zeros_like(self.done)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        self.on_step(len(self.done))
        self.done |= (input_ids[:, -1:] == self.eos_ids).any(1)
        if self.stop:
            for row in (~self.done).nonzero().flatten().tolist():
                text = self.tokenizer.decode(input_ids[row, self.width :], skip_special_tokens=True)
                self.stopped[row] = any(s in text for s in self.stop)
            self.done |= self.stopped
        halved = 2 * self.done.sum() >= len(self.done)
        return self.stopped | halved


def decode_batch(
    model: Any,
    tokenizer: Any,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    eos_ids: Tensor,
    stop: Sequence[str] = (),
    processors: ProcessorFactory | None = None,
    on_step: Callable[[int], object] = lambda rows: None,
    **generation: Any,
) -> list[Generation]:
    """Generates one text per prompt.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer; needs a pad token.
        prompts: Left-padded, on the model's device.
        max_new_tokens: Tokens per row at most.
        eos_ids: int64 `[k]`, ids that end a response.
        stop: Texts that end a response and are cut off.
        processors: Logits processors of the rows given, see `ProcessorFactory`.
        on_step: Called after each token with the number of rows decoded, those included that wait to leave the batch.
        **generation: Further arguments of `generate`, e.g. `do_sample`, `num_beams`.

    Returns:
        In the order of the prompts.
    """
    rows, width = prompts.ids.shape
    tokens: list[list[int]] = [[] for _ in range(rows)]
    alive = torch.arange(rows, device=prompts.ids.device)
    ids, mask, cache = prompts.ids, prompts.mask, None
    shrinks = generation.get("num_beams", 1) == 1 and "cache_implementation" not in generation
    while len(alive):
        watch = _Watch(tokenizer, eos_ids, stop, width, len(alive), on_step)
        result = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_length=width + max_new_tokens,
            eos_token_id=eos_ids.tolist(),
            pad_token_id=tokenizer.pad_token_id,
            logits_processor=processors(width, alive) if processors else None,
            stopping_criteria=StoppingCriteriaList([watch]) if shrinks else None,
            return_dict_in_generate=True,
            use_cache=True,
            **generation,
        )
        for row, sequence in zip(alive.tolist(), result.sequences[:, width:].tolist(), strict=True):
            tokens[row] = sequence
        going = ~watch.done
        if not shrinks or result.sequences.shape[1] >= width + max_new_tokens or not going.any():
            break
        alive = alive[going]
        ids = result.sequences[going]
        mask = torch.nn.functional.pad(mask[going], (0, ids.shape[1] - mask.shape[1]), value=1)
        cache = result.past_key_values
        cache.batch_select_indices(going.nonzero().flatten())
    ends = set(eos_ids.tolist())
    return [_finish(tokenizer, row, ends, stop) for row in tokens]


def _finish(tokenizer: Any, tokens: list[int], ends: set[int], stop: Sequence[str]) -> Generation:
    length = next((n for n, token in enumerate(tokens) if token in ends), None)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
    cuts = [text.index(s) for s in stop if s in text]
    if cuts:
        while length is None and tokens and tokens[-1] == tokenizer.pad_token_id:
            tokens = tokens[:-1]  # what `generate` fills an ended row with
        return Generation.of(text[: min(cuts)], "stop", len(tokens[:length]))
    return Generation.of(text, "length" if length is None else "eos", len(tokens[:length]))
