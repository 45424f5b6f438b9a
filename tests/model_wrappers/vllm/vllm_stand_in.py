"""A stand-in for vLLM: its two logits-processor interfaces, and engines that drive a processor through them.

Written from vLLM's documentation (design/logits_processors, features/custom_logitsprocs; 0.11 to 0.33). The engines
keep what is awkward about the real ones: rows that move, swap and are reused, requests that are preempted and resumed,
sampled tokens that are filled in late (asynchronous scheduling), a token table with leftovers of earlier requests.
"""

from __future__ import annotations

import importlib
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor


# ---------------------------------------------------------------------- vllm.v1.sample.logits_processor
class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    batch_size: int
    removed: list[int]
    added: list[tuple[int, Any, list[int] | None, list[int]]]
    moved: list[tuple[int, int, MoveDirectionality]]


class LegacyLogitsProcessor(ABC):
    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        return None

    @abstractmethod
    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None: ...

    @abstractmethod
    def apply(self, logits: Tensor) -> Tensor: ...

    @abstractmethod
    def is_argmax_invariant(self) -> bool: ...

    @abstractmethod
    def update_state(self, batch_update: BatchUpdate | None) -> None: ...


# ---------------------------------------------------------------------- vllm.v1.worker.gpu.sample.logits_processor
@dataclass(frozen=True)
class LogitsContext:
    expanded_idx_mapping: Tensor
    idx_mapping: Tensor
    idx_mapping_np: np.ndarray[Any, Any]
    expanded_local_pos: Tensor
    input_ids: Tensor
    pos: Tensor
    seq_lens_upper_bound_np: np.ndarray[Any, Any]


class LogitsProcessor(ABC):
    def __init__(self, vllm_config: Any, req_states: Any) -> None:  # noqa: B027
        pass

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        return None

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        return True

    def apply_staged_writes(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor: ...


# ---------------------------------------------------------------------- requests and engines
@dataclass
class SamplingParams:
    max_tokens: int = 16
    stop: list[str] = field(default_factory=list)
    extra_args: dict[str, Any] | None = None
    temperature: float = 1.0
    seed: int | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


@dataclass(eq=False)
class Request:
    number: int
    prompt: list[int]
    params: SamplingParams
    output: list[int] = field(default_factory=list)
    late: int | None = None
    """A sampled token that is not in `output` yet: there stands -1."""
    finish_reason: str | None = None
    stop_reason: Any = None

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.output]


Scores = Callable[[Request], Tensor]
Finish = Callable[[Request], None]
"""Sets `finish_reason` of a request that has ended."""


class Engine:
    """Runs requests in a batch of at most `rows`; preempts some of them now and then."""

    preemption = 0.0

    def __init__(self, processor: type, rows: int, seed: int = 0, speculative_config: Any = None) -> None:
        self.rows = rows
        self.dice = random.Random(seed)
        self.config = SimpleNamespace(speculative_config=speculative_config)
        self.steps = 0

    def run(self, requests: list[Request], scores: Scores, finish: Finish) -> None:
        waiting, running = list(requests), list[Request]()
        while waiting or running:
            leaving = [r for r in running if r.finish_reason]
            running = [r for r in running if r not in leaving]
            evicted = [r for r in running[1:] if self.dice.random() < self.preemption]
            running = [r for r in running if r not in evicted]
            entering = waiting[: self.dice.randint(0 if running else 1, self.rows - len(running))] if waiting else []
            waiting = [*evicted, *waiting[len(entering) :]]
            running += entering
            if not running:
                continue
            self.steps += 1
            for request, row in self.step([*leaving, *evicted], entering, scores):
                self.sampled(request, int(row.argmax()))
                finish(request)

    def step(self, leaving: list[Request], entering: list[Request], scores: Scores) -> list[tuple[Request, Tensor]]:
        raise NotImplementedError

    def sampled(self, request: Request, token: int) -> None:
        request.output.append(token)


