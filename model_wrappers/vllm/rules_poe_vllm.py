"""`--model rules_poe_vllm`: base times rules on vLLM's engine, through lm-eval's own vLLM model."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from tqdm import tqdm

from implicit_if.harness.errors import UserError

try:
    from lm_eval.models.vllm_causallms import VLLM
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "vllm":
        raise
    raise UserError(
        'rules_poe_vllm: vLLM is not installed. Install the extra `vllm` from a clone: pip install ".[vllm]"'
    ) from error

import transformers
import vllm

from implicit_if.harness.generation import Generation
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.outputs import FinishReason
from implicit_if.model_wrappers.arguments import check_command_line, read_generation
from implicit_if.model_wrappers.generate import after_thought
from implicit_if.model_wrappers.prompt_batches import cut_middle, place_after_cut, prompt_room
from implicit_if.model_wrappers.prompt_tokens import encode, special_tokens
from implicit_if.model_wrappers.rules.arguments import WithRules
from implicit_if.model_wrappers.rules.tokens import scope_start
from implicit_if.model_wrappers.sampling import row_seeds
from implicit_if.model_wrappers.vllm.processor import PROCESSOR
from implicit_if.model_wrappers.vllm.requests import request_arguments


@register_model("rules_poe_vllm")
class RulesPoEVLLM(WithRules, VLLM):
    """A base model on vLLM whose next-token distribution is multiplied with that of the rules.

    It generates only: vLLM gives the log-probabilities of prompts without calling logits processors.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        rules: str | None = "paper",
        drop: str | None = None,
        missing: str = "note",
        **kwargs: Any,
    ) -> None:
        """Checks the rules, then starts the engine.

        Args:
            pretrained: A local folder or a hub name.
            rules: As for `rules_poe`.
            drop: As for `rules_poe`.
            missing: As for `rules_poe`.
            **kwargs: `<rule>.<option>=value` as for `rules_poe`; everything else goes to lm-eval's `vllm` model, e.g.
                `tensor_parallel_size`, and from there to `vllm.LLM`.

        Raises:
            UserError: On any fault in the arguments, before the engine starts.
        """
        if not isinstance(pretrained, str) or not pretrained:
            raise UserError(
                f"pretrained={pretrained}: expected a folder or a hub name; the embedded model is rules_poe's."
            )
        if kwargs.get("speculative_config"):
            raise UserError("speculative_config: rules and speculative decoding do not go together; leave it out.")
        if (side := kwargs.pop("truncation_side", "middle")) != "middle":
            raise UserError(f"truncation_side={side}: expected 'middle', as rules_poe cuts prompts.")
        check_command_line()
        self.read_rules(rules, drop, missing, kwargs)
        given = kwargs.pop("logits_processors", None) or []
        settings = {"max_gen_toks": 512, "revision": None} | kwargs
        super().__init__(pretrained, logits_processors=[*given, PROCESSOR], **settings)
        self.base_identity = model_fingerprint(
            pretrained, getattr(self._config, "_commit_hash", None), engine=f"vllm {vllm.__version__}", **settings
        )
        ends = getattr(_generation_config(pretrained, settings["revision"]), "eos_token_id", None)
        found: list[int | None] = [*(ends if isinstance(ends, list) else [ends]), self.eot_token_id]
        self.eos_ids = sorted({i for i in found if i is not None})
        self.rules = self.bind(self.preset)

    def get_model_info(self) -> dict[str, Any]:
        """Adds vLLM's version, and the type of the weights where the engine tells it."""
        dtype = getattr(self.model.llm_engine.model_config, "dtype", None)
        told = {} if dtype is None else {"model_dtype": str(dtype).removeprefix("torch.")}
        return super().get_model_info() | {"vllm": vllm.__version__} | told

    # ------------------------------------------------------------------ generation
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers all requests in one go, as vLLM batches them itself; each answer is a `Generation`.

        Requests are `(context, gen_kwargs)`; the generation argument `rules` replaces this model's own rules.
        """
        seeds = row_seeds([request.args[0] for request in requests])
        prepared = [self._prepare(r.args[0], r.args[1], seed) for r, seed in zip(requests, seeds, strict=True)]
        outputs = self._model_generate(
            requests=[tokens for tokens, _ in prepared],
            generate=True,
            sampling_params=[params for _, params in prepared],
        )
        answers: list[str] = []
        for request, output in tqdm(
            zip(requests, outputs, strict=True), total=len(requests), disable=disable_tqdm or self.rank != 0
        ):
            answer = self._finish(output.outputs[0])
            answer.maker = self.maker(request.args[1].get("rules", ...))
            answers.append(answer)
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _prepare(self, context: str, arguments: dict[str, Any], seed: int | None = None) -> tuple[list[int], Any]:
        """The prompt's tokens and vLLM's sampling parameters; `seed` is for arguments that sample and have none."""
        arguments = dict(arguments)
        rules = self.bound_rules(arguments.pop("rules", ...))
        arguments = read_generation(arguments, self.max_gen_toks)
        drawn = {"seed": seed} if arguments.get("do_sample") else {}
        sampling, until, new = self.modify_gen_kwargs(arguments, default_max_gen_toks=self.max_gen_toks)
        special = special_tokens(self.tokenizer, context, self.add_bos_token)
        whole, _ = encode(self.tokenizer, context, special)
        tokens = cut_middle(whole, prompt_room(self.max_length, new))
        scope = 0
        if rules.prompt_after is not None:
            start, _ = scope_start(self.tokenizer, context, rules.prompt_after, special)
            scope = place_after_cut(start, len(whole), len(tokens))
        params = vllm.SamplingParams(
            max_tokens=new,
            stop=[text for text in until if text],
            extra_args=request_arguments(rules, scope) or None,
            **(drawn | sampling | {"skip_special_tokens": True}),
        )
        return tokens, params

    def _finish(self, completion: Any) -> Generation:
        """Raises RuntimeError for a request that vLLM gave up."""
        ids = list(completion.token_ids)
        reason: FinishReason = "length"
        if completion.finish_reason == "stop":  # by the tokenizer's EOS (None), another token's id, or a text
            reason = "eos" if completion.stop_reason in (None, *self.eos_ids) else "stop"
        elif completion.finish_reason != "length":
            raise RuntimeError(f"vLLM ended a request with {completion.finish_reason!r}; see its log above.")
        ended = bool(ids) and ids[-1] in self.eos_ids
        text = completion.text
        if self.think_end_token:
            answer = after_thought(text, str(self.think_end_token))
            text = ("" if reason == "length" else text) if answer is None else answer
        return Generation.of(text, reason, len(ids) - ended)

    # ------------------------------------------------------------------ likelihood
    def _refuse(self) -> None:
        if self.rules:
            raise UserError(
                "rules_poe_vllm scores no texts: vLLM computes prompt log-probabilities without logits processors, so "
                "they would be the plain base model's. Use --model rules_poe, which scores exactly, or rules=none."
            )

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Only without rules.

        Raises:
            UserError: Under rules.
        """
        self._refuse()
        return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Only without rules.

        Raises:
            UserError: Under rules.
        """
        self._refuse()
        return list(super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm))


def _generation_config(pretrained: str, revision: str | None) -> transformers.GenerationConfig | None:
    """The model's, from which vLLM takes further tokens that end an answer; None if it has none."""
    try:
        return transformers.GenerationConfig.from_pretrained(pretrained, revision=revision or "main")
    except OSError:
        return None
