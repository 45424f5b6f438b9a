"""What is said beside a length-controlled win rate."""

from __future__ import annotations

import numpy as np
import pytest

from implicit_if.harness import stats
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.length_control.estimator_choice import LengthControl, cause, control_length, departure
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LLM, WEAK, LengthPrior

LAST: dict[str, float] = {}
"""The win rate of the verdicts that `control` last made."""


def control(
    n: int, rate: float, ratio: float, prior: LengthPrior, seed: int = 0, runaway: bool = False
) -> LengthControl:
    """Verdicts that do not depend on lengths, of answers `ratio` times as long as the reference's."""
    rng = np.random.default_rng(seed)
    reference = rng.lognormal(6.8, 0.3, n).round()
    system = (reference * ratio * rng.lognormal(0, 0.1, n)).round()
    if runaway:
        system[3] = 100_000
    ids = [f"id{i}" for i in range(n)]
    y = (rng.random(n) < rate).astype(float)
    LAST["win_rate"] = float(stats.win_rate(y).value or 0)
    return control_length(y, system, reference, ids, judge_prior=prior, instruction_set="mine")


def test_where_the_prior_decides_it_is_said_with_what_the_verdicts_give() -> None:
    """A system a third as long, at 33 %, under a prior that does not fit its judge."""
    found = control(80, 0.33, 0.33, LengthPrior("llm", -2.5, 0.2))
    assert len(found.notes) == 1
    assert "the prior llm decides: these verdicts alone give" in found.notes[0]
    assert "differs from the win rate" in found.notes[0]
    assert f"note: {found.notes[0]}" in found.render()
    assert found.as_dict()["notes"] == list(found.notes)


@pytest.mark.parametrize(
    ("win_rate", "controlled", "alone", "said"),
    [
        (33.0, 54.0, 36.0, "the prior llm decides: these verdicts alone give 36.0"),
        (33.0, 54.0, 33.0, "the prior llm decides"),
        (33.0, 54.0, 50.0, "go with the answers' lengths"),
        (20.0, 40.0, 60.0, "go with the answers' lengths"),
        (60.0, 30.0, 70.0, "the prior llm decides"),
        (60.0, 30.0, None, "go with the answers' lengths"),
    ],
)
def test_the_greater_part_of_the_way_is_the_cause(
    win_rate: float, controlled: float, alone: float | None, said: str
) -> None:
    assert said in cause(win_rate, controlled, alone, "llm")


@pytest.mark.parametrize(
    ("n", "rate", "ratio", "prior"), [(805, 0.5, 1.0, GPT4_TURBO), (80, 0.4, 1.1, LLM), (200, 0.1, 0.9, WEAK)]
)
def test_nothing_is_said_where_lengths_hardly_matter(n: int, rate: float, ratio: float, prior: LengthPrior) -> None:
    assert control(n, rate, ratio, prior).notes == ()


@pytest.mark.parametrize("seed", range(24))
def test_no_lc_leaves_its_interval_without_a_note(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = control(40, rng.uniform(0.05, 0.9), rng.uniform(0.2, 4), [GPT4_TURBO, LLM, WEAK][seed % 3], seed)
    low, high = found.estimate.interval.ends  # type: ignore[union-attr]
    assert low <= LAST["win_rate"] <= high or any(f"the win rate {LAST['win_rate']:.1f}" in n for n in found.notes)


def test_a_far_answer_is_named() -> None:
    found = control(80, 0.4, 1.0, WEAK, runaway=True)
    assert "id3 (100000 characters, the reference's" in found.notes[0]
    assert control(80, 0.4, 1.0, WEAK).notes == ()


@pytest.mark.parametrize(
    ("win_rate", "value", "ends", "said"),
    [
        (33.0, 54.0, (44.0, 63.0), "LC 54.0 differs from the win rate 33.0 by more than its interval [44.0, 63.0]"),
        (44.0, 54.0, (44.0, 63.0), None),
        (None, 54.0, (44.0, 63.0), None),
        (33.0, 54.0, None, None),
        (70.0, 54.0, (44.0, 63.0), "LC 54.0 differs from the win rate 70.0 by more than its interval [44.0, 63.0]"),
    ],
)
def test_departure(win_rate: float | None, value: float, ends: tuple[float, float] | None, said: str | None) -> None:
    assert departure(win_rate, Score.estimate(value, "x", 80, 80, 1.0, ends)) == said
