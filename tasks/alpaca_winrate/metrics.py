"""Metrics of the task: what each answer contributes, and how contributions become one number.

lm-eval hands an aggregation the list of one metric's per-answer values. Values are None where a verdict is missing:
they are left out and shown as `n_judged` below `n_expected`, never counted as losses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from implicit_if.harness import answer_form, stats
from implicit_if.harness.columns import FORM
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.outputs import Output
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.length_control.estimator_choice import control_length

NOT_AVAILABLE = "N/A"
"""What lm-eval prints where there is no number."""


def answer_metrics(
    output: Output,
    reference: Output,
    preference: float | None,
    tags: Iterable[str],
    n_expected: int,
    *,
    judge: str,
    instruction_set: str,
) -> dict[str, Any]:
    """One answer's contributions, by metric.

    Args:
        output: The system's answer.
        reference: The reference's answer.
        preference: Of the judge for the system, in [0, 1]; None if unjudged.
        tags: Role tags of the chat template.
        n_expected: Instructions in the whole set.
        judge: The judge's name, on which length control depends.
        instruction_set: The instruction set's name, likewise.
    """
    pair = pair_lengths(output, reference, preference) | {"judge": judge, "instruction_set": instruction_set}
    percent = None if preference is None else 100 * preference
    form = {name: measure(output, tuple(tags)) for name, measure in answer_form.MEASURES.items()}
    return {
        "win_rate": percent,
        "win_rate_stderr": percent,
        "length_controlled_win_rate": pair,
        "length_controlled_win_rate_stderr": pair,
        # a model class that does not say how its answers ended has no such metric
        **{name: value for name, value in form.items() if value is not None},
        "n_judged": int(preference is not None),
        "n_expected": n_expected,
    }


def pair_lengths(output: Output, reference: Output, preference: float | None) -> dict[str, Any]:
    """What length control needs of one pair; lengths are characters, as alpaca-eval counts them."""
    return {
        "instruction_id": output.instruction_id,
        "preference": preference,
        "system_length": len(output.output),
        "reference_length": len(reference.output),
    }


def length_controlled(pairs: Sequence[dict[str, Any]]) -> Score:
    """The length-controlled win rate of judged pairs; the same for any order of the rows."""
    keys = ("instruction_id", "preference", "system_length", "reference_length")
    judged = sorted(tuple(pair[key] for key in keys) for pair in pairs if pair["preference"] is not None)
    return _fit(tuple(judged), pairs[0]["judge"], pairs[0]["instruction_set"], len(pairs))


@functools.lru_cache(maxsize=2)  # asked once for the value and once for its standard error
def _fit(judged: tuple[tuple[Any, ...], ...], judge: str, instruction_set: str, n_expected: int) -> Score:
    ids, preferences, lengths, reference_lengths = zip(*judged, strict=True) if judged else ((), (), (), ())
    return control_length(
        np.array(preferences, dtype=float),
        np.array(lengths, dtype=float),
        np.array(reference_lengths, dtype=float),
        ids,
        judge_prior=length_prior(judge),
        instruction_set=instruction_set,
        n_expected=n_expected,
    ).estimate


def _judged(values: Iterable[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([v for v in values if v is not None], dtype=float)


def _win_rate(values: list[float | None]) -> float | str:
    return _or_na(stats.win_rate(_judged(values) / 100).value)


def _win_rate_stderr(values: list[float | None]) -> float | str:
    return _or_na(stats.win_rate(_judged(values) / 100).standard_error)


def _length_controlled(pairs: list[dict[str, Any]]) -> float | str:
    return _or_na(length_controlled(pairs).value)


def _length_controlled_stderr(pairs: list[dict[str, Any]]) -> float | str:
    return _or_na(length_controlled(pairs).standard_error)


def _or_na(value: float | None) -> float | str:
    return NOT_AVAILABLE if value is None else value


def average(values: list[float]) -> float:
    """The mean; there is at least one answer."""
    return float(np.mean(values))


METRICS: list[tuple[str, Callable[[list[Any]], Any], bool]] = [
    ("win_rate", _win_rate, True),
    ("win_rate_stderr", _win_rate_stderr, False),
    ("length_controlled_win_rate", _length_controlled, True),
    ("length_controlled_win_rate_stderr", _length_controlled_stderr, False),
    *((column.name, average, bool(column.higher_is_better)) for column in FORM),
    ("n_judged", sum, True),
    ("n_expected", max, True),
]
"""Metric, aggregation, whether higher is better. A standard error follows its metric: it fills lm-eval's ± column."""
