from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from implicit_if.harness import stats
from implicit_if.harness.scores import Interval, Score, StoredScore
from implicit_if.harness.signature import Signature

SIGNATURE = "set:builtin|n:80|ref:base@0123abcd|judge:longest@89ef0123|orders:1|v:0.3.0"


def score(**changes: Any) -> Score:
    values: dict[str, Any] = {
        "value": 45.23,
        "interval": interval(43.53, 46.93),
        "n_judged": 80,
        "n_expected": 80,
        "signature": SIGNATURE,
    }
    return Score(**{**values, **changes})


def interval(low: float, high: float, **changes: Any) -> Interval:
    return Interval(**{"low": low, "high": high, "method": "bootstrap", "level": 0.95, "seed": 0, **changes})


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "45.2 ± 1.7 (n 80)"),
        ({"n_judged": 78}, "45.2 ± 1.7 (78 of 80 judged)"),
        ({"interval": None}, "45.2 (n 80)"),
        ({"value": 2.5, "interval": interval(0.8, 6.1)}, "2.5 [0.8, 6.1] (n 80)"),
        ({"value": 100.0, "interval": interval(95.4, 100)}, "100.0 [95.4, 100.0] (n 80)"),
        ({"value": None, "interval": None, "n_judged": 0}, "- (0 of 80 judged)"),
        ({"value": -3.0, "interval": interval(-4, -2)}, "-3.0 ± 1.0 (n 80)"),
    ],
)
def test_render(changes: dict[str, Any], shown: str) -> None:
    assert score(**changes).render() == shown


def test_render_with_more_digits() -> None:
    assert score(interval=interval(43.5, 46.9)).render(2) == "45.23 [43.50, 46.90] (n 80)"


def test_bracketed() -> None:
    told = score(value=45.23, interval=interval(43.5, 46.94))
    assert told.bracketed() == "45.2 [43.5, 46.9]"
    assert told.bracketed(0.84) == "45.2 ± 0.8 [43.5, 46.9]"
    assert score(value=45.23, interval=None).bracketed() == "45.2"
    assert score(value=None, interval=None, n_judged=0).bracketed(1.0) == "-"


def test_complete() -> None:
    assert score().complete
    assert not score(n_judged=79).complete


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": math.nan}, "finite"),
        ({"value": None}, "if and only if judged"),
        ({"n_judged": 0}, "if and only if judged"),
        ({"n_judged": 81}, "n_judged is 81"),
        ({"n_judged": 0, "value": None}, "interval without a value"),
        ({"signature": "win rate of the embedded judge"}, "not a signature"),
        ({"interval": -1.0}, "Interval"),
        ({"stderr": 1.0}, "Extra inputs"),
    ],
)
def test_scores_that_would_mislead_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        score(**changes)


@pytest.mark.parametrize("changes", [{"low": 2.0, "high": 1.0}, {"level": 95}, {"level": 0}, {"high": math.inf}])
def test_intervals_that_are_none_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        interval(**{"low": 1.0, "high": 2.0, **changes})


@given(st.floats(0, 100), st.floats(0, 50), st.floats(0, 50), st.integers(1, 10))
def test_scores_survive_json(value: float, below: float, above: float, n: int) -> None:
    one = score(value=value, interval=interval(value - below, value + above, seed=None), n_judged=n)
    assert Score.model_validate_json(one.model_dump_json()) == one


def test_a_statistic_is_stored_only_once_it_is_signed() -> None:
    found = stats.win_rate([0.0, 1.0, 0.5, 1.0])
    assert found.signature is None
    with pytest.raises(ValidationError, match="without a signature"):
        TypeAdapter(StoredScore).validate_python(found.model_dump())
    with pytest.raises(ValueError, match="without a signature"):
        found.settings  # noqa: B018
    signed = found.signed(Signature.parse(SIGNATURE))
    assert (signed.value, signed.standard_error, signed.interval) == (found.value, found.standard_error, found.interval)
    assert signed.settings.task == "alpaca_winrate"
    stored = signed.model_dump()
    assert set(stored) == {"value", "interval", "n_judged", "n_expected", "signature"}
    assert stored["signature"] == f"task:alpaca_winrate|{SIGNATURE}"
    assert TypeAdapter(StoredScore).validate_python(stored).signature == signed.signature
