"""The part of lm-eval's configuration that tasks with metrics of their own have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STDERR = "_stderr"
"""A standard error is a metric of its own after its score: it fills lm-eval's ± column."""
CI_LOW, CI_HIGH = "_ci_low", "_ci_high"
"""The ends of a score's 95 % interval, likewise."""


def with_metrics(config: Mapping[str, Any] | None, metrics: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A task's configuration with metrics whose values the task's class computes.

    Args:
        config: What its YAML says.
        metrics: As in lm-eval's `metric_list`.
    """
    own = {key: value for key, value in (config or {}).items() if key != "class"}
    # lm-eval looks metric names up unless `process_results` is callable
    return own | {"metric_list": list(metrics), "process_results": _of_the_class}


def _of_the_class(doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
    raise AssertionError("process_results of the class is called, not this")
