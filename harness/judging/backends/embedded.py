"""The judge `embedded`: runs offline on a CPU, orders systems and smoke-tests pipelines, and is nothing more.

P(first is better) = sigmoid(w . (phi(first) - phi(second))): a logistic regression over differences of small text
features and sentence similarities, so there is no presentation order. Its coefficients stand in
`configs/embedded.json`, written by `tools/fit_embedded_judge.py`; what it was measured to do and must not be used for
stands in `docs/judges/embedded.md`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import text_features
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict, sigmoid
from implicit_if.harness.judging.sentence_embedding import FILES_SHA256, MAX_TOKENS, SentenceEmbedder
from implicit_if.harness.storage import sha256_json

CONFIG = Path(__file__).parent.parent / "configs" / "embedded.json"

EMBEDDED_CHARS = 800
"""Characters of a text handed to the tokenizer; MAX_TOKENS word pieces are rarely more."""

ENOUGH_SIMILARITY = 0.3
"""An answer this close to its instruction is on topic; being closer is worth nothing, or an echo would be best."""


class Coefficient(BaseModel):
    """A feature's weight for a change of one `scale` (its standard deviation in the fit)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float
    scale: float


class Config(BaseModel):
    """`configs/embedded.json`.

    Attributes:
        version: Raised with every new fit.
        features_version: The `FEATURES_VERSION` the fit was made with.
        coefficients: By feature name.
        fit: How the coefficients came about; numbers and hashes for the record, without effect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    features_version: str
    coefficients: dict[str, Coefficient]
    fit: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash over everything that shapes a verdict."""
        return sha256_json(
            {
                "judge": "embedded",
                "version": self.version,
                "features_version": text_features.FEATURES_VERSION,
                "coefficients": {name: [c.weight, c.scale] for name, c in self.coefficients.items()},
                "files": FILES_SHA256,
                "limits": [text_features.MAX_CHARS, EMBEDDED_CHARS, MAX_TOKENS, ENOUGH_SIMILARITY],
            }
        )


class EmbeddedJudge(LocalJudge):
    """Scores each answer alone and compares the scores.

    Args:
        config: Coefficients.
        embedder: Sentence embeddings.

    Raises:
        UserError: If the coefficients are of another version of the features.
    """

    name = "embedded"

    def __init__(self, config: Config, embedder: SentenceEmbedder) -> None:
        if config.features_version != text_features.FEATURES_VERSION:
            raise UserError(
                f"{CONFIG}: fitted on features version {config.features_version!r}, this code computes version "
                f"{text_features.FEATURES_VERSION!r}. Fit again: python tools/fit_embedded_judge.py DATA"
            )
        self._coefficients = config.coefficients
        self._embedder = embedder
        self.fingerprint = config.fingerprint

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields one verdict per comparison, in order; equal answers are a tie, 0.5."""
        for c in comparisons:
            start = time.perf_counter()
            first = self.contributions(c.instruction, c.first)
            second = self.contributions(c.instruction, c.second)
            difference = {name: first[name] - second[name] for name in first}
            yield Verdict(
                c.key,
                round(sigmoid(sum(difference.values())), 6),
                raw=_main_reasons(difference),
                latency=time.perf_counter() - start,
                cost=0.0,
            )

    def contributions(self, instruction: str, answer: str) -> dict[str, float]:
        """What each feature adds to an answer's score, in log-odds; only differences between answers mean something."""
        values = answer_features(instruction, answer, self._embedder)
        return {name: c.weight * values[name] / c.scale for name, c in self._coefficients.items()}


def answer_features(instruction: str, answer: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """The features of an answer to an instruction: those of `text_features`, and `topic`.

    `topic` is the cosine between the instruction and what `effective` leaves of the answer, at most
    ENOUGH_SIMILARITY, and 0 where nothing is left.
    """
    instruction = text_features.clean(instruction)
    kept = text_features.effective(text_features.clean(answer))
    values = text_features.text_features(instruction, kept)
    text = kept.text
    similarity = embedder.similarity(instruction[:EMBEDDED_CHARS], text[:EMBEDDED_CHARS]) if text else 0.0
    values["topic"] = min(similarity, ENOUGH_SIMILARITY)
    return values


def build(argument: str | None, options: Mapping[str, Any]) -> EmbeddedJudge:
    """The judge with the shipped coefficients; it takes neither argument nor options.

    Raises:
        UserError: If either is given, or if the package with the sentence embeddings is missing or damaged.
    """
    if argument is not None or options:
        found = f"argument {argument!r}" if argument is not None else f"options {', '.join(sorted(options))}"
        raise UserError(f"judge 'embedded' takes neither argument nor options, found {found}. Use just 'embedded'.")
    return EmbeddedJudge(_config(), SentenceEmbedder())


def fingerprint() -> str:
    """The shipped judge's fingerprint; needs no package with sentence embeddings."""
    return _config().fingerprint


def _config() -> Config:
    return Config.model_validate_json(CONFIG.read_text(encoding="utf-8"))


def _main_reasons(difference: dict[str, float]) -> str:
    """The margin and its largest parts, in log-odds; what speaks for the first answer is positive."""
    largest = sorted(difference.items(), key=lambda item: -abs(item[1]))[:3]
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in largest)
    return f"{sum(difference.values()):+.2f} for the first: {parts}"
