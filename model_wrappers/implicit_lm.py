"""What our wrappers share: lm-eval's `HFLM` with the embedded default model, and answers that know how they ended."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor
from tqdm import tqdm

from implicit_if import __version__
from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Generation
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.storage import cache_dir, sha256_json
from implicit_if.model_wrappers.answer_cache import AnswerMemory
from implicit_if.model_wrappers.generate import ProcessorFactory, Prompts, decode_batch
from implicit_if.model_wrappers.identity import Identity

log = logging.getLogger(__name__)

CPU_BATCH = 32
"""Rows at once on a CPU: beyond, tokens per second no longer grow."""


class ImplicitLM(Identity, HFLM):
    """A causal language model of transformers whose answers carry finish reason and token count.

    Subclasses say how next-token scores are changed (`processors_for`) and what the change is (`describe`).
    """

    def __init__(
        self,
        pretrained: str | transformers.PreTrainedModel | None = None,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Loads the model.

        Args:
            pretrained: A local folder, a hub name, or a loaded model; None is the embedded base model.
            device: None is the GPU where there is one, else the CPU.
            dtype: None is the checkpoint's type; for the embedded model on a CPU, bfloat16 where it is fast.
            batch_size: Rows at once; None or "auto" chooses.
            **kwargs: Further arguments of `HFLM`.

        Raises:
            UserError: If the model is not decoder-only, or the embedded model is not installed.
        """
        self.embedded = pretrained is None
        if pretrained is None:
            from implicit_if.model_wrappers.embedded_model import ensure_embedded_model

            pretrained = str(ensure_embedded_model())
        gpu = torch.cuda.is_available()
        device = device or ("cuda" if gpu else "cpu")
        if dtype is None:
            dtype = ("bfloat16" if gpu or _fast_bfloat16() else "float32") if self.embedded else "auto"
        if not isinstance(pretrained, str):
            device, dtype = str(pretrained.device), pretrained.dtype
        super().__init__(pretrained=pretrained, device=device, dtype=dtype, batch_size=batch_size or "auto", **kwargs)
        if self.backend != "causal":
            raise UserError(f"pretrained={pretrained}: an encoder-decoder model; expected a decoder-only model.")
        self._shard_without_gpus()
        self._settings = {"revision": self.revision, **kwargs}

    def _shard_without_gpus(self) -> None:
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1:  # HFLM shards only where it sees several GPUs
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes

    # ------------------------------------------------------------------ construction by lm-eval
    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Any:
        """Builds the wrapper; an argument of `--model_args` wins over the command line's own."""
        given = {k: v for k, v in (additional_config or {}).items() if v is not None}
        if given.get("batch_size") == 1 and _command_line_default("--batch_size", "-b"):
            log.info("batch size: chosen automatically (--batch_size 1 decodes one row at a time)")
            del given["batch_size"]
        return cls(**(given | arg_dict))

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Builds the wrapper from `key=value,...`."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

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

    def product_key(self, rules: Any) -> Any:
        """What distinguishes the products of requests with this `rules` argument, as JSON can hold it."""
        return self.product_name

    # ------------------------------------------------------------------ identity
    @property
    def max_gen_toks(self) -> int:
        """Tokens per answer unless the task or the user says otherwise: 256 for the embedded model, else 512."""
        return 256 if self.embedded else 512

    @property
    def base_identity(self) -> str | None:
        """Hash of everything that shapes the plain model's answers; None for a model object without files."""
        if not isinstance(self.pretrained, str):
            return None
        if not hasattr(self, "_identity"):
            self._identity = model_fingerprint(
                self.pretrained,
                getattr(self.config, "_commit_hash", None),
                dtype=self.model.dtype,
                device=self.device.type,
                torch=torch.__version__,
                transformers=transformers.__version__,
                **{k: v for k, v in self._settings.items() if k != "max_batch_size"},
            )
        return self._identity

    def get_model_info(self) -> dict[str, Any]:
        """Adds the type of the weights."""
        return super().get_model_info() | {"model_dtype": str(self.model.dtype)}

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
            if todo < len(positions):
                log.info("%d answers of the plain base model are taken from %s", len(positions) - todo, memory.path)
            with tqdm(
                total=todo * settings["max_gen_toks"],
                desc=f"generating {number}/{len(groups)} ({self._label(rules)})",
                unit="tok",
                disable=disable_tqdm or self.rank != 0 or not todo,
            ) as bar:
                for i, answer in self.answer(prompts, rules, settings, memory, on_tokens=bar.update):
                    answers[positions[i]] = answer
                    self.cache_hook.add_partial("generate_until", requests[positions[i]].args, answer)
        return [answer for answer in answers if answer is not None]

    def generation_settings(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """lm-eval's generation arguments in their one form, `max_gen_toks` filled in."""
        return dict(normalize_gen_kwargs(dict(arguments), self.max_gen_toks))

    @functools.cached_property
    def rows_at_once(self) -> int:
        """Rows of a batch."""
        return self._detect_batch_size() if self.batch_size == "auto" else int(self.batch_size)

    def batches(self, prompts: Sequence[str], memory: AnswerMemory) -> list[list[int]]:
        """Positions of the prompts to generate for, in batches of similar length.

        A batch is taken from memory as a whole or not at all: in bfloat16 a row's tokens can depend on the rows
        beside it, so a run that was cut off goes on with the batches of one that was not.
        """
        order = sorted(range(len(prompts)), key=lambda p: (-len(prompts[p]), prompts[p]))
        size = self.rows_at_once
        chunks = [order[at : at + size] for at in range(0, len(order), size)]
        return [chunk for chunk in chunks if any(memory.get(prompts[p]) is None for p in chunk)]

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
            remembered = memory.get(prompts[position])
            assert remembered is not None
            remembered.maker = maker
            yield position, remembered
        for batch in todo:
            contexts = [prompts[p] for p in batch]
            done = self._answer(contexts, rules, settings, on_tokens)
            memory.add(contexts, done)
            for answer in done:
                answer.maker = maker
            yield from zip(batch, done, strict=True)

    def memory(self, path: Path, rules: Any, settings: Mapping[str, Any]) -> AnswerMemory:
        """A file of answers to requests with these arguments; answers of another model or version do not count."""
        made_by = [self.base_identity, self.product_key(rules), dict(settings), __version__]
        return AnswerMemory(path if self.base_identity else None, made_by)

    def _label(self, rules: Any) -> str:
        return self.product_name if rules is ... else f"rules {rules}"

    def _answer(
        self, contexts: list[str], rules: Any, settings: Mapping[str, Any], on_tokens: Callable[[int], object]
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
            on_tokens(rows)

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
                **generation,
            )
        on_tokens(len(contexts) * new - counted)  # rows that ended early
        return answers

    def encode_prompts(self, contexts: list[str], new: int) -> Prompts:
        """Prompts on the model's device, cut on the left so that `new` tokens have room.

        Raises:
            UserError: If `new` tokens alone are too many.
        """
        room = self.max_length - new
        if room <= 0:
            raise UserError(f"max_gen_toks={new}: the model holds {self.max_length} tokens in all; ask for fewer.")
        ids, mask = self.tok_batch_encode(contexts, left_truncate_len=room, truncation=self.truncation)
        return Prompts(ids.to(self.device), mask.to(self.device))

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


def _fast_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _command_line_default(*flags: str) -> bool:
    """Whether lm_eval's command line runs without these flags, so that their values are its own defaults."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.stem == "__main__" else program.stem
    if name.replace("-", "_") != "lm_eval":
        return False
    return not any(argument.split("=")[0] in flags for argument in sys.argv[1:])
