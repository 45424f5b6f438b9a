"""What is measured of the embedded judge on the panel: win rates, their order, decided pairs, controls, run-ons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embedded_attempts_measures import Spread, parts, spread
from embedded_judge_panel import TUNED, weighed
from fit_embedded_attempts import Table
from numpy.typing import NDArray
from panel_data import PanelPair
from pydantic import BaseModel

from implicit_if.harness.controls import CONTROLS
from implicit_if.harness.judging.backends import embedded_attempts
from implicit_if.harness.judging.backends.embedded import QUALITY
from implicit_if.harness.stats import spearman
from implicit_if.harness.stats.length_control.logistic import sigmoid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PanelFit:
    """Predictions for the panel's pairs, and the answers that are measured with the shipped coefficients.

    Attributes:
        pairs: The panel's.
        by_instruction: `[n]` by fits without the pair's instruction, one a repeat.
        by_system: `[n]` by fits without the pair's system.
        table: The answers.
        controls: Control, instruction id and answer; `control_features` their features.
        run_ons: The place of an answer in the table, and it with a further turn; `run_on_features` likewise.
    """

    pairs: Sequence[PanelPair]
    by_instruction: Sequence[Floats]
    by_system: Floats
    table: Table
    controls: Sequence[tuple[str, str, str]]
    control_features: Floats
    run_ons: Sequence[tuple[int, str]]
    run_on_features: Floats


class PanelMeasured(BaseModel):
    """All measures; win rates in percent against the panel's reference.

    Attributes:
        n: Pairs.
        decided: Pairs on which the rater prefers one; `majority` the accuracy of always naming the reference.
        accuracy: On decided pairs, by fits without the instruction; `by_system_accuracy` without the system.
        win_rate_error, rho: Over systems on all of the panel's instructions, mean over repeats; `by_system_` likewise.
        parts: The same on parts of 20 instructions.
        systems: By name, the rater's win rate, the predicted one, and the one by fits without the system.
        controls: By label, win rate against the reference and against the rules, by the shipped coefficients; tuned
            systems among them.
        run_on: Mean probability that a reference answer beats itself with a further turn; `run_on_wins` how often.
    """

    n: int
    decided: int
    majority: float
    accuracy: float
    by_system_accuracy: float
    win_rate_error: float
    rho: float
    by_system_win_rate_error: float
    by_system_rho: float
    parts: dict[str, Spread]
    systems: dict[str, tuple[float, float, float]]
    controls: dict[str, tuple[float, float]]
    run_on: float
    run_on_wins: float


def measure_panel(fit: PanelFit, weights: Floats) -> PanelMeasured:
    """All measures; `weights` `[k]` are the shipped coefficients for features in their units."""
    labels = np.array([p.preference for p in fit.pairs])
    instructions = np.array([p.instruction_id for p in fit.pairs])
    systems = np.array([p.system for p in fit.pairs])
    found: dict[str, list[float]] = {"decided pairs": [], "win rate error": [], "rho": []}
    for seed, predictions in enumerate(fit.by_instruction):
        for part in parts(instructions, seed):
            error, rho = _order(labels[part], predictions[part], systems[part])
            found["decided pairs"].append(_accuracy(labels[part], predictions[part]))
            found["win rate error"].append(error)
            found["rho"].append(rho)
    whole = [_order(labels, predictions, systems) for predictions in fit.by_instruction]
    alone = _order(labels, fit.by_system, systems)
    mean = np.mean(fit.by_instruction, axis=0)
    decided = labels[labels != 0.5]
    run_on = _run_on(fit, weights)
    return PanelMeasured(
        n=len(labels),
        decided=len(decided),
        majority=round(float(max((decided > 0.5).mean(), (decided < 0.5).mean())), 3),
        accuracy=round(float(np.mean([_accuracy(labels, p) for p in fit.by_instruction])), 3),
        by_system_accuracy=round(_accuracy(labels, fit.by_system), 3),
        win_rate_error=round(float(np.mean([error for error, _ in whole])), 1),
        rho=round(float(np.mean([rho for _, rho in whole])), 2),
        by_system_win_rate_error=round(alone[0], 1),
        by_system_rho=round(alone[1], 2),
        parts={name: spread(values, name == "win rate error") for name, values in found.items()},
        systems={
            str(s): (
                _percent(labels[systems == s]),
                _percent(mean[systems == s]),
                _percent(fit.by_system[systems == s]),
            )
            for s in np.unique(systems)
        },
        controls=_controls(fit, weights),
        run_on=round(float(run_on.mean()), 3),
        run_on_wins=round(float((run_on > 0.5).mean()), 3),
    )


def _order(labels: Floats, predictions: Floats, systems: NDArray[np.str_]) -> tuple[float, float]:
    """Mean error of win rates over systems in points, and the rank correlation."""
    rates = [(100 * labels[systems == s].mean(), 100 * predictions[systems == s].mean()) for s in np.unique(systems)]
    error = float(np.mean([abs(a - b) for a, b in rates]))
    return error, spearman([a for a, _ in rates], [b for _, b in rates]) or 0.0


def _accuracy(labels: Floats, predictions: Floats) -> float:
    rows = labels != 0.5
    return float((0.5 + 0.5 * np.sign((labels[rows] - 0.5) * (predictions[rows] - 0.5))).mean())


def _scores(fit: PanelFit, weights: Floats) -> dict[tuple[str, str], float]:
    """By system and instruction, with the shipped ensembles."""
    table = fit.table
    models = [embedded_attempts.read_config(path).model for path in (embedded_attempts.CONFIG, QUALITY)]
    rows = [dict(zip(table.names, row, strict=True)) for row in table.x.tolist()]
    attempts, quality = (np.array([model.predict(row) for row in rows]) for model in models)
    scores = weighed(table.names, table.x, embedded_attempts.calibrated(attempts), quality) @ weights
    return {(a.system, a.instruction_id): float(s) for a, s in zip(table.answers, scores, strict=True)}


def _controls(fit: PanelFit, weights: Floats) -> dict[str, tuple[float, float]]:
    scores = _scores(fit, weights)
    rows: dict[str, dict[str, float]] = {
        system: {key: score for (name, key), score in scores.items() if name == system} for system in (*TUNED, "base")
    }
    for (control, key, _), score in zip(fit.controls, fit.control_features @ weights, strict=True):
        rows.setdefault(CONTROLS[control], {})[key] = float(score)
    return {name: (_against(own, rows["instruction"]), _against(own, rows["rules"])) for name, own in rows.items()}


def _against(own: dict[str, float], other: dict[str, float]) -> float:
    return _percent(sigmoid(np.array([own[key] - other[key] for key in own if key in other])))


def _run_on(fit: PanelFit, weights: Floats) -> Floats:
    scores = _scores(fit, weights)
    own = [fit.table.answers[place] for place, _ in fit.run_ons]
    differences = np.array([scores[a.system, a.instruction_id] for a in own]) - fit.run_on_features @ weights
    probabilities: Floats = sigmoid(differences)
    return probabilities


def _percent(values: Floats) -> float:
    return round(100 * float(np.mean(values)), 1)
