"""Version 1 of the judge `embedded`, kept so that verdicts which it gave can be given again: `embedded:1`.

Its six features read form and topic; what they cannot tell from an answer (an echo, a template, token soup) version 2
does. Nothing here may change a verdict.
"""

from __future__ import annotations

from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import text_features
from implicit_if.harness.judging.linear_judge import Config, LinearJudge
from implicit_if.harness.judging.sentence_embedding import FILES_SHA256, MAX_TOKENS, SentenceEmbedder
from implicit_if.harness.storage import sha256_json

CONFIG = Path(__file__).parent.parent / "configs" / "embedded-1.json"

EMBEDDED_CHARS = 800
"""Characters of a text handed to the tokenizer; MAX_TOKENS word pieces are rarely more."""

ENOUGH_SIMILARITY = 0.3
"""An answer this close to its instruction is on topic; being closer is worth nothing, or an echo would be best."""


class EmbeddedJudge1(LinearJudge):
    """Scores each answer alone by six features and compares the scores.

    Args:
        config: Coefficients.
        embedder: Sentence embeddings.

    Raises:
        UserError: If the coefficients are of another version of the features.
    """

    name = "embedded:1"

    def __init__(self, config: Config, embedder: SentenceEmbedder) -> None:
        if config.features_version != text_features.FEATURES_VERSION:
            raise UserError(
                f"{CONFIG}: fitted on features version {config.features_version!r}, this code computes version "
                f"{text_features.FEATURES_VERSION!r}. Install the package again: its files do not belong together."
            )
        super().__init__(config.coefficients, fingerprint_of(config))
        self._embedder = embedder

    def features(self, instruction: str, answer: str) -> dict[str, float]:
        return answer_features(instruction, answer, self._embedder)


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


def fingerprint_of(config: Config) -> str:
    """Hash over everything that shapes a verdict."""
    return sha256_json(
        {
            "judge": "embedded",
            "version": config.version,
            "features_version": text_features.FEATURES_VERSION,
            "coefficients": {name: [c.weight, c.scale] for name, c in config.coefficients.items()},
            "files": FILES_SHA256,
            "limits": [text_features.MAX_CHARS, EMBEDDED_CHARS, MAX_TOKENS, ENOUGH_SIMILARITY],
        }
    )


def build() -> EmbeddedJudge1:
    """The judge.

    Raises:
        UserError: If the package with the sentence embeddings is missing or damaged.
    """
    return EmbeddedJudge1(read_config(), SentenceEmbedder())


def fingerprint() -> str:
    """Its fingerprint; needs no package with sentence embeddings."""
    return fingerprint_of(read_config())


def read_config() -> Config:
    """The shipped coefficients."""
    return Config.model_validate_json(CONFIG.read_text(encoding="utf-8"))
