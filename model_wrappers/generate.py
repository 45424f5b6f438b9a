"""Decoding a batch with transformers' `generate`, so that finished rows stop costing time.

`generate` keeps every row until the last one ends. Here it is interrupted when half of the rows are done, and goes
on with the others from the same key-value cache: the same tokens, at most twice the work of the unfinished rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from implicit_if.harness.generation import Generation
from implicit_if.model_wrappers.prompt_batches import Prompts
from implicit_if.model_wrappers.sampling import RowSampler

ProcessorFactory = Callable[[int, Tensor], LogitsProcessorList]
"""Makes the processors of some rows: from the prompt's width and the rows' indices int64 `[b]`."""


_FROM_THE_START = {"min_new_tokens", "min_length", "begin_suppress_tokens", "exponential_decay_length_penalty"}
"""Arguments of `generate` that count from a prompt's end, so that rows may not begin again in the middle."""


class Thought:
    """Where a thinking model's thought ends and its answer begins."""

    def __init__(self, tokenizer: Any, end: str | int | None) -> None:
        """Looks the end up: as one token where the tokenizer has it, else as text.

        Args:
            tokenizer: The model's.
            end: See `decode_batch`; None: nothing is a thought.
        """
        known = tokenizer.get_vocab() if isinstance(end, str) else {}
        self._end = known.get(end, end)

    def answer(self, tokenizer: Any, tokens: Sequence[int]) -> str | None:
        """The text after the last thought's end; None if no thought has ended, though one is expected."""
        if isinstance(self._end, int):
            if self._end not in tokens:
                return None
            tokens = tokens[len(tokens) - list(tokens)[::-1].index(self._end) :]
            return str(tokenizer.decode(tokens, skip_special_tokens=True)).lstrip()
        text = str(tokenizer.decode(tokens, skip_special_tokens=True))
        return text if self._end is None else after_thought(text, self._end)


def after_thought(text: str, end: str) -> str | None:
    """The text after the last `end`; None without one."""
    return text.rpartition(end)[2].lstrip() if end in text else None


class _Watch(StoppingCriteria):
    """Notes which rows are done, and ends `generate` when half of those it began with are, if it `shrinks`.

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
        shrinks: bool,
        thought: Thought,
    ) -> None:
        self.tokenizer, self.eos_ids, self.stop, self.width, self.on_step = tokenizer, eos_ids, stop, width, on_step
        self.shrinks, self.thought = shrinks, thought
        self.done = torch.zeros(rows, dtype=torch.bool, device=eos_ids.device)
        self.stopped = torch.zeros_like(self.done)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        self.on_step(len(self.done))
        self.done |= (input_ids[:, -1:] == self.eos_ids).any(1)
        if self.stop:
            for row in (~self.done).nonzero().flatten().tolist():
                text = self.thought.answer(self.tokenizer, input_ids[row, self.width :].tolist())
                self.stopped[row] = text is not None and any(s in text for s in self.stop)
            self.done |= self.stopped
        return self.stopped | (2 * self.done.sum() >= len(self.done)) if self.shrinks else self.stopped


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
    think_end: str | int | None = None,
    seeds: Sequence[int] | None = None,
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
        think_end: The text or token that ends a thought; the answer is what follows it, and a thought that was cut
            has an empty one.
        seeds: One a prompt, for samples that do not depend on the batch; None draws all rows from torch's global
            generator, as beams and assisted decoding do in any case.
        **generation: Further arguments of `generate`, e.g. `do_sample`, `num_beams`.

    Returns:
        In the order of the prompts.
    """
    rows, width = prompts.ids.shape
    tokens: list[list[int]] = [[] for _ in range(rows)]
    alive = torch.arange(rows, device=prompts.ids.device)
    ids, mask, cache = prompts.ids, prompts.mask, None
    thought = Thought(tokenizer, think_end)
    beams = generation.get("num_beams") or 1
    if beams > 1 and processors:  # beams are compared with each other, so their scores must be log-probabilities
        generation.setdefault("renormalize_logits", True)
    sampler = RowSampler(seeds, prompts.ids.device) if seeds and RowSampler.can_draw(generation) else None
    watched = beams == 1 and "cache_implementation" not in generation
    shrinks = watched and not _FROM_THE_START & generation.keys()
    while len(alive):
        watch = _Watch(tokenizer, eos_ids, stop, width, len(alive), on_step, shrinks, thought)
        result = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_length=width + max_new_tokens,
            eos_token_id=eos_ids.tolist(),
            pad_token_id=tokenizer.pad_token_id,
            logits_processor=processors(width, alive) if processors else None,
            stopping_criteria=StoppingCriteriaList([watch]) if watched else None,
            return_dict_in_generate=True,
            use_cache=True,
            custom_generate=sampler.rows(alive) if sampler else None,
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
    return [_finish(tokenizer, row, ends, stop, thought) for row in tokens]


def _finish(tokenizer: Any, tokens: list[int], ends: set[int], stop: Sequence[str], thought: Thought) -> Generation:
    length = next((n for n, token in enumerate(tokens) if token in ends), None)
    answer = thought.answer(tokenizer, tokens[:length])
    if answer is None:  # no end of a thought: one that was cut, or none was begun
        answer = "" if length is None else tokenizer.decode(tokens[:length], skip_special_tokens=True)
    text = answer
    cuts = [text.index(s) for s in stop if s in text]
    if cuts:
        while length is None and tokens and tokens[-1] == tokenizer.pad_token_id:
            tokens = tokens[:-1]  # what `generate` fills an ended row with
        return Generation.of(text[: min(cuts)], "stop", len(tokens[:length]))
    return Generation.of(text, "length" if length is None else "eos", len(tokens[:length]))
