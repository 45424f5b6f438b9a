"""Metrics of the task: what each answer contributes, and how contributions become one number.

lm-eval hands an aggregation the list of one metric's per-answer values. Values are None where a verdict is missing:
they are left out and shown as `n_judged` below `n_expected`, never counted as losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from implicit_if.harness import answer_form, stats
from implicit_if.harness.columns import ATTEMPTS, FORM
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.outputs import Output
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.attempt_rate import THRESHOLD
from implicit_if.harness.stats.length_control.estimator_choice import control_length
from implicit_if.harness.thoughts import without_thoughts
from implicit_if.tasks.own_metrics import CI_HIGH, CI_LOW, STDERR

NOT_AVAILABLE = "N/A"
"""What lm-eval prints where there is no number."""


def answer_metrics(
    output: Output,
    reference: Output,
    preference: float | None,
    tags: Iterable[str],
    n_expected: int,
    attempt: tuple[float | None] | None = None,
) -> dict[str, Any]:
    """One answer's contributions, by metric.

    Args:
        output: The system's answer.
        reference: The reference's answer.
        preference: Of the judge for the system, in [0, 1]; None if unjudged.
        tags: Role tags of the chat template.
        n_expected: Instructions in the whole set.
        attempt: The probability that the answer is an attempt, None in it if undecided; None if no judge was asked.
    """
    percent = None if preference is None else 100 * preference
    pair = {
        "instruction_id": output.instruction_id,
        "preference": preference,
        "system_length": len(without_thoughts(output.output)),  # characters, as alpaca-eval counts them
        "reference_length": len(without_thoughts(reference.output)),
    }
    form = {name: measure(output, tuple(tags)) for name, measure in answer_form.MEASURES.items()}
    scores: dict[str, Any] = {"win_rate": percent, "length_controlled_win_rate": pair}
    if attempt is not None:
        scores = {ATTEMPTS: None if attempt[0] is None else 100.0 * (attempt[0] >= THRESHOLD)} | scores
    return {
        **{name + end: value for name, value in scores.items() for end in ENDINGS},
        # a model class that does not say how its answers ended has no such metric
        **{name: value for name, value in form.items() if value is not None},
        "n_judged": int(preference is not None),
        "n_expected": n_expected,
    }


def attempt_rate_of(percents: Sequence[float | None]) -> Score:
    """The attempt rate of every process's answers."""
    known = np.array([v for v in percents if v is not None], dtype=float)
    return stats.attempt_rate(known / 100, n_expected=len(percents))


def win_rate_of(percents: Sequence[float | None]) -> Score:
    """The win rate of every process's answers."""
    known = np.array([v for v in percents if v is not None], dtype=float)
    return stats.win_rate(known / 100, n_expected=len(percents))


def length_controlled_of(pairs: Sequence[Mapping[str, Any]], judge: str, instruction_set: str) -> Score:
    """The length-controlled win rate of every process's answers, in whatever order they come."""
    judged = [pair for pair in pairs if pair["preference"] is not None]
    keys = ("preference", "system_length", "reference_length", "instruction_id")
    preferences, lengths, reference_lengths, ids = ([pair[key] for pair in judged] for key in keys)
    return control_length(
        preferences,
        lengths,
        reference_lengths,
        ids,
        judge_prior=length_prior(judge),
        instruction_set=instruction_set,
        n_expected=len(pairs),
    ).estimate


def average(values: list[float]) -> float:
    """The mean; there is at least one answer."""
    return float(np.mean(values))


SCORES = (ATTEMPTS, "win_rate", "length_controlled_win_rate")
ENDINGS: dict[str, Callable[[Score], float | None]] = {
    "": lambda score: score.value,
    STDERR: lambda score: score.standard_error,
    CI_LOW: lambda score: None if score.interval is None else score.interval.low,
    CI_HIGH: lambda score: None if score.interval is None else score.interval.high,
}
"""What each score gives, by the end of the metric's name."""


def metric_list(aggregate: Callable[[str, list[Any]], Score]) -> list[dict[str, Any]]:
    """The task's metrics as lm-eval configures them.

    Args:
        aggregate: Gives a score from its name and every answer's contribution.
    """

    def value(name: str, part: Callable[[Score], float | None]) -> Callable[[list[Any]], float | str]:
        def aggregated(values: list[Any]) -> float | str:
            found = part(aggregate(name, values))
            return NOT_AVAILABLE if found is None else float(found)

        return aggregated

    metrics: list[tuple[str, Callable[[list[Any]], Any], bool | None]] = [
        (name + end, value(name, part), None if end else True) for name in SCORES for end, part in ENDINGS.items()
    ]
    metrics += [(column.name, average, column.higher_is_better) for column in FORM]
    metrics += [("n_judged", sum, None), ("n_expected", max, None)]
    return [{"metric": name, "aggregation": a, "higher_is_better": higher} for name, a, higher in metrics]
