"""The product of a base model and rules: as a logits processor for decoding, and as an exact likelihood.

Shapes: `b` rows, `s` sequence, `t` scored positions, `v` vocabulary, `u` ids that some rule may touch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules.presets import Preset
from implicit_if.model_wrappers.rules.rules import RULES, Step, TokenWeights
from implicit_if.model_wrappers.rules.tokens import resolve_strings


@dataclass(frozen=True)
class BoundRules:
    """A preset whose strings are token ids of one tokenizer, on one device.

    Attributes:
        preset: Where the rules came from.
        eos_ids: int64 `[k]`, unique.
        calls: Function name and options of each rule; `TokenWeights` options hold ids.
        missing: Strings without a token, left out because the user asked for it.
    """

    preset: Preset
    eos_ids: Tensor
    calls: tuple[tuple[str, dict[str, Any]], ...]
    missing: tuple[str, ...] = ()

    @classmethod
    def bind(
        cls,
        preset: Preset,
        tokenizer: Any,
        eos_ids: Iterable[int],
        *,
        missing: str = "error",
        width: int | None = None,
    ) -> BoundRules:
        """Resolves the preset's strings.

        Args:
            preset: Rules with strings.
            tokenizer: A Hugging Face tokenizer.
            eos_ids: Every id that ends a response.
            missing: A string that is no single token is left out ("note", "ignore") or an error ("error"); under
                "note", a rule whose strings are all missing is one.
            width: Tokens that the model's head predicts, where they are fewer than the tokenizer's.

        Raises:
            UserError: See `missing`; or if two rules disagree on where a prompt's scope begins.
        """
        absent: list[str] = []
        calls = []
        for rule in preset.rules:
            options = dict(rule.options)
            for key, value in options.items():
                if isinstance(value, tuple):
                    strings = [s for s, _ in value]
                    ids = resolve_strings(tokenizer, strings, ignore_missing=missing != "error", width=width)
                    if missing == "note" and strings and not any(ids.values()):
                        raise UserError(
                            f"rules: none of the strings of {rule.name!r} is a single token of this tokenizer "
                            f"({', '.join(map(repr, strings))}). Leave the rule out (drop={rule.name}), change it in a "
                            f"preset of your own, or pass missing=ignore."
                        )
                    absent += [s for s, found in ids.items() if not found]
                    options[key] = _token_weights({i: weight for s, weight in value for i in ids[s]})
            calls.append((rule.function, options))
        eos = torch.tensor(sorted(set(eos_ids)), dtype=torch.long)
        markers = {_prompt_after(*call) for call in calls} - {None}
        if len(markers) > 1:
            shown = ", ".join(map(repr, sorted(map(str, markers))))
            raise UserError(f"rules={preset.name}: found the prompt_after texts {shown}. Expected one for all rules.")
        return cls(preset, eos, tuple(calls), tuple(absent))

    def __bool__(self) -> bool:
        return bool(self.calls)

    @property
    def prompt_after(self) -> str | None:
        """Where the prompt's scope begins, if some rule looks at the prompt; see `used_token_penalty`."""
        return next((marker for call in self.calls if (marker := _prompt_after(*call)) is not None), None)

    def apply_(self, scores: Tensor, step: Step) -> None:
        """Adds every rule to float32 or float64 `scores [b, v]` in place; nothing of their size is allocated."""
        for function, options in self.calls:
            RULES[function](scores, step, **options)

    def to(self, device: torch.device | str) -> BoundRules:
        """The same rules with their ids on `device`."""
        return self._map(lambda ids: ids.to(device), lambda weights: weights.to(device))

    def touched(self, used: Tensor) -> Tensor:
        """Sorted unique ids int64 `[u]` whose scores the rules may change, given all ids that may be `used`."""
        ids = [self.eos_ids, used.flatten()]
        ids += [value.ids for _, options in self.calls for value in options.values() if isinstance(value, TokenWeights)]
        unique: Tensor = torch.unique(torch.cat(ids))
        return unique

    def compact(self, ids: Tensor) -> BoundRules:
        """The same rules over the little vocabulary `ids [u]` (sorted), whose columns are counted from 0."""
        return self._map(lambda own: torch.searchsorted(ids, own), lambda weights: weights)

    def _map(self, on_ids: Callable[[Tensor], Tensor], on_weights: Callable[[Tensor], Tensor]) -> BoundRules:
        calls = tuple(
            (
                function,
                {
                    key: TokenWeights(on_ids(value.ids), on_weights(value.weights))
                    if isinstance(value, TokenWeights)
                    else value
                    for key, value in options.items()
                },
            )
            for function, options in self.calls
        )
        return replace(self, eos_ids=on_ids(self.eos_ids), calls=calls)


def _prompt_after(function: str, options: Mapping[str, Any]) -> str | None:
    if options.get("scope") != "prompt+response":
        return None
    default = inspect.signature(RULES[function]).parameters["prompt_after"].default
    return str(options.get("prompt_after", default))


def _token_weights(by_id: dict[int, float]) -> TokenWeights:
    ids = sorted(by_id)
    return TokenWeights(torch.tensor(ids, dtype=torch.long), torch.tensor([by_id[i] for i in ids], dtype=torch.float32))


