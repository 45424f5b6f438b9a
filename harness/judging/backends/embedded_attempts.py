"""Whether an answer attempts its instruction at all, offline: a probability from text features and similarities.

An attempt tries to do what the instruction asks: no echo, no copy, no unrelated text, no mere format. It may be wrong.
The classifier was fitted by `tools/fit_embedded_attempts.py` to a blind rater's verdicts on answers of Gemma 3 270M;
what it was measured to do stands in `docs/judges/embedded.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.judging import attempt_features, text_features, topic_features, word_order
from implicit_if.harness.judging.sentence_embedding import FILES_SHA256, MAX_TOKENS, SentenceEmbedder
from implicit_if.harness.judging.tree_ensemble import TreeEnsemble
from implicit_if.harness.storage import sha256_json

CONFIG = Path(__file__).parent.parent / "configs" / "embedded_attempts.json"

USUAL_ORDER = 0.4
"""The `word_order` of plain prose; an instruction above it asks for no more of its answer."""

DIGITS = 4
"""Decimals of a feature: what differs between machines is far smaller."""


class Config(BaseModel):
    """`configs/embedded_attempts.json`.

    Attributes:
        version: Raised with every new fit.
        features_version: The `FEATURES_VERSION` of `attempt_features` that the fit was made with.
        model: The trees.
        fit: How they came about and what was measured; for the record, without effect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    features_version: str
    model: TreeEnsemble
    fit: dict[str, Any]


def attempt_probabilities(instruction_answer_pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The probability that each answer attempts its instruction, to 6 digits; 0 for an answer without a word.

    Raises:
        UserError: If the package with the sentence embeddings is missing or damaged.
    """
    config, embedder = _config(), _embedder()
    return [round(_probability(config.model, i, a, embedder), 6) for i, a in instruction_answer_pairs]


def fingerprint() -> str:
    """Hash over everything that shapes a probability; needs no package with sentence embeddings."""
    config = _config()
    return sha256_json(
        {
            "attempts": config.version,
            "features_version": [text_features.FEATURES_VERSION, attempt_features.FEATURES_VERSION],
            "model": config.model.model_dump(mode="json"),
            "files": FILES_SHA256,
            "word_order": word_order.fingerprint(),
            "background": topic_features.BACKGROUND,
            "limits": [text_features.MAX_CHARS, attempt_features.MAX_SEGMENTS, MAX_TOKENS, USUAL_ORDER],
        }
    )


def answer_features(instruction: str, answer: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """All features of an answer, by name, to DIGITS places: of its text, of its own text, and of its topic."""
    instruction, answer = text_features.clean(instruction), text_features.clean(answer)
    parts = attempt_features.segments(instruction, answer)
    own = attempt_features.own_text(parts)
    rest = attempt_features.without_shared_words(instruction, own)
    first = attempt_features.first_own(parts)
    values = (
        text_features.text_features(instruction, text_features.effective(answer))
        | attempt_features.attempt_features(instruction, answer, parts)
        | topic_features.topic_features(instruction, own, rest, first, embedder)
    )
    values |= _language_features(instruction, own, embedder)
    return {name: round(value, DIGITS) for name, value in values.items()}


def _language_features(instruction: str, own: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """Whether the own text is made of words, in an order, as the instruction is.

    `order` is `word_order`, `known` the share of words that are common ones; each `_gap` is how far it lies below the
    instruction's, so that neither costs an answer in another language to an instruction in that language.
    """
    common = embedder.whole_words()
    order, asked_order = word_order.word_order(own), word_order.word_order(instruction)
    known, asked_known = _known(own, common), _known(instruction, common)
    return {
        "order": order,
        "order_gap": max(0.0, min(asked_order, USUAL_ORDER) - order) if own else 0.0,
        "known": known,
        "known_gap": max(0.0, asked_known - known) if own else 0.0,
    }


def _known(text: str, common: frozenset[str]) -> float:
    found = [w for w in text_features.words(text) if w.isalpha() and len(w) > 1]
    return sum(w in common for w in found) / len(found) if found else 0.0


def _probability(model: TreeEnsemble, instruction: str, answer: str, embedder: SentenceEmbedder) -> float:
    if not text_features.words(text_features.clean(answer)):
        return 0.0
    return model.predict(answer_features(instruction, answer, embedder))


@cache
def _config() -> Config:
    return Config.model_validate_json(CONFIG.read_text(encoding="utf-8"))


@cache
def _embedder() -> SentenceEmbedder:
    return SentenceEmbedder()
