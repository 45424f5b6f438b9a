"""The rules inside vLLM's engine: one logits processor for both of vLLM's interfaces.

vLLM loads `PROCESSOR` in each of its worker processes and calls it with the scores of all running requests. A request
brings its rules with it, in `SamplingParams.extra_args` (see `vllm_requests.py`); one without them is left alone.
Which tokens a request has used is read from vLLM's own records, so preemption and resumption need no care.

The legacy runner (`vllm.v1.sample.logits_processor`, from vLLM 0.11) tells of changes to a batch whose rows move
(`_MovingRows`); the default runner since 0.32 (`vllm.v1.worker.gpu.sample.logits_processor`) gives every request a slot
that stays (`_Slots`). Under tensor parallelism every worker that samples sees whole rows and the same requests, so
all of them add the same. Speculative decoding is refused: its rows are no requests.

Shapes: `b` rows of scores, `r` rows that share rules, `n` tokens, `v` vocabulary.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_if.model_wrappers.rules.product import BoundRules
from implicit_if.model_wrappers.rules.rules import Step
from implicit_if.model_wrappers.vllm.requests import Arguments, read_rules

PROCESSOR = "implicit_if.model_wrappers.vllm.processor:RulesLogitsProcessor"
"""What `LLM(logits_processors=[...])` is given."""

INTERFACES = ("vllm.v1.sample.logits_processor", "vllm.v1.worker.gpu.sample.logits_processor")


# ---------------------------------------------------------------------- one step
@dataclass(frozen=True)
class RowGroup:
    """The rows of a step that share rules.

    Attributes:
        rules: As text, see `read_rules`.
        rows: int `[r]`, where they stand in the scores.
        tokens: int64 `[r, n]`, on the scores' device; may hold anything outside the ranges below.
        scope_start: int64 `[r]`, the first column that counts as used under rules that look at the prompt.
        response_start: int64 `[r]`, where each row's response begins.
        end: int64 `[r]`, where it ends by now.
    """

    rules: str
    rows: np.ndarray[Any, np.dtype[np.int64]]
    tokens: Tensor
    scope_start: Tensor
    response_start: Tensor
    end: Tensor

    def step(self, rules: BoundRules) -> Step:
        """What the rules look at."""
        column = torch.arange(self.tokens.shape[1], device=self.tokens.device)[None, :]
        there = column < self.end[:, None]
        response = there & (column >= self.response_start[:, None])
        history = None if rules.prompt_after is None else there & (column >= self.scope_start[:, None])
        tokens = self.tokens.masked_fill(~(response if history is None else history | response), 0)
        return Step(
            index=self.end - self.response_start,  # below 0 while a prompt is read in parts, for scores nobody uses
            eos_ids=rules.eos_ids,
            response=tokens,
            response_mask=response,
            history=None if history is None else tokens,
            history_mask=history,
        )


class _MovingRows:
    """The legacy runner's batch: requests come, go, and change rows."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._requests: dict[int, _Request] = {}

    def update(self, change: Any) -> None:
        """Follows a `BatchUpdate`: removed, added, moved, in this order, as vLLM documents it."""
        for row in change.removed:
            self._requests.pop(row, None)
        for row, sampling_params, prompt, output in change.added:
            self._requests.pop(row, None)  # an added request may take the row of one that ended
            arguments = Arguments.of(sampling_params)
            if arguments is not None:
                self._requests[row] = _Request(arguments, prompt or [], output)
        for source, target, direction in change.moved:
            moved, replaced = self._requests.pop(source, None), self._requests.pop(target, None)
            if moved is not None:
                self._requests[target] = moved
            if replaced is not None and direction.name == "SWAP":
                self._requests[source] = replaced

    def groups(self) -> Iterator[RowGroup]:
        """The requests with rules, by rules."""
        by_rules: dict[str, list[int]] = {}
        for row in sorted(self._requests):
            by_rules.setdefault(self._requests[row].arguments.rules, []).append(row)
        for rules, rows in by_rules.items():
            known = [self._requests[row].read() for row in rows]
            tokens = np.zeros((len(rows), max(map(len, known))), dtype=np.int64)
            for line, found in zip(tokens, known, strict=True):
                line[: len(found)] = found
            starts = [self._requests[row].prompt_tokens for row in rows]
            scope, response, end = _on(self.device, [[0] * len(rows), starts, [len(found) for found in known]])
            yield RowGroup(rules, np.array(rows), _on(self.device, tokens), scope, response, end)