class RulesProcessor(LogitsProcessor):
    """Turns the base model's scores into the product's during `generate`: greedy, sampling and beams.

    It keeps no state, so reordered rows need no care, and it changes the scores in place.
    """

    supports_continuous_batching = False

    def __init__(self, rules: BoundRules, response_start: int, scope_start: Tensor | None = None) -> None:
        """Makes the processor of one left-padded batch.

        Args:
            rules: On the scores' device.
            response_start: Column of `input_ids` where every row's response begins: the padded prompt's width.
            scope_start: int64 `[b]`, first column of each row's prompt that counts as used; needed if
                `rules.prompt_after` is not None.

        Raises:
            ValueError: If the rules look at the prompt and `scope_start` is None.
        """
        if rules.prompt_after is not None and scope_start is None:
            raise ValueError("these rules count tokens of the prompt as used: scope_start is needed")
        self.rules = rules
        self.response_start = response_start
        self.scope_start = scope_start if rules.prompt_after is not None else None
        self._first = 0 if self.scope_start is None else int(self.scope_start.min())

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Adds the rules to `scores [b, v]` given `input_ids [b, s]`; scores below float32 are widened first."""
        if scores.dtype not in (torch.float32, torch.float64):
            scores = scores.float()
        self.rules.apply_(scores, self.step(input_ids))
        return scores

    def step(self, input_ids: Tensor) -> Step:
        """What the rules may look at, given `input_ids [b, s]`."""
        history = mask = None
        if self.scope_start is not None:
            # beam search repeats each prompt's row
            start = self.scope_start.repeat_interleave(input_ids.shape[0] // len(self.scope_start))
            history = input_ids[:, self._first :]
            columns = torch.arange(self._first, input_ids.shape[1], device=input_ids.device)
            mask = columns[None, :] >= start[:, None]
        return Step(
            index=input_ids.shape[1] - self.response_start,
            eos_ids=self.rules.eos_ids,
            response=input_ids[:, self.response_start :],
            history=history,
            history_mask=mask,
        )


class LogProbs(NamedTuple):
    """Scores of a response's tokens.

    Attributes:
        base: float64 `[t]`, log-probability under the base model.
        product: float64 `[t]`, log-probability under base times rules, normalised.
        greedy: bool `[t]`, whether the token is the product's argmax (the lowest id among ties).
    """

    base: Tensor
    product: Tensor
    greedy: Tensor


def response_log_probs(
    rules: BoundRules, logits: Tensor, response: Tensor, start: int = 0, prompt_scope: Tensor | None = None
) -> LogProbs:
    """Exact log-probabilities of `response[start : start + t]` by the split method.

    With U the ids that a rule may touch, only their `[t, u]` scores enter the rules; the rest of the vocabulary is one
    logsumexp, shared by base and product: log Z = logaddexp(LSE(logits outside U), LSE(logits in U + rules)), in
    float64. Nothing is subtracted, so nothing cancels, and no second `[t, v]` matrix is made.

    Args:
        rules: On the logits' device.
        logits: float32 `[t, v]` of the base model; columns of U are overwritten.
        response: int64 `[n]`, the whole response up to at least `start + t`.
        start: Response index of the first row of `logits`.
        prompt_scope: int64 `[m]`, prompt tokens that count as used under rules that look at the prompt.

    Returns:
        One value per row of `logits`.
    """
    t = logits.shape[0]
    seen = response[: start + t]
    prompt = seen[:0] if prompt_scope is None else prompt_scope
    ids = rules.touched(torch.cat([prompt, seen]))
    inside = logits[:, ids].double()
    logits.index_fill_(1, ids, float("-inf"))
    rest = logits.logsumexp(-1).double()
    moved = inside.clone()
    rules.compact(ids).apply_(moved, teacher_forced_step(rules, ids, prompt, seen, start))

    target = seen[start:]
    column = torch.searchsorted(ids, target)[:, None]
    base = torch.logaddexp(rest, inside.logsumexp(-1))
    product = torch.logaddexp(rest, moved.logsumexp(-1))
    return LogProbs(
        inside.gather(1, column)[:, 0] - base,
        moved.gather(1, column)[:, 0] - product,
        _argmax(logits, moved, ids) == target,
    )


def teacher_forced_step(rules: BoundRules, ids: Tensor, prompt: Tensor, seen: Tensor, start: int) -> Step:
    """Rows are response positions `start..`: each has used what stands before it, in columns of `ids`."""
    t = len(seen) - start
    index = torch.arange(start, start + t, device=seen.device)
    response = torch.searchsorted(ids, seen).expand(t, -1)
    before = torch.arange(len(seen), device=seen.device)[None, :] < index[:, None]
    history = torch.cat([torch.searchsorted(ids, prompt).expand(t, -1), response], dim=1)
    always = torch.ones(t, len(prompt), dtype=torch.bool, device=seen.device)
    return Step(
        index=index,
        eos_ids=torch.searchsorted(ids, rules.eos_ids),
        response=response,
        response_mask=before,
        history=history,
        history_mask=torch.cat([always, before], dim=1),
    )


def _argmax(outside: Tensor, inside: Tensor, ids: Tensor) -> Tensor:
    """The best id of each row `[t]` where a row's scores lie in two parts; the lowest id among ties."""
    outside_best, outside_id = outside.max(-1)
    inside_best, column = inside.max(-1)
    inside_id = ids[column]
    tied = torch.minimum(inside_id, outside_id)
    return torch.where(
        inside_best == outside_best, tied, torch.where(inside_best > outside_best, inside_id, outside_id)
    )
