"""`--model proxy_tuned`: a base model shifted by two small ones, tuned and untuned (Liu et al. 2024, arXiv 2401.08565).

Shapes: `b` rows, `s` sequence, `t` scored positions, `v` vocabulary.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.registry import register_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, LogitsProcessor, LogitsProcessorList

from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Generation
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.storage import sha256_json
from implicit_if.model_wrappers.generate import ProcessorFactory
from implicit_if.model_wrappers.prompt_batches import Prompts
from implicit_if.model_wrappers.rules.likelihood import Head, Logits
from implicit_if.model_wrappers.rules_poe import RulesPoE


@register_model("proxy_tuned")
class ProxyTuned(RulesPoE):
    """base + alpha · (expert − anti_expert) on the logits, and rules after that, if any.

    A request that names rules of its own (`rules="none"` asks for the plain base) gets the base model and those rules,
    without the shift.
    """

    def __init__(
        self,
        pretrained: Any = None,
        expert: str | None = None,
        anti_expert: str | None = None,
        alpha: float = 1.0,
        rules: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Checks that all vocabularies are the same, then loads the three models.

        Args:
            pretrained: The base model; see `ImplicitLM`. None is the embedded one.
            expert: Folder or hub name of the tuned small model, in safetensors.
            anti_expert: The same small model, untuned.
            alpha: Weight of their difference; 1 in the paper.
            rules: See `RulesPoE`; none by default.
            **kwargs: See `RulesPoE`.

        Raises:
            UserError: On a missing model, a vocabulary that differs, or a fault in the rules.
        """
        for name, value in (("expert", expert), ("anti_expert", anti_expert)):
            if not isinstance(value, str) or not value:
                raise UserError(f"{name}={value}: expected a folder or a hub name, as in --model_args {name}=PATH.")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            raise UserError(f"alpha={alpha!r}: expected a number.")
        self.alpha = float(alpha)
        self._paths = {"expert": str(expert), "anti_expert": str(anti_expert)}
        tokenizers = {name: _load(AutoTokenizer, name, path) for name, path in self._paths.items()}
        if isinstance(pretrained, str):  # a base model can take minutes to load
            base = _load(AutoTokenizer, "pretrained", kwargs.get("tokenizer") or pretrained)
            _require_equal_vocabularies(base, tokenizers)
        super().__init__(pretrained, rules=rules, **kwargs)
        if not isinstance(pretrained, str):
            _require_equal_vocabularies(self.tokenizer, tokenizers)
        tuned, untuned = (self._load_expert(name, path) for name, path in self._paths.items())
        columns = _shared_columns(self.tokenizer, self.model, tuned, untuned)
        self.experts = Experts(tuned, untuned, self.alpha, columns)
        self._shift_key = self._fingerprint_shift()

    def _load_expert(self, name: str, path: str) -> Any:
        model = _load(AutoModelForCausalLM, name, path, dtype=self.model.dtype, use_safetensors=True)
        return model.to(self.device).eval()

    # ------------------------------------------------------------------ identity
    def _fingerprint_shift(self) -> list[Any]:
        """What the shift is made of: identities of expert and anti-expert, and alpha."""
        identities = [
            model_fingerprint(path, getattr(model.config, "_commit_hash", None))
            for path, model in zip(self._paths.values(), self.experts.models, strict=True)
        ]
        return [*identities, self.alpha]

    def describe(self, rules: Any = ...) -> dict[str, Any]:
        """Both small models, alpha, a hash of all that, and the rules where there are some."""
        own = super().describe(rules)
        if rules is not ...:
            return own
        names = "-".join(Path(path).name for path in self._paths.values())
        shift = f"proxy:{names},alpha={self.alpha:g}@{sha256_json(self._shift_key)[:8]}"
        name = f"{shift}+{own['product']}" if self.rules else shift
        return {"product": name, "system": own["system"] | {"kind": "proxy", "shift": self._shift_key}}

    def is_plain(self, rules: Any) -> bool:
        """Whether a request asks for the base model without shift and rules."""
        return rules is not ... and super().is_plain(rules)

    def get_model_info(self) -> dict[str, Any]:
        """Adds the small models and alpha."""
        return super().get_model_info() | self._paths | {"alpha": self.alpha}

    # ------------------------------------------------------------------ decoding and likelihood
    def processors_for(self, rules: Any, contexts: list[str], prompts: Prompts) -> ProcessorFactory | None:
        """The shift, then the rules, for the rows that are still growing."""
        after = super().processors_for(rules, contexts, prompts)
        if rules is not ...:
            return after
        shift = ShiftProcessor(self.experts, prompts)

        def processors(width: int, rows: Tensor) -> LogitsProcessorList:
            shift.keep(rows)
            return LogitsProcessorList([shift, *(after(width, rows) if after else [])])

        return processors

    def _answer(
        self,
        contexts: list[str],
        rules: Any,
        settings: Mapping[str, Any],
        on_tokens: Callable[[int], object],
        seeds: list[int] | None,
    ) -> list[Generation]:
        if rules is ... and int(settings.get("num_beams", 1)) > 1:  # the small models' caches do not follow beams
            raise UserError(
                f"num_beams={settings['num_beams']}: proxy_tuned decodes greedily or samples; leave it out."
            )
        return super()._answer(contexts, rules, settings, on_tokens, seeds)

    @functools.cached_property
    def _head(self) -> Head:
        return ShiftedHead(Head(self.model), self.experts)

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """The shifted logits; lm-eval's search for a batch size calls this, so that all three models must fit."""
        logits: Tensor = super()._model_call(inps, attn_mask, labels).float()
        with torch.no_grad():
            expert, anti_expert = (model(input_ids=inps).logits for model in self.experts.models)
        return self.experts.shift_(logits, expert, anti_expert)