class LegacyEngine(Engine):
    """A batch whose rows move: the contract of `BatchUpdate`."""

    asynchronous = False
    repairs = True

    def __init__(self, processor: type, rows: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(processor, rows, seed, **kwargs)
        assert issubclass(processor, LegacyLogitsProcessor)
        self.processor = processor(self.config, torch.device("cpu"), False)
        assert not self.processor.is_argmax_invariant()
        self.batch: list[Request | None] = []

    def step(self, leaving: list[Request], entering: list[Request], scores: Scores) -> list[tuple[Request, Tensor]]:
        self.processor.update_state(self._change(leaving, entering))
        requests = [r for r in self.batch if r is not None]
        logits = torch.stack([scores(self._complete(r)) for r in requests])
        if self.repairs:
            for request in requests:
                self._repair(request)
        return list(zip(requests, self.processor.apply(logits), strict=True))

    def _change(self, leaving: list[Request], entering: list[Request]) -> BatchUpdate | None:
        free = sorted(self.batch.index(r) for r in leaving)
        for row in free:
            self._repair(self.batch[row])
            self.batch[row] = None
        added, moved = [], []
        for request in entering:
            row = free.pop(0) if free else len(self.batch)
            self.batch[row : row + 1] = [request]
            if request.output:
                request.output = list(request.output)  # a resumed request comes with a new list
            added.append((row, request.params, request.prompt, request.output))
        removed = free[::-1]
        while free and free[0] < len(self.batch):
            while self.batch and self.batch[-1] is None:
                self.batch.pop()
            if free[0] < len(self.batch):
                moved.append((len(self.batch) - 1, free[0], MoveDirectionality.UNIDIRECTIONAL))
                self.batch[free.pop(0)] = self.batch.pop()
        for _ in range(self.dice.randint(0, 2) if len(self.batch) > 1 else 0):
            a, b = self.dice.sample(range(len(self.batch)), 2)
            self.batch[a], self.batch[b] = self.batch[b], self.batch[a]
            moved.append((a, b, MoveDirectionality.SWAP))
        if not (added or removed or moved):
            return None
        return BatchUpdate(len(self.batch), removed, added, moved)

    def sampled(self, request: Request, token: int) -> None:
        if self.asynchronous:
            request.output.append(-1)
            request.late = token
        else:
            super().sampled(request, token)

    @staticmethod
    def _repair(request: Request | None) -> None:
        if request is not None and request.late is not None:
            request.output[-1] = request.late
            request.late = None

    @staticmethod
    def _complete(request: Request) -> Request:
        known = request.output if request.late is None else [*request.output[:-1], request.late]
        return Request(request.number, request.prompt, request.params, list(known))


class SlotEngine(Engine):
    """Requests in slots of a token table; the order of rows is new at every step."""

    length = 300

    def __init__(self, processor: type, rows: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(processor, rows, seed, **kwargs)
        assert issubclass(processor, LogitsProcessor)
        table = torch.randint(0, 200, (rows, self.length), dtype=torch.int32)  # leftovers
        self.states = SimpleNamespace(
            device=torch.device("cpu"),
            max_num_reqs=rows,
            all_token_ids=SimpleNamespace(gpu=table),
            prompt_len=SimpleNamespace(np=np.zeros(rows, dtype=np.int32)),
        )
        self.processor = processor(self.config, self.states)
        self.slots: dict[Request, int] = {}
        self.free = list(range(rows))

    def step(self, leaving: list[Request], entering: list[Request], scores: Scores) -> list[tuple[Request, Tensor]]:
        self.free += [self.slots.pop(r) for r in leaving]
        for request in entering:
            slot = self.slots[request] = self.free.pop()
            self.states.prompt_len.np[slot] = len(request.prompt)
            assert self.processor.add_request(slot, request.params) == bool(request.params.extra_args)
        self.processor.apply_staged_writes()
        requests = list(self.slots)
        self.dice.shuffle(requests)
        for request in requests:
            self.states.all_token_ids.gpu[self.slots[request], : len(request.tokens)] = torch.tensor(request.tokens)
        lengths = np.array([len(r.tokens) for r in requests])
        slots = np.array([self.slots[r] for r in requests])
        context = LogitsContext(
            expanded_idx_mapping=torch.from_numpy(slots),
            idx_mapping=torch.from_numpy(slots),
            idx_mapping_np=slots,
            expanded_local_pos=torch.zeros(len(slots), dtype=torch.int32),
            input_ids=torch.tensor([r.tokens[-1] for r in requests]),
            pos=torch.from_numpy(lengths - 1),
            seq_lens_upper_bound_np=lengths,
        )
        logits = torch.stack([scores(r) for r in requests])
        return list(zip(requests, self.processor.apply(logits, context), strict=True))


# ---------------------------------------------------------------------- vllm.LLM
class LLM:
    """Greedy decoding of a model of transformers, one row at a time, in an engine of the class `LLM.engine`."""

    engine: type[Engine] = SlotEngine
    rows = 4

    def __init__(self, model: str, logits_processors: list[str], **kwargs: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.arguments = kwargs
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        (path,) = logits_processors
        module, name = path.split(":")
        self.processor = getattr(importlib.import_module(module), name)
        limit = kwargs.get("max_model_len") or self.model.config.max_position_embeddings
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=limit, dtype=torch.float32))

    def generate(self, prompts: list[Any], sampling_params: list[SamplingParams], **kwargs: Any) -> list[Any]:
        requests = [
            Request(n, list(prompt["prompt_token_ids"]), params)
            for n, (prompt, params) in enumerate(zip(prompts, sampling_params, strict=True))
        ]
        for request in requests:
            assert request.params.temperature == 0
            self.processor.validate_params(request.params)
        self.engine(self.processor, self.rows).run(requests, self._scores, self._finish)
        return [SimpleNamespace(outputs=[self._completion(request)]) for request in requests]

    @torch.no_grad()
    def _scores(self, request: Request) -> Tensor:
        scores: Tensor = self.model(torch.tensor([request.tokens])).logits[0, -1]
        return scores

    def _finish(self, request: Request) -> None:
        text = self._text(request)
        if request.output[-1] == self.tokenizer.eos_token_id:
            request.finish_reason = "stop"
        elif found := [stop for stop in request.params.stop if stop in text]:
            request.finish_reason, request.stop_reason = "stop", found[0]
        elif len(request.output) == request.params.max_tokens:
            request.finish_reason = "length"

    def _text(self, request: Request) -> str:
        return str(self.tokenizer.decode(request.output, skip_special_tokens=request.params.skip_special_tokens))

    def _completion(self, request: Request) -> Any:
        text = self._text(request)
        if isinstance(request.stop_reason, str):
            text = text[: text.index(request.stop_reason)]
        return SimpleNamespace(
            text=text,
            token_ids=tuple(request.output),
            finish_reason=request.finish_reason,
            stop_reason=request.stop_reason,
        )


def get_tokenizer(name: str, tokenizer_mode: str = "auto", **kwargs: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, **kwargs)


def modules(*, legacy: bool = True, default: bool = True) -> dict[str, ModuleType]:
    """The modules of `vllm` that lm-eval and we import, with the interfaces asked for."""
    contents: dict[str, dict[str, Any]] = {
        "vllm": {
            "__version__": "0.33.0",
            "LLM": LLM,
            "SamplingParams": SamplingParams,
            "TokensPrompt": dict,
        },
        "vllm.lora.request": {"LoRARequest": object},
        "vllm.renderers.hf": {"resolve_chat_template": lambda **kwargs: None},
        "vllm.tokenizers": {"get_tokenizer": get_tokenizer},
    }
    if legacy:
        contents["vllm.v1.sample.logits_processor"] = {
            "LogitsProcessor": LegacyLogitsProcessor,
            "BatchUpdate": BatchUpdate,
            "MoveDirectionality": MoveDirectionality,
        }
    if default:
        contents["vllm.v1.worker.gpu.sample.logits_processor"] = {
            "LogitsProcessor": LogitsProcessor,
            "LogitsContext": LogitsContext,
        }
    made = {}
    for name, values in contents.items():
        made[name] = ModuleType(name)
        made[name].__spec__ = ModuleSpec(name, None)
        made[name].__dict__.update(values)
    return made


def install(patch: Any, **interfaces: bool) -> None:
    """Puts the stand-in where `import vllm` finds it; `patch` is pytest's monkeypatch."""
    version = importlib.metadata.version
    patch.setattr(importlib.metadata, "version", lambda name: "0.33.0" if name == "vllm" else version(name))
    for name, module in modules(**interfaces).items():
        patch.setitem(sys.modules, name, module)
