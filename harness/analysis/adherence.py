"""Task adherence (Hewitt et al. 2024, section 5.2 and figure 5): where does a single-task model keep to its task?

Each test instruction has a similarity to the training instructions, its answer one to the training responses. A model
that keeps to its task everywhere has high answers at every instruction; one that follows instructions keeps to it
near the task only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Interval
from implicit_if.harness.stats.vectors import Floats

Embed = Callable[[Sequence[str]], Floats]
"""Texts to unit vectors `[n, d]`."""
_MANY = 64
"""Texts whose embedding takes seconds, so that a bar is shown."""


@dataclass(frozen=True)
class AdherencePoint:
    """One test instruction.

    Attributes:
        instruction: Its text.
        answer: The model's answer.
        near: Similarity to the training instructions, in [-1, 1].
        kept: Similarity of the answer to the training responses.
    """

    instruction: str
    answer: str
    near: float
    kept: float


@dataclass(frozen=True)
class AdherenceGroup:
    """Test instructions that are alike in how near they are to the task.

    Attributes:
        n: Instructions, at least 1.
        similarity: The least and the greatest similarity to the training instructions among them.
        kept: Mean similarity of their answers to the training responses.
        interval: Its interval, a bootstrap over the instructions.
    """

    n: int
    similarity: tuple[float, float]
    kept: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.kept:.2f} {self.interval.show(2)}"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        ends = [round(end, 4) for end in self.similarity]
        return {"n": self.n, "similarity": ends, "kept": round(self.kept, 4), "interval": self.interval.model_dump()}


@dataclass(frozen=True)
class Adherence:
    """Task adherence of one model.

    Attributes:
        points: By falling `near`.
        smooth: `[s, 4]`: similarity of instructions, smoothed similarity of answers, and its 95 % interval.
        correlation: Spearman's, of `near` and `kept`; None where one of them does not vary.
        interval: Its interval, a bootstrap over test instructions; None without a correlation.
        neighbours: Training rows that a similarity is the mean over: the nearest ones.
    """

    points: tuple[AdherencePoint, ...]
    smooth: tuple[tuple[float, float, float, float], ...]
    correlation: float | None
    interval: Interval | None
    neighbours: int

    def nearest(self, n: int = 5) -> tuple[AdherencePoint, ...]:
        """The test instructions most like the training instructions."""
        return self.points[:n]

    def middle(self, n: int = 5) -> tuple[AdherencePoint, ...]:
        """Those in the middle of the order."""
        start = max(0, (len(self.points) - n) // 2)
        return self.points[start : start + n]

    def near(self, share: float = 1 / 3, seed: int = 0) -> AdherenceGroup:
        """The share of the test instructions that is most like the training instructions; at least one."""
        return _group(self.points[: max(1, round(share * len(self.points)))], seed)

    def far(self, share: float = 1 / 3, seed: int = 0) -> AdherenceGroup:
        """The share of the test instructions that is least like the training instructions; at least one."""
        return _group(self.points[-max(1, round(share * len(self.points))) :], seed)

    def summary(self) -> dict[str, Any]:
        """The numbers without any text, ready for JSON."""
        return {
            "n": len(self.points),
            "spearman": None if self.correlation is None else round(self.correlation, 4),
            "interval": None if self.interval is None else self.interval.model_dump(),
            "near": self.near().as_dict(),
            "far": self.far().as_dict(),
        }

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, texts included."""
        return {
            "n": len(self.points),
            "neighbours": self.neighbours,
            "spearman": None if self.correlation is None else round(self.correlation, 4),
            "interval": None if self.interval is None else self.interval.model_dump(),
            "points": [
                {"instruction": p.instruction, "answer": p.answer, "near": round(p.near, 4), "kept": round(p.kept, 4)}
                for p in self.points
            ],
        }


