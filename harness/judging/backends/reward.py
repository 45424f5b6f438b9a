"""The judge `reward:<model>`: a sequence-classification reward model; each answer gets one score, whatever its rival.

P(first is better) = sigmoid((score of first - score of second) / temperature), the Bradley-Terry model such rewards
are trained with (Skywork-Reward-V2, arXiv 2507.01352). There is no presentation order and no position bias.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.options import parse_options
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict, sigmoid
from implicit_if.harness.judging.reward_model import VERSION, Score, Scorer, resolve_dtype
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.storage import sha256_json

_KEPT_SCORES = 100_000


class RewardOptions(BaseModel):
    """Options of `reward:<model>`.

    Attributes:
        revision: The commit of the model on the hub; required there, so that a score means one model.
        temperature: Divides the difference of scores.
        max_length: Tokens of a conversation; a longer answer is cut, which its verdict notes.
        dtype: "auto" is bfloat16 on a GPU and float32 elsewhere.
        device: "auto" is the GPU if there is one.
        batch_tokens: Tokens, padding included, scored at a time.
        window: Comparisons read ahead, whose answers are sorted by length.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    revision: str | None = None
    temperature: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=4096, ge=16)
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str = "auto"
    batch_tokens: int = Field(default=32_768, ge=16)
    window: int = Field(default=512, ge=1)


class RewardJudge(LocalJudge):
    """Scores answers one by one; see `Judge`. The model is loaded when the first comparison comes.

    Attributes:
        name: "reward:" and the model.
        fingerprint: Hash over model, revision, number format, length limit and temperature.
    """

    def __init__(self, model: str, options: RewardOptions) -> None:
        self.name = f"reward:{model}"
        self._model, self._options = model, options
        self._dtype = resolve_dtype(options.dtype, options.device)
        self._scores: dict[str, Score] = {}
        self.fingerprint = sha256_json(
            {
                "judge": "reward",
                "version": VERSION,
                "model": model if options.revision else model_fingerprint(model),
                "revision": options.revision,
                "dtype": self._dtype,
                "max_length": options.max_length,
                "temperature": options.temperature,
            }
        )

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields verdicts, a window of comparisons at a time; each distinct answer is scored once.

        Raises:
            UserError: If the model cannot be loaded or is no reward model.
        """
        source = iter(comparisons)
        while window := list(islice(source, self._options.window)):
            wanted = {_key(c.instruction, a): (c.instruction, a) for c in window for a in (c.first, c.second)}
            missing = {key: pair for key, pair in wanted.items() if key not in self._scores}
            self._scores |= zip(missing, self._scorer.score(list(missing.values())), strict=True)
            yield from (self._verdict(c) for c in window)
            while len(self._scores) > _KEPT_SCORES:
                del self._scores[next(iter(self._scores))]

    @cached_property
    def _scorer(self) -> Scorer:
        options = self._options
        return Scorer(
            self._model, options.revision, self._dtype, options.device, options.max_length, options.batch_tokens
        )

    def _verdict(self, comparison: Comparison) -> Verdict:
        first, second = (self._scores[_key(comparison.instruction, a)] for a in (comparison.first, comparison.second))
        raw = {"first": first.value, "second": second.value}
        cut = [name for name, score in (("first", first), ("second", second)) if score.cut]
        text = json.dumps(raw | ({"cut": cut} if cut else {}))
        if first.value is None or second.value is None:
            return Verdict(comparison.key, None, raw=text, error=first.error or second.error, cost=0.0)
        prefers_first = sigmoid((first.value - second.value) / self._options.temperature)
        return Verdict(comparison.key, prefers_first, raw=text, cost=0.0)


def reread(raw: str, argument: str = "") -> tuple[float, float] | None:
    """The lowest and highest preference for the first answer that stored rewards allow; None if they are incomplete."""
    try:
        kept = json.loads(raw)
        difference = float(kept["first"]) - float(kept["second"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (0.5, 1.0) if difference > 0 else (0.0, 0.5) if difference < 0 else (0.5, 0.5)


def build(argument: str | None, options: Mapping[str, Any]) -> RewardJudge:
    """The judge.

    Args:
        argument: A model of the hub, or a local folder.
        options: See `RewardOptions`.

    Raises:
        UserError: If an option is wrong, or a hub model has no revision.
    """
    if not argument:
        raise UserError("judge 'reward' needs a model. Use e.g. the judge 'skywork-qwen3-8b'.")
    chosen = parse_options(RewardOptions, f"reward:{argument}", options)
    if chosen.revision is None and not os.path.isdir(os.path.expanduser(argument)):
        raise UserError(
            f"judge 'reward:{argument}' is a model of the hub without a revision, so its scores could change. Give "
            f"the commit, revision=<40 hex digits>, or use a shipped configuration such as 'skywork-qwen3-8b'."
        )
    return RewardJudge(argument, chosen)


def _key(instruction: str, answer: str) -> str:
    return sha256_json([instruction, answer])
