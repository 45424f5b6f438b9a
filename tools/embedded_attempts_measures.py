"""What is measured of the classifier of attempts: by cross-validation over instructions, and over systems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from panel_data import PanelAnswer
from pydantic import BaseModel
from sklearn.metrics import roc_auc_score

from implicit_if.harness.stats import spearman

Floats = NDArray[np.float64]

PART = 20
"""Instructions of a part: what a test on so few may find is the spread over parts."""


class Spread(BaseModel):
    """A measure on parts of PART instructions each: its mean over parts, its worst and its best part."""

    mean: float
    worst: float
    best: float


class SystemRate(BaseModel):
    """A system's attempt rates in percent: the rater's, the decided answers', the mean probability."""

    n: int
    rater: float
    decided: float
    mean_probability: float


class AttemptsMeasured(BaseModel):
    """All measures; rates in percent, their errors in points.

    Attributes:
        n: Answers.
        majority: The accuracy of calling no answer an attempt.
        accuracy: Share of decisions that are the rater's, over all answers, each decided by fits without its
            instruction, mean over repeats; `auc` likewise.
        parts: The same, the mean error of systems' rates and the rank correlation, on parts.
        by_system_accuracy, by_system_auc: By fits that saw no answer of the system.
        systems: By name; mean over repeats.
    """

    n: int
    majority: float
    accuracy: float
    auc: float
    parts: dict[str, Spread]
    by_system_accuracy: float
    by_system_auc: float
    systems: dict[str, SystemRate]


def measure_attempts(
    answers: Sequence[PanelAnswer], by_instruction: Sequence[Floats], by_system: Floats
) -> AttemptsMeasured:
    """All measures of held-out probabilities, one array a repeat of the cross-validation over instructions."""
    rater = np.array([a.attempts for a in answers])
    labels = rater >= 0.5
    systems = np.array([a.system for a in answers])
    found: dict[str, list[float]] = {
        "accuracy": [],
        "AUC": [],
        "rate error": [],
        "rate error of the mean": [],
        "rho": [],
    }
    for seed, predictions in enumerate(by_instruction):
        for part in parts(np.array([a.instruction_id for a in answers]), seed):
            rates = [
                _rates(rater[mine], predictions[mine])
                for system in np.unique(systems)
                if (mine := part & (systems == system)).any()
            ]
            found["accuracy"].append(_accuracy(predictions[part], labels[part]))
            found["AUC"].append(float(roc_auc_score(labels[part], predictions[part])))
            found["rate error"].append(float(np.mean([abs(r.decided - r.rater) for r in rates])))
            found["rate error of the mean"].append(float(np.mean([abs(r.mean_probability - r.rater) for r in rates])))
            found["rho"].append(spearman([r.decided for r in rates], [r.rater for r in rates]) or 0.0)
    return AttemptsMeasured(
        n=len(answers),
        majority=round(float(1 - labels.mean()), 3),
        accuracy=round(float(np.mean([_accuracy(p, labels) for p in by_instruction])), 3),
        auc=round(float(np.mean([roc_auc_score(labels, p) for p in by_instruction])), 3),
        parts={name: spread(values, name.startswith("rate error")) for name, values in found.items()},
        by_system_accuracy=round(_accuracy(by_system, labels), 3),
        by_system_auc=round(float(roc_auc_score(labels, by_system)), 3),
        systems={
            str(system): _mean_rates([_rates(rater[systems == system], p[systems == system]) for p in by_instruction])
            for system in np.unique(systems)
        },
    )


def parts(groups: NDArray[np.str_], seed: int) -> Iterator[NDArray[np.bool_]]:
    """The rows of PART groups each, in an order drawn with a seed."""
    order = np.random.default_rng(1000 + seed).permutation(np.unique(groups))
    for start in range(0, len(order) - PART + 1, PART):
        yield np.isin(groups, order[start : start + PART])


def spread(values: Sequence[float], low_is_good: bool) -> Spread:
    """Over parts, to 3 places."""
    ends = (max(values), min(values)) if low_is_good else (min(values), max(values))
    return Spread(mean=round(float(np.mean(values)), 3), worst=round(ends[0], 3), best=round(ends[1], 3))


def _accuracy(predictions: Floats, labels: NDArray[np.bool_]) -> float:
    return float(np.mean((predictions >= 0.5) == labels))


def _rates(rater: Floats, predictions: Floats) -> SystemRate:
    return SystemRate(
        n=len(rater),
        rater=100 * float(rater.mean()),
        decided=100 * float((predictions >= 0.5).mean()),
        mean_probability=100 * float(predictions.mean()),
    )


def _mean_rates(rates: Sequence[SystemRate]) -> SystemRate:
    return SystemRate(
        n=rates[0].n,
        rater=round(rates[0].rater, 1),
        decided=round(float(np.mean([r.decided for r in rates])), 1),
        mean_probability=round(float(np.mean([r.mean_probability for r in rates])), 1),
    )
