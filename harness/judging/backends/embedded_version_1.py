"""Version 1 of the judge `embedded`, kept so that verdicts which it gave can be given again: `embedded:1`.

Its six features read form and topic; what they cannot tell from an answer (an echo, a template, token soup) version 2
does. Nothing here may change a verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from implicit_if.harness.judging import text_features
from implicit_if.harness.judging.linear_judge import LinearJudge
from implicit_if.harness.judging.sentence_embedding import FILES_SHA256, MAX_TOKENS, SentenceEmbedder

CONFIG = Path(__file__).parent.parent / "configs" / "embedded-1.json"

EMBEDDED_CHARS = 800
"""Characters of a text handed to the tokenizer; MAX_TOKENS word pieces are rarely more."""

ENOUGH_SIMILARITY = 0.3
"""An answer this close to its instruction is on topic; being closer is worth nothing, or an echo would be best."""


class EmbeddedJudge1(LinearJudge):
    """Scores each answer alone by six features and compares the scores; see `LinearJudge`."""

    name = "embedded:1"
    config_file = CONFIG
    features_version = text_features.FEATURES_VERSION
    fix = "Install the package again: its files do not belong together."

    @classmethod
    def shaping(cls) -> dict[str, Any]:
        return {
            "files": FILES_SHA256,
            "limits": [text_features.MAX_CHARS, EMBEDDED_CHARS, MAX_TOKENS, ENOUGH_SIMILARITY],
        }

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