class _Request:
    """A request of the legacy runner: its prompt's tokens that may count, and its output, a list that vLLM extends."""

    def __init__(self, arguments: Arguments, prompt: list[int], output: list[int]) -> None:
        self.arguments = arguments
        scope = [] if arguments.scope_start is None else prompt[arguments.scope_start :]
        self.prompt_tokens = len(scope)
        self._output = output
        self._tokens = np.array(scope, dtype=np.int64)
        self._length = len(scope)

    def read(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """All tokens by now; only new ones are copied.

        Raises:
            RuntimeError: If vLLM has not filled in a token that it sampled in the step before.
        """
        self._length = min(self._length, self.prompt_tokens + len(self._output))  # vLLM may take tokens back
        fresh = self._output[self._length - self.prompt_tokens :]
        if any(token < 0 for token in fresh):
            raise RuntimeError(
                "vLLM gave a placeholder for a sampled token; set async_scheduling=False in --model_args."
            )
        if self._length + len(fresh) > len(self._tokens):
            room = np.empty(2 * (self._length + len(fresh)) + 64, dtype=np.int64)
            room[: self._length] = self._tokens[: self._length]
            self._tokens = room
        self._tokens[self._length : self._length + len(fresh)] = fresh
        self._length += len(fresh)
        return self._tokens[: self._length]


class _Slots:
    """The default runner's requests: each has a slot of vLLM's token table on the device for as long as it runs."""

    def __init__(self, states: Any) -> None:
        self._states = states
        self._requests: dict[int, Arguments] = {}

    def add(self, slot: int, sampling_params: Any) -> bool:
        """Takes note of a request that is new or resumed; whether it has rules."""
        arguments = Arguments.of(sampling_params)
        self._requests.pop(slot, None)  # slots are used again
        if arguments is not None:
            self._requests[slot] = arguments
        return arguments is not None

    def groups(self, context: Any) -> Iterator[RowGroup]:
        """The rows of this step's requests with rules, by rules."""
        by_rules: dict[str, list[int]] = {}
        slots = np.asarray(context.idx_mapping_np, dtype=np.int64)
        if len(slots) != len(context.pos):
            raise RuntimeError(f"vLLM gave {len(context.pos)} rows for {len(slots)} requests, expected one each.")
        for row, slot in enumerate(slots.tolist()):
            if slot in self._requests:
                by_rules.setdefault(self._requests[slot].rules, []).append(row)
        longest = int(np.max(context.seq_lens_upper_bound_np, initial=0))  # on the host: nothing waits for the device
        for rules, rows in by_rules.items():
            yield self._group(rules, np.array(rows), slots[rows], longest, context.pos)

    def _group(
        self, rules: str, rows: np.ndarray[Any, Any], slots: np.ndarray[Any, Any], longest: int, positions: Tensor
    ) -> RowGroup:
        prompts = self._states.prompt_len.np[slots].astype(np.int64)
        starts = [self._requests[slot].scope_start for slot in slots.tolist()]
        scopes = np.array([prompt if start is None else start for start, prompt in zip(starts, prompts, strict=True)])
        first = int(min(prompts.min(), scopes.min()))
        lines, row, scope, response = _on(positions.device, np.stack([slots, rows, scopes - first, prompts - first]))
        tokens = self._states.all_token_ids.gpu[lines, first:longest].long()
        end = positions[row].long() + 1 - first  # a row's position is that of the token before the new one
        return RowGroup(rules, rows, tokens, scope, response, end)


def _on(device: torch.device, values: Any) -> Tensor:
    tensor = torch.from_numpy(np.asarray(values, dtype=np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


# ---------------------------------------------------------------------- the processor
def _interfaces() -> Iterable[type]:
    """The base classes of the vLLM that is installed; none without vLLM."""
    for name in INTERFACES:
        try:
            yield importlib.import_module(name).LogitsProcessor
        except ModuleNotFoundError:
            continue


class RulesLogitsProcessor(*_interfaces()):  # type: ignore[misc]
    """Adds each request's rules to its row of scores; an instance serves the interface it is constructed by."""

    def __init__(self, vllm_config: Any, device_or_states: Any, is_pin_memory: bool = False) -> None:
        """Called by vLLM.

        Args:
            vllm_config: The engine's configuration.
            device_or_states: A device from the legacy runner, the table of requests from the default one.
            is_pin_memory: From the legacy runner only.

        Raises:
            ValueError: Under speculative decoding.
        """
        if getattr(vllm_config, "speculative_config", None) is not None:
            raise ValueError("rules_poe_vllm: not possible with speculative decoding; leave speculative_config out.")
        slots = hasattr(device_or_states, "all_token_ids")
        self.device = torch.device(device_or_states.device if slots else device_or_states)
        self._slots = _Slots(device_or_states) if slots else None
        self._moving = _MovingRows(self.device)
        self._on_device: dict[str, BoundRules] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Called by vLLM when a request arrives.

        Raises:
            ValueError: If the request's rules cannot be read.
        """
        arguments = Arguments.of(sampling_params)
        if arguments is not None:
            read_rules(arguments.rules)

    def is_argmax_invariant(self) -> bool:
        """False: rules change the likeliest token, so vLLM must not skip them under greedy decoding."""
        return False

    def needs_output_token_ids(self) -> bool:
        """True: vLLM must fill in sampled tokens before it calls `apply`."""
        return True

    def update_state(self, batch_update: Any) -> None:
        """Called by the legacy runner before each step."""
        if batch_update is not None:
            self._moving.update(batch_update)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Called by the default runner when a request enters the batch, also after preemption."""
        assert self._slots is not None
        return self._slots.add(req_idx, sampling_params)

    def apply(self, logits: Tensor, context: Any = None) -> Tensor:
        """Called by vLLM with `logits [b, v]`; changes them in place where they are float32."""
        for group in self._moving.groups() if self._slots is None else self._slots.groups(context):
            if logits.dtype not in (torch.float32, torch.float64):
                logits = logits.float()
            self._add(group, logits)
        return logits

    def _add(self, group: RowGroup, logits: Tensor) -> None:
        rules = self._on_device.get(group.rules)
        if rules is None:
            rules = self._on_device[group.rules] = read_rules(group.rules).to(logits.device)
        step = group.step(rules)
        if len(group.rows) == len(logits) and np.array_equal(group.rows, np.arange(len(logits))):
            rules.apply_(logits, step)
            return
        rows = _on(logits.device, group.rows)
        part = logits[rows]
        rules.apply_(part, step)
        logits[rows] = part
