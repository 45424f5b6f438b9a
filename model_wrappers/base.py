"""What our wrappers share: lm-eval's `HFLM` with the embedded default model, and answers that know how they ended."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor
from tqdm import tqdm

from implicit_if.harness import live
from implicit_if.harness.errors import UserError
from implicit_if.harness.files import cache_dir, sha256_json
from implicit_if.harness.records import append_records, read_records
from implicit_if.model_wrappers.decoding import Generation, ProcessorFactory, Prompts, decode_batch
from implicit_if.model_wrappers.identity import model_identity

log = logging.getLogger(__name__)

CPU_BATCH = 32
"""Rows at once on a CPU: beyond, tokens per second no longer grow."""


class ImplicitLM(HFLM):  # type: ignore[misc]
    """A causal language model of transformers whose answers carry finish reason and token count.

    Subclasses say how next-token scores are changed (`processors_for`) and what names the change (`product_name`).
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
            from implicit_if.model_wrappers.embedded import ensure_embedded_model

            pretrained = str(ensure_embedded_model())
        gpu = torch.cuda.is_available()
        device = device or ("cuda" if gpu else "cpu")
        if dtype is None:
            dtype = ("bfloat16" if gpu or _fast_bfloat16() else "float32") if self.embedded else "auto"
        if not isinstance(pretrained, str):
            device, dtype = str(pretrained.device), pretrained.dtype
        super().__init__(
            pretrained=pretrained, device=device, dtype=dtype, batch_size=batch_size or "auto", **kwargs
        )
        if self.backend != "causal":
            raise UserError(f"pretrained={pretrained}: an encoder-decoder model; expected a decoder-only model.")
        self._shard_without_gpus()
        self._settings = {"revision": self.revision, **kwargs}
        live.register(self)

    def _shard_without_gpus(self) -> None:
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self._world_size == 1:  # HFLM shards only where it sees several GPUs
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
    @property
    def product_name(self) -> str:
        """What is done to the base model, e.g. a rules preset; enters the results and the caches."""
        return "none"

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
            self._identity = model_identity(
                self.pretrained,
                getattr(self.config, "_commit_hash", None),
                dtype=self.model.dtype,
                device=self.device.type,
                torch=torch.__version__,
                transformers=transformers.__version__,
                **{k: v for k, v in self._settings.items() if k not in {"max_batch_size", "max_length"}},
            )
        return self._identity

    def get_model_info(self) -> dict[str, Any]:
        """lm-eval's description of the model, with identity and product; stands in the results' config."""
        info: dict[str, Any] = super().get_model_info()
        return info | {"model_identity": self.base_identity, "product": self.product_name}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Refuses a `--use_cache` file that another model or product filled: lm-eval's keys hold the request only.

        Raises:
            UserError: If the cache belongs to another model or product.
        """
        if cache_hook.dbdict is not None:
            mine = sha256_json([self.base_identity, self.product_name])
            found = cache_hook.dbdict.get("implicit_if", None)
            if found is None and len(cache_hook.dbdict):
                raise UserError("--use_cache: this cache was filled by another model; choose another path.")
            if found not in (None, mine):
                raise UserError(
                    f"--use_cache: this cache was filled by another model or product than {self.product_name} "
                    f"(found {found[:12]}, expected {mine[:12]}); choose another path."
                )
            cache_hook.dbdict["implicit_if"] = mine
        super().set_cache_hook(cache_hook)

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
        size = self._detect_batch_size() if self.batch_size == "auto" else int(self.batch_size)
        for number, positions in enumerate(groups.values(), start=1):
            kwargs = dict(requests[positions[0]].args[1])
            rules = kwargs.pop("rules", ...)
            settings: dict[str, Any] = dict(normalize_gen_kwargs(kwargs, self.max_gen_toks))
            memory = self._memory(rules, settings)
            for position in positions:
                answers[position] = memory.get(requests[position].args[0])
            todo = sorted(
                (p for p in positions if answers[p] is None), key=lambda p: (-len(requests[p].args[0]), requests[p].args[0])
            )
            if len(todo) < len(positions):
                log.info("%d answers of the plain base model are taken from %s", len(positions) - len(todo), memory.path)
            with tqdm(
                total=len(todo) * settings["max_gen_toks"],
                desc=f"generating {number}/{len(groups)} ({self._label(rules)})",
                unit="tok",
                disable=disable_tqdm or self.rank != 0 or not todo,
            ) as bar:
                for at in range(0, len(todo), size):
                    batch = todo[at : at + size]
                    contexts = [requests[p].args[0] for p in batch]
                    done = self._answer(contexts, rules, settings, bar)
                    for position, answer in zip(batch, done, strict=True):
                        answers[position] = answer
                        self.cache_hook.add_partial("generate_until", requests[position].args, answer)
                    memory.add(contexts, done)
        return [answer for answer in answers if answer is not None]

    def _label(self, rules: Any) -> str:
        return self.product_name if rules is ... else f"rules {rules}"

    def _answer(self, contexts: list[str], rules: Any, settings: Mapping[str, Any], bar: Any) -> list[Generation]:
        generation = dict(settings)
        stop = [s for s in generation.pop("until", None) or [] if s]
        new = int(generation.pop("max_gen_toks"))
        if not generation.get("do_sample"):
            generation["do_sample"] = False
            generation.pop("temperature", None)
        room = self.max_length - new
        if room <= 0:
            raise UserError(f"max_gen_toks={new}: the model holds {self.max_length} tokens in all; ask for fewer.")
        ids, mask = self.tok_batch_encode(contexts, left_truncate_len=room, truncation=self.truncation)
        prompts = Prompts(ids.to(self.device), mask.to(self.device))
        seen = bar.n
        with torch.autocast(self.device.type, self.mixed_precision_dtype, enabled=bool(self.mixed_precision_dtype)):
            answers = decode_batch(
                self.model,
                self.tokenizer,
                prompts,
                new,
                eos_ids=self.eos_ids.to(self.device),
                stop=stop,
                processors=self.processors_for(rules, contexts, prompts),
                on_step=bar.update,
                **generation,
            )
        bar.update(len(contexts) * new - (bar.n - seen))  # rows that ended early
        return answers

    @property
    def eos_ids(self) -> Tensor:
        """int64 `[k]`: the tokenizer's EOS and every one of the generation settings."""
        found = getattr(self.model.generation_config, "eos_token_id", None)
        ids = set(found if isinstance(found, list) else [found]) - {None}
        return torch.tensor(sorted(ids | {self.eot_token_id}), dtype=torch.long)

    def _memory(self, rules: Any, settings: Mapping[str, Any]) -> _Memory:
        greedy = not settings.get("do_sample")
        if not (greedy and self.is_plain(rules) and self.base_identity):
            return _Memory(None)
        key = sha256_json([self.base_identity, dict(settings)])
        return _Memory(cache_dir() / "base-answers" / f"{key}.jsonl")


class _Memory:
    """Answers of the plain base model under one set of generation arguments, by prompt."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        records: Iterable[dict[str, Any]] = read_records(path) if path else ()
        self._answers = {r["prompt"]: Generation.of(r["text"], r["finish_reason"], r["n_tokens"]) for r in records}

    def get(self, prompt: str) -> Generation | None:
        return self._answers.get(sha256_json(prompt))

    def add(self, prompts: list[str], answers: list[Generation]) -> None:
        if self.path is None:
            return
        records = [
            {"prompt": sha256_json(p), "text": str(a), "finish_reason": a.finish_reason, "n_tokens": a.n_tokens}
            for p, a in zip(prompts, answers, strict=True)
        ]
        append_records(self.path, records)
        self._answers.update({r["prompt"]: a for r, a in zip(records, answers, strict=True)})


def _fast_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _command_line_default(*flags: str) -> bool:
    """Whether lm_eval's command line runs without these flags, so that their values are its own defaults."""
    program = Path(sys.argv[0]).stem.replace("-", "_")
    if program not in {"lm_eval", "__main__"}:
        return False
    return not any(argument.split("=")[0] in flags for argument in sys.argv[1:])
