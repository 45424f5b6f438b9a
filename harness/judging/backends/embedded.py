"""The judge `embedded`: runs offline on a CPU, orders systems and smoke-tests pipelines, and is nothing more.

P(first is better) = sigmoid(w . (phi(first) - phi(second))): a logistic regression over differences of features, the
probability that an answer is an attempt at all (`embedded_attempts`) first among them. Its coefficients stand in
`configs/embedded.json`, written by `tools/fit_embedded_judge.py`; what it was measured to do and must not be used for
stands in `docs/judges/embedded.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends import embedded_attempts
from implicit_if.harness.judging.backends.embedded_version_1 import EmbeddedJudge1
from implicit_if.harness.judging.linear_judge import Coefficient, Config, LinearJudge
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder, shared_embedder

__all__ = ["CONFIG", "Coefficient", "Config", "EmbeddedJudge", "answer_features", "build", "fingerprint"]

CONFIG = Path(__file__).parent.parent / "configs" / "embedded.json"

QUALITY = Path(__file__).parent.parent / "configs" / "embedded_quality.json"

FEATURES_VERSION = "2"
"""Part of the fingerprint: raise it with every change to `judge_features` that moves a value."""

EARLIER = ("1",)
"""Versions whose verdicts can be given again, as arguments."""


UNLIKELY, LIKELY = 0.35, 0.5
WORST = -0.2
ENOUGH_SIMILARITY = 0.3
ENOUGH_TOLD = 0.2
ENOUGH_LISTS = 2.0
BEGINNING = 0.02


class EmbeddedJudge(LinearJudge):
    """Scores each answer alone and compares the scores; see `LinearJudge`."""

    name = "embedded"
    config_file = CONFIG
    features_version = FEATURES_VERSION
    fix = "Fit again: python tools/fit_embedded_judge.py FOLDER PANEL LIMA"

    @classmethod
    def shaping(cls) -> dict[str, Any]:
        return {
            "attempts": embedded_attempts.fingerprint(),
            "quality": _quality().model.model_dump(mode="json"),
            "limits": [UNLIKELY, LIKELY, WORST, ENOUGH_SIMILARITY, ENOUGH_TOLD, ENOUGH_LISTS, BEGINNING],
        }

    def features(self, instruction: str, answer: str) -> dict[str, float]:
        return answer_features(instruction, answer, self._embedder)


def answer_features(instruction: str, answer: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """The judge's features of an answer; see `judge_features`."""
    values = embedded_attempts.answer_features(instruction, answer, embedder)
    quality = round(_quality().model.predict(values), 6)
    return judge_features(values, embedded_attempts.attempt_probability(values), quality)


def judge_features(values: Mapping[str, float], attempts: float, quality: float) -> dict[str, float]:
    """What the judge weighs.

    Args:
        values: `embedded_attempts.answer_features` of an answer.
        attempts: The probability that it is an attempt.
        quality: What trees expect a reader's preference for it to be, about 0 (`configs/embedded_quality.json`).

    Returns:
        attempted: `content` times how likely the answer is an attempt, 0 up to UNLIKELY and 1 from LIKELY on: words
            count in an attempt, and between fluent answers a difference in that probability would say nothing.
        quality: As given; WORST without a word.
        topic: Cosine of the instruction and the own text, at most ENOUGH_SIMILARITY, or an echo would be best.
        untold, echo: 1 if less than ENOUGH_TOLD of the answer tells something of its own; the share of the instruction
            that such an answer repeats.
        ran_on, repeats: How likely it is an attempt, as above, if a role tag stands after the beginning; and that times
            the share of words in repeated segments.
        lists: log(1 + lines of a list), at most ENOUGH_LISTS.
        distinct: Share of the words that are new to the answer.
        loops, broken, unfinished, order_gap: As they are in `values`.
    """
    likely = min(1.0, max(0.0, (attempts - UNLIKELY) / (LIKELY - UNLIKELY)))
    quality = quality if values["words"] else WORST
    untold = float(values["told_share"] < ENOUGH_TOLD)
    return {
        "attempted": values["content"] * likely,
        "quality": quality,
        "topic": min(values["own_cosine"], ENOUGH_SIMILARITY),
        "untold": untold,
        "echo": untold * values["covered"],
        "ran_on": likely * float(BEGINNING < values["before_tag"] < 1),
        "repeats": likely * values["repeated_share"],
        "lists": min(values["list_lines"], ENOUGH_LISTS),
        "distinct": values["distinct_share"],
        **{name: values[name] for name in ("loops", "broken", "unfinished", "order_gap")},
    }


def build(argument: str | None, options: Mapping[str, Any]) -> LinearJudge:
    """The judge with the shipped coefficients, or an earlier version of it.

    Args:
        argument: One of EARLIER; None for this version.
        options: None are known.

    Raises:
        UserError: For another argument, for options, or if the package with the sentence embeddings is missing or
            damaged.
    """
    if options or argument not in (None, *EARLIER):
        found = f"options {', '.join(sorted(options))}" if options else f"argument {argument!r}"
        raise UserError(
            f"judge 'embedded' takes no options, and as its argument only an earlier version ({', '.join(EARLIER)}), "
            f"found {found}. Use just 'embedded'."
        )
    version = _version(argument)
    return version(version.read_config(), shared_embedder())


def fingerprint(argument: str | None = None) -> str:
    """The shipped judge's fingerprint, or an earlier version's; needs no package with sentence embeddings."""
    version = _version(argument)
    return version.fingerprint_of(version.read_config())


def _version(argument: str | None) -> type[LinearJudge]:
    return EmbeddedJudge1 if argument in EARLIER else EmbeddedJudge


@cache
def _quality() -> embedded_attempts.Config:
    return embedded_attempts.read_config(QUALITY)