@dataclass(frozen=True)
class Experts:
    """The two small models.

    Attributes:
        expert: The tuned one.
        anti_expert: The untuned one.
        alpha: Weight of their difference.
        columns: Scores that all models have; columns beyond are padding of some model and stay as they are.
    """

    expert: Any
    anti_expert: Any
    alpha: float
    columns: int

    @property
    def models(self) -> tuple[Any, Any]:
        """Expert and anti-expert."""
        return self.expert, self.anti_expert

    def shift_(self, logits: Tensor, expert: Tensor, anti_expert: Tensor) -> Tensor:
        """Adds alpha · (expert − anti_expert) to float32 `logits [..., v]` in place; the paper's equation 1."""
        shared = slice(0, self.columns)
        difference = expert[..., shared].float() - anti_expert[..., shared].float()
        logits[..., shared] += self.alpha * difference
        return logits


class ShiftProcessor(LogitsProcessor):
    """Runs the small models beside `generate`, each with a key-value cache of its own, and shifts the scores."""

    def __init__(self, experts: Experts, prompts: Prompts) -> None:
        """Makes the processor of one batch.

        Args:
            experts: On the prompts' device.
            prompts: The whole left-padded batch.
        """
        self.experts = experts
        self._mask = prompts.mask
        self._rows = torch.arange(len(prompts.mask), device=prompts.mask.device)
        self._caches = [DynamicCache(config=model.config) for model in experts.models]

    def keep(self, rows: Tensor) -> None:
        """Drops all rows but these, int64 `[b]`: sorted indices into the whole batch."""
        if len(rows) == len(self._rows):
            return
        at = torch.searchsorted(self._rows, rows)
        for cache in self._caches:
            cache.batch_select_indices(at)
        self._rows, self._mask = rows, self._mask[at]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Shifts `scores [b, v]` given `input_ids [b, s]` of the rows kept."""
        missing = input_ids.shape[1] - self._mask.shape[1]
        mask = torch.nn.functional.pad(self._mask, (0, missing), value=1)
        expert, anti_expert = (
            _next_logits(model, cache, input_ids, mask)
            for model, cache in zip(self.experts.models, self._caches, strict=True)
        )
        return self.experts.shift_(scores.float(), expert, anti_expert)


def _next_logits(model: Any, cache: DynamicCache, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Logits `[b, v]` after `input_ids [b, s]`; only columns that `cache` has not seen are computed."""
    seen = cache.get_seq_length()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)  # padding on the left moves no text
    optional = {"position_ids": positions[:, seen:], "logits_to_keep": 1}
    known = inspect.signature(model.forward).parameters
    output = model(
        input_ids=input_ids[:, seen:],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        **{key: value for key, value in optional.items() if key in known},
    )
    logits: Tensor = output.logits[:, -1]
    return logits


class ShiftedHead(Head):
    """The three models' logits as one, for exact likelihoods."""

    def __init__(self, base: Head, experts: Experts) -> None:
        self.base, self.experts = base, experts
        self.small = [Head(model) for model in experts.models]
        self.splits = all(head.splits for head in (base, *self.small))

    @property
    def shares(self) -> bool:
        """See `Head.shares`."""
        return all(head.shares for head in (self.base, *self.small))

    def after(self, context: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Head.after`; the three models' states stand beside each other."""
        parts = [head.after(context) for head in (self.base, *self.small)]
        return lambda batch: torch.cat([part(batch) for part in parts], dim=-1)

    def logits(self, states: Tensor) -> Tensor:
        """See `Head.logits`."""
        heads = (self.base, *self.small)
        widths = [head.model.get_output_embeddings().weight.shape[1] for head in heads]
        parts = torch.split_with_sizes(states, widths, dim=-1)
        return self.experts.shift_(*(head.logits(part) for head, part in zip(heads, parts, strict=True)))

    def rows(self, batch: Tensor) -> list[Logits]:
        """The shifted logits of each row of int64 `[b, s]`; see `Head.rows`."""
        parts = (head.rows(batch) for head in (self.base, *self.small))
        return [functools.partial(self._shifted, *row) for row in zip(*parts, strict=True)]

    def _shifted(self, base: Logits, expert: Logits, anti_expert: Logits, first: int, last: int) -> Tensor:
        return self.experts.shift_(base(first, last), expert(first, last), anti_expert(first, last))


def _shared_columns(tokenizer: Any, *models: Any) -> int:
    widths = [int(model.get_output_embeddings().weight.shape[0]) for model in models]
    return min(int(max(tokenizer.get_vocab().values())) + 1, *widths)


def _load(kind: Any, name: str, path: str, **arguments: Any) -> Any:
    try:
        return kind.from_pretrained(path, trust_remote_code=False, **arguments)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}={path}: cannot be loaded ({error}). Expected a folder or hub name of a model that transformers "
            f"{transformers.__version__} knows, with its tokenizer and safetensors weights."
        ) from error


def _require_equal_vocabularies(base: Any, others: Mapping[str, Any]) -> None:
    """Every model must give every token the same id: scores are added column by column."""
    own = base.get_vocab()
    for name, tokenizer in others.items():
        theirs = tokenizer.get_vocab()
        if theirs == own:
            continue
        differing = sorted({*own.items()} ^ {*theirs.items()}, key=lambda item: (item[1], item[0]))
        token, _ = differing[0]
        raise UserError(
            f"{name}: its vocabulary is not the base model's ({len(theirs)} tokens against {len(own)}; {token!r} has "
            f"id {own.get(token)} in the base and {theirs.get(token)} there). Expected equal tokens with equal ids; "
            f"choose {name} from the base model's family, with the tokenizer as it was published."
        )
