"""Samples of a row that depend on its seed alone, not on the rows beside it in the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from implicit_if.harness.storage import sha256_text

_OTHER_LOOPS = {"assistant_model", "assistant_early_exit", "prompt_lookup_num_tokens", "cache_implementation"}
"""Arguments of `generate` with which it decodes in a loop, or from a graph, of its own."""


def row_seeds(prompts: Sequence[str]) -> list[int]:
    """One seed a prompt, from torch's global generator and the prompt's text.

    After `torch.manual_seed`, a prompt gets the same seed whatever other prompts there are, and in whatever order. A
    prompt that stands n times gets n seeds.
    """
    run, seen = int(torch.randint(2**62, ())), Counter[str]()
    seeds = []
    for prompt in prompts:
        seeds.append(int(sha256_text(f"{run} {seen[prompt]} {prompt}")[:15], 16))
        seen[prompt] += 1
    return seeds


class RowSampler:
    """Draws each row's tokens from a generator of its own; a `custom_generate` of transformers' `generate`."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        """Seeds the generators.

        Args:
            seeds: One a row.
            device: The model's; a seed draws other numbers on another kind of device.
        """
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    @staticmethod
    def can_draw(generation: dict[str, Any]) -> bool:
        """Whether `generate` samples row by row with these arguments, one token at a time."""
        beams = generation.get("num_beams") or 1
        return bool(generation.get("do_sample")) and beams == 1 and not _OTHER_LOOPS & generation.keys()

    def rows(self, rows: Tensor) -> RowSampler:
        """The sampler of some rows int64 `[b]`, each of which goes on where it is."""
        part = RowSampler([], rows.device)
        part._generators = [self._generators[i] for i in rows.tolist()]
        return part

    def __call__(
        self, model: Any, input_ids: Tensor, logits_processor: Any, generation_config: Any, **rest: Any
    ) -> Any:
        """Decodes as `generate` would, temperature, top-k and the like included, but for who draws."""
        logits_processor.append(_Drawn(self._generators))
        generation_config.do_sample = False  # one token a row is left
        return model._sample(input_ids, logits_processor=logits_processor, generation_config=generation_config, **rest)


class _Drawn(LogitsProcessor):
    """Leaves the token that was drawn.

    A token's probability over an exponential number is largest with just that probability, as in `torch.multinomial`;
    other than a search in cumulated probabilities, rounding changes hardly any draw.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = zip(scores, self.generators, strict=True)
        waits = torch.stack([torch.empty_like(row).exponential_(generator=generator) for row, generator in rows])
        token = (scores.softmax(-1) / waits).argmax(-1, keepdim=True)
        return torch.full_like(scores, float("-inf")).scatter_(1, token, 0.0)
