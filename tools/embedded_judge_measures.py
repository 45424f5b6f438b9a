"""What is measured of the embedded judge on held-out models and instructions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from embedded_judge_data import Pair
from numpy.typing import NDArray
from pydantic import BaseModel

from implicit_if.harness.stats import spearman

Floats = NDArray[np.float64]

SURE = 0.1
"""An implied pair counts as decided if its probability is within this of 0 or 1."""
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
TITLES = {
    "ae1": "weak models against text_davinci_003 (GPT-4's verdicts)",
    "ae2": "models against GPT-4 Turbo (GPT-4 Turbo's verdicts)",
    "implied": "weak models against each other (implied by those verdicts)",
    "corruption": "real answers against corrupted ones",
}


class Accuracy(BaseModel):
    """Shares of n decided pairs on which a judge names the better answer; a tie counts half.

    `majority` always names the side that the labels prefer more often; None where the order of a pair means nothing.
    """

    n: int
    embedded: float
    longest: float
    random: float
    majority: float | None = None


class Bin(BaseModel):
    """Pairs whose prediction lies in [low, high): the mean prediction and the mean published preference."""

    low: float
    high: float
    n: int
    predicted: float | None
    published: float | None


class Measured(BaseModel):
    """All measures, made on held-out models and instructions; win rates are in percent.

    Attributes:
        accuracy: By source of pairs.
        corruptions: By kind.
        win_rates: By set and model, predicted and published.
        spearman: By set, over its models, between the two.
        calibration: Of the pairs of weak models against text_davinci_003.
    """

    accuracy: dict[str, Accuracy]
    corruptions: dict[str, Accuracy]
    win_rates: dict[str, dict[str, tuple[float, float]]]
    spearman: dict[str, float | None]
    calibration: list[Bin]


def measure(pairs: Sequence[Pair], predictions: Floats) -> Measured:
    """All measures of held-out predictions, one per pair."""
    coin = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "source": [p.source for p in pairs],
            "kind": [p.kind for p in pairs],
            "system": [p.system for p in pairs],
            "label": [p.label for p in pairs],
            "embedded": predictions,
            "longest": [0.5 + 0.5 * np.sign(len(p.first) - len(p.second)) for p in pairs],
            "random": coin.integers(0, 2, len(pairs)).astype(float),
        }
    )
    of = dict(iter(table.groupby("source")))
    win_rates = {
        name: {
            str(model): (_percent(rows["embedded"]), _percent(rows["label"]))
            for model, rows in of[name].groupby("system")
        }
        for name in ("ae1", "ae2")
    }
    return Measured(
        accuracy={source: _accuracy(of[source]) for source in TITLES},
        corruptions={str(kind): _accuracy(rows) for kind, rows in of["corruption"].groupby("kind", sort=False)},
        win_rates=win_rates,
        spearman={name: _spearman(list(rates.values())) for name, rates in win_rates.items()},
        calibration=[_bin(of["ae1"], low, high) for low, high in pairwise(BINS)],
    )


def _percent(values: pd.Series[float]) -> float:
    return round(100 * float(values.mean()), 1)


def _accuracy(rows: pd.DataFrame) -> Accuracy:
    sure = rows["label"] != 0.5
    if (rows["source"] == "implied").all():
        sure = (rows["label"] - 0.5).abs() >= 0.5 - SURE
    decided = rows[sure]
    right = {
        judge: round(float((0.5 + 0.5 * np.sign((decided[judge] - 0.5) * (decided["label"] - 0.5))).mean()), 3)
        for judge in ("embedded", "longest", "random")
    }
    wins = float((decided["label"] > 0.5).mean())
    judged = rows["source"].isin(["ae1", "ae2"]).all()
    return Accuracy(n=len(decided), **right, majority=round(max(wins, 1 - wins), 3) if judged else None)


def _spearman(rates: list[tuple[float, float]]) -> float | None:
    rho = spearman([predicted for predicted, _ in rates], [published for _, published in rates])
    return None if rho is None else round(rho, 2)


def _bin(rows: pd.DataFrame, low: float, high: float) -> Bin:
    inside = rows[(rows["embedded"] >= low) & (rows["embedded"] < high)]
    means = [None if inside.empty else round(float(inside[c].mean()), 2) for c in ("embedded", "label")]
    return Bin(low=low, high=high, n=len(inside), predicted=means[0], published=means[1])
