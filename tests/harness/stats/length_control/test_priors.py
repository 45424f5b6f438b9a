"""The priors on a judge's taste for length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LLM, WEAK, LengthPrior, parse_prior


@pytest.mark.parametrize(
    ("judge", "prior"),
    [
        ("alpaca_eval:weighted_alpaca_eval_gpt4_turbo", GPT4_TURBO),
        ("weighted_alpaca_eval_gpt4_turbo", GPT4_TURBO),
        ("alpaca_eval:weighted_alpaca_eval_gpt4_turbo+other-model", LLM),
        ("openai:gpt-4.1-mini", LLM),
        ("human:sheet", LLM),
        ("reward:Skywork/Skywork-Reward-V2-Qwen3-8B", WEAK),
        ("embedded", WEAK),
        ("longest", WEAK),
        ("of-another-package", WEAK),
    ],
)
def test_priors_by_judge(judge: str, prior: LengthPrior) -> None:
    assert length_prior(judge) is prior


def test_an_impossible_prior_is_refused() -> None:
    for numbers in ({"sd": 0.0}, {"mean": math.nan}, {"confounding": -0.1}, {"confounding": math.inf}):
        with pytest.raises(UserError, match="the sd above 0, confounding 0 or more"):
            LengthPrior("x", **{"mean": -1.0, "sd": 0.2, **numbers})


def test_the_mean_follows_win_rate_and_lengths_within_the_known_range() -> None:
    prior = LengthPrior("x", -1.0, 0.2, by_win_rate=0.5, by_length=2.0)
    means = prior.means(np.array([0.5, 0.75, 0.0, 1.0, 0.5]), np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    assert means == pytest.approx([-1.0, -1.0 + 0.5 * math.log(3), -3.0, -0.375, -1.0 - 2 * 1.93])
    assert prior.slopes(0.75, 1.5) == pytest.approx((0.5 / (0.75 * 0.25), 2.0))
    assert prior.slopes(0.0, 0.0) == (0.0, 0.0)
    assert prior.slopes(1.0, 9.0) == (0.0, 0.0)


def test_as_a_command_line_gives_them() -> None:
    assert parse_prior("weak") is WEAK
    assert parse_prior("-1,0.25") == LengthPrior("-1,0.25", -1.0, 0.25)
    for wrong in ("strong", "1", "1,2,3", "a,b", "", "0,0", "nan,1", "0,inf"):
        with pytest.raises(UserError, match="length prior"):
            parse_prior(wrong)