def task_adherence(
    train: Sequence[tuple[str, str]],
    tests: Sequence[tuple[str, str]],
    embed: Embed,
    *,
    neighbours: int = 5,
    n_resamples: int = 500,
    seed: int = 0,
) -> Adherence:
    """Similarities of test instructions and of their answers to a task's training rows.

    Args:
        train: The task's instructions and responses.
        tests: Test instructions and the model's answers, at least three.
        embed: Sentence embeddings.
        neighbours: A similarity is the mean cosine to so many nearest training rows (all of fewer).
        n_resamples: Of the bootstrap over test instructions.
        seed: Of the bootstrap.

    Raises:
        UserError: If there is no training row, or fewer than three tests.
    """
    if not train or len(tests) < 3:
        raise UserError(
            f"adherence: found {len(train)} training rows and {len(tests)} answers. Expected at least 1 and 3."
        )
    near, kept = (
        _nearest(embed([row[i] for row in tests]), embed([row[i] for row in train]), neighbours) for i in (0, 1)
    )
    order = np.argsort(-near, kind="stable")
    points = tuple(AdherencePoint(tests[i][0], tests[i][1], float(near[i]), float(kept[i])) for i in order)
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(tests), size=(n_resamples, len(tests)))
    grid = np.linspace(near.min(), near.max(), 25)
    width = max(1.06 * float(near.std()) * len(tests) ** -0.2, 1e-6)  # Silverman's rule
    curve = _smooth(near, kept, grid, width)
    drawn = np.array([_smooth(near[d], kept[d], grid, width) for d in draws])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    smooth = tuple(zip(*(np.asarray(v).tolist() for v in (grid, curve, low, high)), strict=True))
    value = _spearman(near, kept)
    interval = None
    if value is not None:
        resampled = [r for d in draws if (r := _spearman(near[d], kept[d])) is not None]
        ends = np.quantile(resampled, [0.025, 0.975])
        interval = Interval(low=float(ends[0]), high=float(ends[1]), method="bootstrap", level=0.95, seed=seed)
    return Adherence(points, smooth, value, interval, neighbours)


def _group(points: Sequence[AdherencePoint], seed: int, n_resamples: int = 1000) -> AdherenceGroup:
    kept, near = (np.array([getattr(point, name) for point in points]) for name in ("kept", "near"))
    draws = np.random.default_rng(seed).integers(0, len(points), size=(n_resamples, len(points)))
    low, high = np.quantile(kept[draws].mean(axis=1), [0.025, 0.975])
    interval = Interval(low=float(low), high=float(high), method="bootstrap", level=0.95, seed=seed)
    return AdherenceGroup(len(points), (float(near.min()), float(near.max())), float(kept.mean()), interval)


def _nearest(tests: Floats, train: Floats, k: int) -> Floats:
    cosines = np.asarray(tests, dtype=np.float64) @ np.asarray(train, dtype=np.float64).T
    best: Floats = np.sort(cosines, axis=1)[:, -k:].mean(axis=1)
    return best


def _smooth(x: Floats, y: Floats, grid: Floats, width: float) -> Floats:
    """Gaussian kernel regression (Nadaraya-Watson)."""
    weights = np.exp(-0.5 * ((grid[:, None] - x[None, :]) / width) ** 2)
    total = weights.sum(axis=1)
    smoothed: Floats = np.divide(weights @ y, total, out=np.full(len(grid), np.nan), where=total > 1e-12)
    return smoothed


def _spearman(x: Floats, y: Floats) -> float | None:
    ranks = [_ranks(x), _ranks(y)]
    if min(rank.std() for rank in ranks) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = (ends - 1 + ends - counts) / 2
    return means[inverse]


def embedder(name: str | None = None) -> Embed:
    """Sentence embeddings: the embedded MiniLM, or any model of sentence-transformers.

    Args:
        name: A folder or hub name; None is the embedded one.

    Raises:
        UserError: If its package is missing, or the model cannot be loaded.
    """
    if name is None:
        from tqdm import tqdm

        from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder

        own = SentenceEmbedder(kept=20_000)

        def embed(texts: Sequence[str]) -> Floats:
            bar = tqdm(texts, "embedding", unit="text", disable=len(texts) < _MANY)
            return np.array([own.embed(text) for text in bar], dtype=np.float64)

        return embed
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"--embedder {name}: needs sentence-transformers. Install it: pip install sentence-transformers"
        ) from error
    try:
        model = SentenceTransformer(name, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        raise UserError(f"--embedder {name}: cannot be loaded ({error}). Expected a folder or a hub name.") from error
    return lambda texts: np.asarray(model.encode(list(texts), normalize_embeddings=True), dtype=np.float64)
