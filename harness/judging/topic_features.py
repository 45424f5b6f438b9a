"""How close an answer's own text is to its instruction, and how much closer than to instructions about other things.

A plain cosine does not tell a topic from a tone: fluent talk about nothing is a little similar to everything. So the
similarity to the instruction stands beside those to BACKGROUND, instructions of every kind.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTRUCTION_CHARS = 400
OWN_CHARS = 400
REST_CHARS = 300
"""Characters of each text that are embedded."""

NEAREST = 4
"""How many of the background's nearest instructions `_nearest` averages."""

BACKGROUND = (
    "Explain how a vaccine works.",
    "Write a short poem about the sea.",
    "How do I cook rice for four people?",
    "Write a Python function that sorts a list.",
    "What is the capital of France?",
    "Summarise the following article in one sentence.",
    "Translate this sentence into German.",
    "Give me tips for a job interview.",
    "What were the causes of the First World War?",
    "Plan a weekend trip with small children.",
    "How many litres are in a gallon?",
    "Write a polite e-mail to my landlord.",
    "Which film should I watch tonight?",
    "My dog will not eat. What should I do?",
    "Explain the difference between a virus and a bacterium.",
    "Suggest names for a new coffee shop.",
    "How can I save money every month?",
    "Fix the error in this JavaScript code.",
    "Describe the life cycle of a butterfly.",
    "List the planets of the solar system.",
    "How do I learn to play the guitar?",
    "Write a story about a dragon and a knight.",
    "What exercises help against back pain?",
    "Explain photosynthesis to a child.",
    "Is it better to rent or to buy a house?",
    "How does the stock market work?",
    "Solve the equation 3x + 5 = 20.",
    "Sort these words alphabetically.",
    "Turn the following data into a table.",
    "Rewrite this paragraph in a formal tone.",
    "Who wrote Romeo and Juliet?",
    "How do I remove a stain from a shirt?",
    "Tell me a joke about computers.",
    "What should I pack for a hike?",
    "Write a speech for a wedding.",
    "How do I set up a git repository?",
    "What does this error message mean?",
    "Extract the names and dates from this text.",
    "How can I sleep better at night?",
    "Recommend a book about history.",
    "What is the weather like in Norway in June?",
    "How do airplanes fly?",
    "Write a product description for a lamp.",
    "How can I make new friends in a new city?",
    "What are the rules of chess?",
    "Compare electric and petrol cars.",
    "How do I grow tomatoes on a balcony?",
    "What is a black hole?",
)


def topic_features(instruction: str, own: str, rest: str, embedder: SentenceEmbedder) -> dict[str, float]:
    """Similarities in [-1, 1] to 3 places; 0 for a text that is empty.

    Args:
        instruction: A text that went through `clean`.
        own: The answer's own text.
        rest: What is left of it without the instruction's words.
        embedder: Sentence embeddings.

    Returns:
        For both: `_cosine` with the instruction, `_over_mean` and `_over_nearest` that cosine less the
        mean over BACKGROUND and over the NEAREST of it, `_z` in standard deviations over BACKGROUND.
    """
    asked = embedder.embed(instruction[:INSTRUCTION_CHARS])
    background = _background(embedder)
    values: dict[str, float] = {}
    for name, text in (("own", own[:OWN_CHARS]), ("rest", rest[:REST_CHARS])):
        found = [0.0, 0.0, 0.0, 0.0]
        if text.strip():
            vector = embedder.embed(text)
            others = sorted((background @ vector).tolist())
            mean = sum(others) / len(others)
            spread = (sum((x - mean) ** 2 for x in others) / len(others)) ** 0.5
            cosine = float(asked @ vector)
            nearest = sum(others[-NEAREST:]) / NEAREST
            found = [cosine, cosine - mean, cosine - nearest, (cosine - mean) / (spread + 0.02)]
        keys = ("cosine", "over_mean", "over_nearest", "z")
        values |= {f"{name}_{key}": round(x, 3) for key, x in zip(keys, found, strict=True)}
    return values


@cache
def _background(embedder: SentenceEmbedder) -> NDArray[np.float32]:
    import numpy as np

    return np.stack([embedder.embed(text) for text in BACKGROUND])
