"""Judges that score each answer alone by a weighted sum of features.

P(first is better) = sigmoid(s(first) - s(second)). So there is no presentation order, equal answers tie, and swapping
the answers swaps the verdict.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict, sigmoid
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder
from implicit_if.harness.storage import sha256_json


class Coefficient(BaseModel):
    """A feature's weight for a change of one `scale` (its standard deviation in the fit)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float
    scale: float


class Config(BaseModel):
    """A fitted judge's file.

    Attributes:
        version: Raised with every new fit.
        features_version: The version of the features that the fit was made with.
        coefficients: By feature name.
        fit: How the coefficients came about; numbers and hashes for the record, without effect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    features_version: str
    coefficients: dict[str, Coefficient]
    fit: dict[str, Any]


class LinearJudge(LocalJudge):
    """A judge of this kind; a subclass gives the features and what shapes them.

    Attributes:
        config_file: Where its coefficients are.
        features_version: The version of the features that its code computes.
        fix: What to do where the file was fitted on others.

    Args:
        config: Coefficients.
        embedder: Sentence embeddings.

    Raises:
        UserError: If the coefficients are of another version of the features.
    """

    config_file: ClassVar[Path]
    features_version: ClassVar[str]
    fix: ClassVar[str]

    def __init__(self, config: Config, embedder: SentenceEmbedder) -> None:
        if config.features_version != self.features_version:
            raise UserError(
                f"{self.config_file}: fitted on features version {config.features_version!r}, this code computes "
                f"version {self.features_version!r}. {self.fix}"
            )
        self._coefficients = config.coefficients
        self._embedder = embedder
        self.fingerprint = self.fingerprint_of(config)

    @classmethod
    def read_config(cls) -> Config:
        """The shipped coefficients."""
        return Config.model_validate_json(cls.config_file.read_text(encoding="utf-8"))

    @classmethod
    def fingerprint_of(cls, config: Config) -> str:
        """Hash over everything that shapes a verdict; needs no package with sentence embeddings."""
        return sha256_json(
            {
                "judge": "embedded",
                "version": config.version,
                "features_version": cls.features_version,
                "coefficients": {name: [c.weight, c.scale] for name, c in config.coefficients.items()},
                **cls.shaping(),
            }
        )

    @classmethod
    def shaping(cls) -> dict[str, Any]:
        """What shapes the features, for the fingerprint."""
        raise NotImplementedError

    def features(self, instruction: str, answer: str) -> dict[str, float]:
        """An answer's features by name, all those that have a coefficient."""
        raise NotImplementedError

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
        values = self.features(instruction, answer)
        return {name: c.weight * values[name] / c.scale for name, c in self._coefficients.items()}


def _main_reasons(difference: dict[str, float]) -> str:
    """The margin and its largest parts, in log-odds; what speaks for the first answer is positive."""
    largest = sorted(difference.items(), key=lambda item: -abs(item[1]))[:3]
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in largest)
    return f"{sum(difference.values()):+.2f} for the first: {parts}"
