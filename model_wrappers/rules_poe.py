"""`--model rules_poe`: a pretrained base model multiplied with the rules (Hewitt et al. 2024, section 5)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessorList

from implicit_if.harness.analysis.token_shift import RankedToken
from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.generate import ProcessorFactory
from implicit_if.model_wrappers.implicit_lm import ImplicitLM
from implicit_if.model_wrappers.prompt_batches import (
    Prompts,
    common_prefix,
    cut_middle,
    pieces,
    place_after_cut,
    with_response,
)
from implicit_if.model_wrappers.prompt_tokens import special_tokens
from implicit_if.model_wrappers.rules.arguments import WithRules
from implicit_if.model_wrappers.rules.likelihood import Head, Text, TextScore
from implicit_if.model_wrappers.rules.presets import Preset
from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor
from implicit_if.model_wrappers.rules.shared_prefix import score_all
from implicit_if.model_wrappers.rules.token_ranks import moves, ranks_under
from implicit_if.model_wrappers.rules.tokens import leading_special, scope_start


@register_model("rules_poe")
class RulesPoE(WithRules, ImplicitLM):
    """A base model whose next-token distribution is multiplied with that of the rules."""

    def __init__(
        self,
        pretrained: Any = None,
        rules: str | None = "paper",
        drop: str | None = None,
        missing: str = "note",
        **kwargs: Any,
    ) -> None:
        """Checks the rules, then loads the model.

        Args:
            pretrained: See `ImplicitLM`; None is the embedded base model.
            rules: A preset's name, the path of a YAML file, or None ("none" on the command line): no rules.
            drop: Rules to leave out, joined by "+", e.g. "eos+diversity".
            missing: What to do with a rule's string that is no single token: "note" leaves it out and says so, and is
                an error where nothing of a rule is left; "error" is one at once, "ignore" never.
            **kwargs: `<rule>.<option>=value` changes one option or one string's weight, e.g. `eos.maximum=10` or
                `uniform.!=0`; everything else goes to `ImplicitLM`.

        Raises:
            UserError: On any fault in the rules, before the model is loaded.
        """
        self.read_rules(rules, drop, missing, kwargs)
        super().__init__(pretrained, **kwargs)
        self.rules = self.bind(self.preset)

    @property
    def head_width(self) -> int | None:
        """Rows of the output head."""
        head = self.model.get_output_embeddings()
        return None if head is None else int(head.weight.shape[0])

    def bind(self, preset: Preset) -> BoundRules:
        """The preset's rules with the ids of this model's tokenizer, on its device."""
        return super().bind(preset).to(self.device)

    def is_plain(self, rules: Any) -> bool:
        """Whether no rule is left."""
        return not self.bound_rules(rules)

    def processors_for(self, rules: Any, contexts: list[str], prompts: Prompts) -> ProcessorFactory | None:
        """The rules' processor for the rows that are still growing."""
        bound = self.bound_rules(rules)
        if not bound:
            return None
        scope = self._scope_starts(bound.prompt_after, contexts, prompts) if bound.prompt_after else None
        return lambda width, rows: LogitsProcessorList(
            [RulesProcessor(bound, width, None if scope is None else scope[rows])]
        )

    def _scope_starts(self, marker: str, contexts: list[str], prompts: Prompts) -> Tensor:
        """First column of each row's prompt that counts as used; see `scope_start`."""
        width = prompts.ids.shape[1]
        starts = []
        for context, kept in zip(contexts, prompts.mask.sum(1).tolist(), strict=True):
            special = special_tokens(self.tokenizer, context, self.add_bos_token)
            start, tokens = scope_start(self.tokenizer, context, marker, special)
            starts.append(width - kept + place_after_cut(start, tokens, kept))
        return torch.tensor(starts, device=prompts.ids.device)

    # ------------------------------------------------------------------ likelihood
    @functools.cached_property
    def _head(self) -> Head:
        return Head(self.model)

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Exact log-likelihood of each continuation as a response under base times rules, and whether it is greedy.

        lm-eval's own method is not used: it shares logits between requests that split a text differently, and under
        rules the split decides where the response begins.
        """
        texts = []
        for key, context, continuation in requests:
            room = self.max_length + 1 - len(continuation)  # the last token of a text is scored, not read
            if room < 1:
                raise UserError(
                    f"a continuation has {len(continuation)} tokens, and the model holds {self.max_length}. Expected a "
                    f"shorter one; loglikelihood_rolling scores texts of any length."
                )
            shown = cut_middle(context, room)
            texts.append(
                Text(shown, continuation, prompt_scope=self._prompt_scope(key[0] if key else None, context, shown))
            )
        scores = self._score(texts, disable_tqdm, override_bs)
        answers = [(score.log_prob, score.greedy) for score in scores]
        for (key, _, _), answer in zip(requests, answers, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return answers

    def log_probs(self, prompt: str, responses: Sequence[str]) -> list[float]:
        """Exact log p(response | prompt) of each response, summed over its tokens; the prompt is read once.

        A response is tokenized with its prompt, as it would stand in a text; its tokens are those that the prompt
        alone does not have.

        Raises:
            UserError: If prompt and response are too long for the model.
        """
        alone = self.encode(prompt)
        texts = []
        for response in responses:
            whole = self.encode(with_response(prompt, response))
            shared = common_prefix(alone, whole)
            if shared == 0 or len(whole) > self.max_length:
                raise UserError(
                    f"a prompt and its response have {len(whole)} tokens, {shared} of the prompt's own. Expected at "
                    f"most {self.max_length}, and one before the response: shorten the text {prompt!r:.60}."
                )
            texts.append(Text(whole[:shared], whole[shared:], prompt_scope=self._prompt_scope(prompt, alone)))
        return [score.log_prob for score in self._score(texts, disable_tqdm=True)]

    def rank_tokens(
        self, prompt: str, answer: str, *, ended: bool, token_ids: Sequence[int] | None = None, rules: Any = None
    ) -> tuple[tuple[RankedToken, ...], RankedToken | None, bool]:
        """Ranks an answer's tokens under the model without rules.

        Args:
            prompt: The whole prompt.
            answer: What was answered; may be empty.
            ended: Whether end-of-sequence followed.
            token_ids: The answer's tokens; None tokenizes it again, with its prompt.
            rules: Rules that made the answer, as a request names them; None for none.

        Returns:
            The tokens, the end, and whether the tokens spell the answer exactly.

        Raises:
            UserError: If prompt and answer are too long for the model.
        """
        context = self.encode(prompt)
        if token_ids is None:
            whole = self.encode(with_response(prompt, answer))
            shared = common_prefix(context, whole)
            ids, context = whole[shared:], whole[:shared]
        else:
            ids = list(token_ids)
        both = [*ids, self.tokenizer.eos_token_id] if ended else ids
        if len(context) + len(both) > self.max_length or not context:
            raise UserError(
                f"a prompt and its answer have {len(context) + len(both)} tokens, at most {self.max_length}."
            )
        if not both:
            return (), None, True
        ranks, first = ranks_under(self._head, context, both)
        bound = self.bound_rules(rules)
        scope = torch.tensor(self._prompt_scope(prompt, context, rules=bound), dtype=torch.long, device=first.device)
        answered = torch.tensor(both, device=first.device)
        moved = (
            {name: values.tolist() for name, values in moves(bound, answered, first, scope).items()} if bound else {}
        )
        texts = pieces(self.tokenizer, ids)
        tokens = [
            RankedToken(text, int(rank), self.tokenizer.decode([int(best)]), {k: v[i] for k, v in moved.items()})
            for i, (text, rank, best) in enumerate(
                zip([*texts, self.tokenizer.eos_token], ranks.tolist(), first.tolist(), strict=False)
            )
        ]
        end = tokens.pop() if ended else None
        return tuple(tokens), end, "".join(texts) == answer

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Exact log-likelihood of whole texts, each a response to nothing; index and used tokens span the windows."""
        texts, owners = [], []
        for owner, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            windows = get_rolling_token_windows(
                token_list=tokens, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            done = 0
            for context, continuation in map(make_disjoint_window, windows):
                texts.append(Text(context, continuation, past=tokens[:done]))
                owners.append(owner)
                done += len(continuation)
        totals = [0.0] * len(requests)
        for owner, score in zip(owners, self._score(texts, disable_tqdm), strict=True):
            totals[owner] += score.log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _score(self, texts: list[Text], disable_tqdm: bool, batch_size: int | None = None) -> list[TextScore]:
        size = batch_size or self.batch_size
        if size == "auto":
            size = self._detect_batch_size([(None, t.context, t.continuation) for t in texts], 0) if texts else 1
        scores: dict[int, TextScore] = {}
        mixed = torch.autocast(self.device.type, self.mixed_precision_dtype, enabled=bool(self.mixed_precision_dtype))
        with mixed, tqdm(total=len(texts), desc="scoring", disable=disable_tqdm or self.rank != 0) as bar:
            for i, score in score_all(
                self._head,
                self.rules,
                texts,
                max_length=self.max_length,
                batch_size=int(size) if self._head.splits else 1,
                pad_id=int(self.eos_ids[0]),
                on_done=bar.update,
            ):
                scores[i] = score
        return [scores[i] for i in range(len(texts))]

    def _prompt_scope(
        self, context: str | None, ids: list[int], shown: list[int] | None = None, rules: BoundRules | None = None
    ) -> list[int]:
        """The tokens of a context that count as used, of those that are `shown` after a cut; see `scope_start`."""
        marker = (self.rules if rules is None else rules).prompt_after
        if marker is None:
            return []
        shown = ids if shown is None else shown
        if context is None:
            start = leading_special(self.tokenizer, ids)
        else:
            special = special_tokens(self.tokenizer, context, self.add_bos_token)
            start, _ = scope_start(self.tokenizer, context, marker, special)
        return shown[place_after_cut(start, len(ids), len(shown)) :]
