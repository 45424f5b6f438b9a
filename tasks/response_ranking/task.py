"""The task: every response is scored after every instruction, through lm-eval's likelihood requests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from implicit_if.harness.analysis.response_pairs import ResponsePairs, load_pairs
from implicit_if.harness.analysis.response_ranking import (
    MEASURES,
    RankingScore,
    measures,
    prompt_of,
    ranking_score,
    require_instruction,
    settings_text,
)
from implicit_if.harness.chat_templates import ChatTemplate
from implicit_if.harness.cli import json_or_text
from implicit_if.harness.errors import UserError
from implicit_if.tasks.own_metrics import CI_HIGH, CI_LOW, STDERR, with_metrics

METRICS = {"response_ranking" + ("" if name == "sum" else f"_{name}"): name for name in MEASURES}
_EDGE = 1.96
ENDINGS: dict[str, Callable[[RankingScore], float]] = {
    "": lambda score: score.percent,
    STDERR: lambda score: (score.interval.high - score.interval.low) / (2 * _EDGE),
    CI_LOW: lambda score: score.interval.low,
    CI_HIGH: lambda score: score.interval.high,
}
"""What each score gives, by the end of the metric's name."""


def check(metadata: Mapping[str, Any]) -> None:
    """Checks the task's arguments before a model is loaded.

    Raises:
        UserError: On a missing or malformed file, or a template that does not fit.
    """
    _settings(metadata)


def load_data(**metadata: Any) -> dict[str, Any]:
    """The pairs as a dataset with the split "eval"; lm-eval passes all of `--model_args` and `--metadata`."""
    from datasets import Dataset

    pairs, _ = _settings(metadata)
    rows = [{"index": i, "instruction": p.instruction, "response": p.response} for i, p in enumerate(pairs.items)]
    return {"eval": Dataset.from_list(rows)}


def _settings(metadata: Mapping[str, Any]) -> tuple[ResponsePairs, ChatTemplate | None]:
    tags = metadata.get("tags", True)
    tags = json_or_text(tags.lower()) if isinstance(tags, str) else tags
    if not isinstance(tags, bool):
        raise UserError(f"--metadata tags={tags}: expected true or false.")
    template = require_instruction(str(metadata.get("template", "tulu")), tags)
    return _pairs(str(metadata.get("pairs", "builtin"))), template


@functools.lru_cache(maxsize=8)
def _pairs(spec: str) -> ResponsePairs:
    return load_pairs(spec)


class ResponseRankingTask(ConfigurableTask):
    """Response ranking; see README.md."""

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Builds the task.

        Raises:
            UserError: On a bad `--metadata` argument.
        """
        metrics = (
            {
                "metric": name + end,
                "aggregation": functools.partial(self._aggregate, measure, end),
                "higher_is_better": None if end else True,
            }
            for name, measure in METRICS.items()
            for end in ENDINGS
        )
        super().__init__(config=with_metrics(config, metrics), **kwargs)
        self._pairs, self._template = _settings(self.config.metadata or {})
        self._chat: Callable[..., str] | None = None
        self._scorer: Callable[..., Any] | None = None
        self._bare = False

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        rank: int = 0,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Builds the requests of all pairs, or of the first `limit`, ranked among each other."""
        self._pairs = self._pairs.first(limit)
        self._chat = chat_template if apply_chat_template else None
        self._scorer = getattr(getattr(rank, "model", None), "log_probs", None)  # see `Rank`
        self._bare = getattr(getattr(rank, "model", None), "wants_bare_instructions", False)
        self.config.metadata["ranking"] = settings_text(self._pairs, self._template, "model" if self._chat else None)
        super().build_all_requests(
            limit=limit,
            rank=rank,
            apply_chat_template=apply_chat_template,
            chat_template=chat_template,
            **kwargs,
        )

    def _prompt(self, instruction: str) -> str:
        if self._chat is not None:
            return self._chat([{"role": "user", "content": instruction}])
        return instruction if self._bare else prompt_of(instruction, self._template)

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """All responses after this instruction, this response after an empty one, and the prompt's last white space.

        lm-eval moves white space from a prompt's end to the continuation's start, whose likelihood is then taken off.
        Our own model classes score a whole row at once when it is processed: one request, whose answer is not used,
        stands for it, since lm-eval asks for one.
        """
        prompt, empty = self._prompt(doc["instruction"]), self._prompt("")
        kind = "loglikelihood"
        requests: list[tuple[str, Any]] = [(prompt, doc["response"])]
        if self._bare:
            kind, requests = "generate_until", [(prompt, {"until": [], "max_gen_toks": 1, "do_sample": False})]
        elif self._scorer is None:
            requests = [(prompt, pair.response) for pair in self._pairs.items] + [(empty, doc["response"])]
            space = len(prompt) - len(prompt.rstrip())
            requests += [(prompt[:-space], prompt[-space:])] if space else []
        noted = {key: kwargs[key] for key in ("metadata",) if key in kwargs}
        return [Instance(kind, doc, request, i, **noted) for i, request in enumerate(requests)]

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """One instruction's row of the matrix, for every metric."""
        n = len(self._pairs.items)
        if self._scorer is not None:
            row = list(self._scorer(self._prompt(doc["instruction"]), [pair.response for pair in self._pairs.items]))
            (unconditional,) = self._scorer(self._prompt(""), [doc["response"]])
        else:
            values = [value for value, _ in results]
            space = values[n + 1] if len(values) > n + 1 else 0.0
            row, unconditional = [value - space for value in values[:n]], values[n] - space
        item = (doc["index"], row, unconditional)
        return {name + end: item for name in METRICS for end in ENDINGS}

    def _aggregate(self, measure: str, end: str, items: list[tuple[int, list[float], float]]) -> float:
        return ENDINGS[end](self._score(measure, items))

    def _score(self, measure: str, items: list[tuple[int, list[float], float]]) -> RankingScore:
        rows = sorted(items)
        matrix = np.array([row for _, row, _ in rows], dtype=np.float64)
        unconditional = np.array([value for _, _, value in rows], dtype=np.float64)
        responses = [pair.response for pair in self._pairs.items]
        return ranking_score(measures(matrix, unconditional, responses)[measure], measure)
