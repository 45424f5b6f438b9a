"""What our wrappers share: lm-eval's `HFLM` with the embedded default model, and answers that know how they ended."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from torch import Tensor
from tqdm import tqdm

from implicit_if import __version__
from implicit_if.harness.generation import Generation
from implicit_if.harness.storage import cache_dir, sha256_json
from implicit_if.model_wrappers.answer_cache import AnswerMemory
from implicit_if.model_wrappers.arguments import read_generation
from implicit_if.model_wrappers.generate import ProcessorFactory, decode_batch
from implicit_if.model_wrappers.loading import LoadedLM, say
from implicit_if.model_wrappers.prompt_batches import Prompts, cut_middle, left_padded, prompt_room
from implicit_if.model_wrappers.prompt_tokens import encode, special_tokens, spells_special
from implicit_if.model_wrappers.sampling import row_seeds

log = logging.getLogger(__name__)

CPU_BATCH = 32
"""Rows at once on a CPU: beyond, tokens per second no longer grow."""


class ImplicitLM(LoadedLM):
    """A causal language model of transformers whose answers carry finish reason and token count.

    Subclasses say how next-token scores are changed (`processors_for`) and what the change is (`describe`).
    """

    # ------------------------------------------------------------------ what subclasses define
    def processors_for(self, rules: Any, contexts: list[str], prompts: Prompts) -> ProcessorFactory | None:
        """The logits processors of a batch; None is the plain model.

        Args:
            rules: The `rules` generation argument of these requests, or `...` where there is none.
            contexts: The prompts' texts.
            prompts: Their tokens.
        """
        return None

    def is_plain(self, rules: Any) -> bool:
        """Whether requests with this `rules` argument are answered by the unchanged base model."""
        return True

    # ------------------------------------------------------------------ generation
    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        if self.device.type == "cpu":  # lm-eval's probe fills the longest context and gigabytes of logits
            return CPU_BATCH
        return int(super()._detect_batch_size(requests, pos))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers requests in batches of similar length; each answer is a `Generation`.

        Requests are `(context, gen_kwargs)`. Beyond lm-eval's generation arguments, `rules` replaces this model's own
        rules for the request ("none" is the plain base model). Greedy answers of the plain model are kept in the
        user's cache folder and reused.
        """
        answers: list[Generation | None] = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(position)
        for number, positions in enumerate(groups.values(), start=1):
            kwargs = dict(requests[positions[0]].args[1])
            rules = kwargs.pop("rules", ...)
            settings = self.generation_settings(kwargs)
            memory = self._base_memory(rules, settings)
            prompts = [requests[p].args[0] for p in positions]
            todo = sum(map(len, self.batches(prompts, memory)))
            if todo < len(positions) and self.rank == 0:
                say(f"{len(positions) - todo} answers of the plain base model are taken from {memory.path}")
            with tqdm(
                total=todo * settings["max_gen_toks"],
                desc=f"generating {number}/{len(groups)} ({self._label(rules)})",
                unit="tok",
                disable=disable_tqdm or self.rank != 0 or not todo,
            ) as bar:
                for i, answer in self.answer(prompts, rules, settings, memory, on_tokens=bar.update):
                    answers[positions[i]] = answer
                    self.cache_hook.add_partial("generate_until", requests[positions[i]].args, answer)
        self.say_threads()
        return [answer for answer in answers if answer is not None]

    def say_threads(self) -> None:
        """Says on how many CPU threads answers were generated, where that was measured."""
        if self.threads.steps and self.rank == 0:
            say(f"CPU threads: {self.threads} (measured; OMP_NUM_THREADS=N keeps to N)")

    def generation_settings(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See `read_generation`."""
        return read_generation(arguments, self.max_gen_toks)

    @functools.cached_property
    def rows_at_once(self) -> int:
        """Rows of a batch; lm-eval records them as `batch_sizes`."""
        rows = self._detect_batch_size() if self.batch_size == "auto" else int(self.batch_size)
        self.batch_sizes = {0: rows}
        return rows

    def batches(self, prompts: Sequence[str], memory: AnswerMemory) -> list[list[int]]:
        """Positions of the prompts to generate for, in batches of similar length.

        A batch is taken from memory as a whole or not at all: in bfloat16 a row's tokens can depend on the rows
        beside it, so a run that was cut off goes on with the batches of one that was not.
        """
        order = sorted(range(len(prompts)), key=lambda p: (-len(prompts[p]), prompts[p]))
        size = self.rows_at_once
        chunks = [order[at : at + size] for at in range(0, len(order), size)]
        return [chunk for chunk in chunks if any(memory.get(self._remembered(prompts[p])) is None for p in chunk)]

    def _remembered(self, prompt: str) -> str:
        """A prompt's name in a memory, which tells whether special tokens in it are text."""
        return f"{prompt}\0text" if spells_special(self.tokenizer, prompt) else prompt

    def answer(
        self,
        prompts: Sequence[str],
        rules: Any,
        settings: Mapping[str, Any],
        memory: AnswerMemory,
        on_tokens: Callable[[int], object] = lambda tokens: None,
    ) -> Iterator[tuple[int, Generation]]:
        """Answers prompts, those in memory first; every batch is in memory before its answers are yielded.

        Args:
            prompts: Texts as the model is to see them.
            rules: See `processors_for`.
            settings: See `generation_settings`.
            memory: See `memory`.
            on_tokens: Called with numbers of tokens; they add up to `max_gen_toks` a prompt that is generated for.

        Yields:
            The prompt's position, and its answer.

        Raises:
            UserError: If the model cannot hold so many tokens.
        """
        todo, maker = self.batches(prompts, memory), self.maker(rules)
        for position in sorted(set(range(len(prompts))).difference(*todo)):
            remembered = memory.get(self._remembered(prompts[position]))
            assert remembered is not None
            remembered.maker = maker
            yield position, remembered
        seeds = row_seeds(prompts) if settings.get("do_sample") else None
        for batch in todo:
            contexts = [prompts[p] for p in batch]
            done = self._answer(contexts, rules, settings, on_tokens, seeds and [seeds[p] for p in batch])
            memory.add([self._remembered(context) for context in contexts], done)
            for answer in done:
                answer.maker = maker
            yield from zip(batch, done, strict=True)

    def memory(self, path: Path, rules: Any, settings: Mapping[str, Any]) -> AnswerMemory:
        """A file of answers to requests with these arguments; answers of another model or version do not count."""
        made_by = [self.base_identity, self.describe(rules), dict(settings), __version__]
        return AnswerMemory(path if self.base_identity else None, made_by)

    def _label(self, rules: Any) -> str:
        return self.product_name if rules is ... else f"rules {rules}"

    def _answer(
        self,
        contexts: list[str],
        rules: Any,
        settings: Mapping[str, Any],
        on_tokens: Callable[[int], object],
        seeds: list[int] | None,
    ) -> list[Generation]:
        generation = dict(settings)
        stop = [s for s in generation.pop("until", None) or [] if s]
        new = int(generation.pop("max_gen_toks"))
        if not generation.get("do_sample"):
            generation["do_sample"] = False
            generation.pop("temperature", None)
        prompts = self.encode_prompts(contexts, new)
        counted = 0

        def on_step(rows: int) -> None:
            nonlocal counted
            counted += rows
            self.threads.step(rows)
            on_tokens(rows)

        self.threads.pause()
        with torch.autocast(self.device.type, self.mixed_precision_dtype, enabled=bool(self.mixed_precision_dtype)):
            answers = decode_batch(
                self.model,
                self.tokenizer,
                prompts,
                new,
                eos_ids=self.eos_ids.to(self.device),
                stop=stop,
                processors=self.processors_for(rules, contexts, prompts),
                on_step=on_step,
                think_end=self.think_end_token,
                seeds=seeds,
                **generation,
            )
        on_tokens(len(contexts) * new - counted)  # rows that ended early
        for answer, cut in zip(answers, prompts.cuts, strict=False):
            answer.prompt_tokens_cut = cut
        return answers

    def encode_prompts(self, contexts: list[str], new: int) -> Prompts:
        """Prompts on the model's device; one that leaves no room for `new` tokens loses its middle.

        Raises:
            UserError: If `new` tokens alone are too many.
        """
        room = prompt_room(self.max_length, new)
        rows = [self.encode(context) for context in contexts]
        cuts = [max(0, len(row) - room) for row in rows]
        if any(cuts):
            log.warning("note: %d prompts have no room in %d tokens and lose their middle", sum(map(bool, cuts)), room)
        prompts = left_padded([cut_middle(row, room) for row in rows], self.tokenizer.pad_token_id, cuts)
        return Prompts(prompts.ids.to(self.device), prompts.mask.to(self.device), prompts.cuts)

    def encode(self, context: str) -> list[int]:
        """A prompt's tokens."""
        return encode(self.tokenizer, context, special_tokens(self.tokenizer, context, self.add_bos_token))[0]

    @property
    def eos_ids(self) -> Tensor:
        """int64 `[k]`: the tokenizer's EOS and every one of the generation settings."""
        found = getattr(self.model.generation_config, "eos_token_id", None)
        ids = set(found if isinstance(found, list) else [found]) - {None}
        return torch.tensor(sorted(ids | {self.eot_token_id}), dtype=torch.long)

    def _base_memory(self, rules: Any, settings: Mapping[str, Any]) -> AnswerMemory:
        """Greedy answers of the plain model, in the user's cache folder."""
        if settings.get("do_sample") or not self.is_plain(rules) or not self.base_identity:
            return AnswerMemory(None)
        made_by = [self.base_identity, dict(settings)]
        return AnswerMemory(cache_dir() / "base-answers" / f"{sha256_json(made_by)}.jsonl", made_by)
