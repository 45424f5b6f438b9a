"""What a request to vLLM carries, so that the processor in vLLM's workers knows its rules; needs no vLLM."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from implicit_if.model_wrappers.rules.presets import Preset
from implicit_if.model_wrappers.rules.product import BoundRules
from implicit_if.model_wrappers.rules.rules import RULES, TokenWeights

RULES_ARGUMENT = "implicit_if_rules"
SCOPE_ARGUMENT = "implicit_if_scope"


def request_arguments(rules: BoundRules, scope_start: int) -> dict[str, Any]:
    """The `extra_args` of a request; they cross process borders, so they are text and numbers.

    Args:
        rules: The request's rules; without any, the request needs no arguments.
        scope_start: The first token of the prompt that counts as used, for rules that look at the prompt.
    """
    if not rules:
        return {}
    calls = [[function, {k: _plain(v) for k, v in options.items()}] for function, options in rules.calls]
    text = json.dumps({"eos": rules.eos_ids.tolist(), "calls": calls}, sort_keys=True)
    scope = {} if rules.prompt_after is None else {SCOPE_ARGUMENT: int(scope_start)}
    return {RULES_ARGUMENT: text, **scope}


def _plain(value: Any) -> Any:
    if isinstance(value, TokenWeights):
        return {"ids": value.ids.tolist(), "weights": value.weights.tolist()}
    return value


@functools.lru_cache(maxsize=64)
def read_rules(text: str) -> BoundRules:
    """The rules a request carries, on the CPU; the same object for the same text.

    Raises:
        ValueError: If the text is not what `request_arguments` writes.
    """
    try:
        data = json.loads(text)
        calls = tuple(
            (str(function), {k: _option(v) for k, v in options.items()}) for function, options in data["calls"]
        )
        eos = torch.tensor(data["eos"], dtype=torch.long)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{RULES_ARGUMENT}: not rules ({error!r}); it is written by --model rules_poe_vllm."
        ) from error
    if unknown := {function for function, _ in calls} - RULES.keys():
        raise ValueError(f"{RULES_ARGUMENT}: unknown rules {sorted(unknown)}; expected some of {sorted(RULES)}.")
    return BoundRules(Preset("request", "", ()), eos, calls)


def _option(value: Any) -> Any:
    if isinstance(value, dict):
        return TokenWeights(
            torch.tensor(value["ids"], dtype=torch.long), torch.tensor(value["weights"], dtype=torch.float32)
        )
    return value


@dataclass(frozen=True)
class Arguments:
    """What `request_arguments` wrote.

    Attributes:
        rules: Text for `read_rules`.
        scope_start: The first token of the prompt that counts as used; None if the rules look at no prompt.
    """

    rules: str
    scope_start: int | None

    @classmethod
    def of(cls, sampling_params: Any) -> Arguments | None:
        """The arguments in vLLM's `SamplingParams`, or None for a request without rules."""
        extra: Mapping[str, Any] = getattr(sampling_params, "extra_args", None) or {}
        if RULES_ARGUMENT not in extra:
            return None
        return cls(extra[RULES_ARGUMENT], extra.get(SCOPE_ARGUMENT))
