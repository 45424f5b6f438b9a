"""Whether an answer attempts its instruction at all, offline: a probability from text features and similarities.

An attempt tries to do what the instruction asks: no echo, no copy, no unrelated text, no mere format. It may be wrong.
The classifier was fitted by `tools/fit_embedded_attempts.py` to a blind rater's verdicts on answers of Gemma 3 270M;
what it was measured to do stands in `docs/judges/embedded.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import attempt_features, text_features, topic_features, word_order
from implicit_if.harness.judging.sentence_embedding import (
    FILES_SHA256,
    MAX_TOKENS,
    SentenceEmbedder,
    shared_embedder,
)
from implicit_if.harness.judging.tree_ensemble import TreeEnsemble
from implicit_if.harness.storage import sha256_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIG = Path(__file__).parent.parent / "configs" / "embedded_attempts.json"

USUAL_ORDER = 0.4
"""The `word_order` of plain prose; an instruction above it asks for no more of its answer."""

ODDS = 1.25
"""What the odds are multiplied with: trees that saw worthless answers, too, call too few answers an attempt. Of 1 to
1.5, this value brought systems' rates nearest to the rater's in a cross-validation over instructions."""

DIGITS = 4
"""Decimals of a feature: what differs between machines is far smaller."""


Share = TypeVar("Share", float, "NDArray[np.float64]")


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
    return [attempt_probability(answer_features(i, a, shared_embedder())) for i, a in instruction_answer_pairs]


def fingerprint() -> str:
    """Hash over everything that shapes a probability; needs no package with sentence embeddings."""
    config = _config()
    return sha256_json(
        {
            "attempts": config.version,
            "features_version": [text_features.FEATURES_VERSION, attempt_features.FEATURES_VERSION],
            "model": config.model.model_dump(mode="json"),
            "files": FILES_SHA256,
            "odds": ODDS,
            "word_order": word_order.fingerprint(),
            "background": topic_features.BACKGROUND,
            "limits": [text_features.MAX_CHARS, attempt_features.MAX_SEGMENTS, MAX_TOKENS, USUAL_ORDER],
        }
    )


def attempt_probability(values: Mapping[str, float]) -> float:
    """The probability for an answer's features, to 6 digits; 0 for an answer without a word."""
    return round(calibrated(_config().model.predict(values)), 6) if values["words"] else 0.0


def calibrated(share: Share) -> Share:
    """The trees' share of attempts, a number or an array, as a probability; see ODDS."""
    return ODDS * share / (ODDS * share + 1 - share)


def answer_features(instruction: str, answer: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """All features of an answer, by name, to DIGITS places: of its text, of its own text, and of its topic."""
    instruction, answer = text_features.clean(instruction), text_features.clean(answer)
    parts = attempt_features.segments(instruction, answer)
    own = attempt_features.own_text(parts)
    rest = attempt_features.without_shared_words(instruction, own)
    values = (
        text_features.text_features(instruction, text_features.effective(answer))
        | attempt_features.attempt_features(instruction, answer, parts)
        | topic_features.topic_features(instruction, own, rest, embedder)
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


def read_config(path: Path = CONFIG) -> Config:
    """An ensemble's file.

    Raises:
        UserError: If it was fitted on another version of the features.
    """
    config = Config.model_validate_json(path.read_text(encoding="utf-8"))
    if config.features_version != attempt_features.FEATURES_VERSION:
        raise UserError(
            f"{path}: fitted on features version {config.features_version!r}, this code computes version "
            f"{attempt_features.FEATURES_VERSION!r}. Fit again: python tools/fit_embedded_attempts.py PANEL LIMA"
        )
    return config


@cache
def _config() -> Config:
    return read_config()
