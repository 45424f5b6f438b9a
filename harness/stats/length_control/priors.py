"""What is known of a judge's taste for length before its verdicts are seen: the prior of the length control.

One system's verdicts alone often cannot tell length from quality (its answers may always be shorter), so what other
verdicts of the same judge say about length is put in as a prior. It is a property of the judge, and part of the
estimator's signature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.stats.vectors import Floats

_LOGIT_RANGE = (-4.0, 1.25)
"""Logits of the win rates that `GPT4_TURBO` was derived from (1.8 to 78 %); beyond, the nearest is taken."""
_RATIO_RANGE = (-1.93, 0.49)
"""Log ratios of mean lengths, system to reference, likewise."""


@dataclass(frozen=True)
class LengthPrior:
    """A normal prior on the length coefficient: log-odds for tanh(length difference / sd), reference minus system.

    A taste for long answers is negative. Its mean is `mean + by_win_rate * logit(win rate) + by_length * log(mean
    length of the system's answers / of the reference's)`.

    Attributes:
        name: How signatures call it.
        mean: At a win rate of one half and equal mean lengths.
        sd: Standard deviation around the mean.
        by_win_rate: See above.
        by_length: See above.
        confounding: Standard deviation, around 0, of what else goes with length in one system's verdicts, on the same
            scale: where its answers are shorter the instructions may be harder. The length control leaves it in the
            win rate. 0: whatever goes with length is taken for the judge's taste.
    """

    name: str
    mean: float
    sd: float
    by_win_rate: float = 0.0
    by_length: float = 0.0
    confounding: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.sd < math.inf and 0 <= self.confounding < math.inf):
            raise UserError(
                f"length prior: found mean {self.mean}, sd {self.sd}, confounding {self.confounding}. Expected finite "
                f"numbers, the sd above 0, confounding 0 or more."
            )

    def means(self, win_rates: Floats, length_ratios: Floats) -> Floats:
        """`[r]` prior means for `[r]` win rates (fractions) and `[r]` ratios of mean lengths; both may be 0."""
        with np.errstate(divide="ignore"):
            logits = np.clip(np.log(win_rates) - np.log1p(-win_rates), *_LOGIT_RANGE)
            ratios = np.clip(np.log(length_ratios), *_RATIO_RANGE)
        return np.asarray(self.mean + self.by_win_rate * logits + self.by_length * ratios)

    def slopes(self, win_rate: float, length_ratio: float) -> tuple[float, float]:
        """Derivatives of the mean by the win rate and by the log length ratio; 0 beyond the known range."""
        logit = math.log(win_rate / (1 - win_rate)) if 0 < win_rate < 1 else math.inf
        ratio = math.log(length_ratio) if 0 < length_ratio < math.inf else math.inf
        inside = _LOGIT_RANGE[0] < logit < _LOGIT_RANGE[1], _RATIO_RANGE[0] < ratio < _RATIO_RANGE[1]
        by_rate = self.by_win_rate / (win_rate * (1 - win_rate)) if inside[0] else 0.0
        return by_rate, self.by_length if inside[1] else 0.0


_CONFOUNDING = 0.3
"""What goes with length beside the judge's taste. Fitted freely to 12 models' published verdicts, the coefficient
differs from the published one by 0.49 more than sampling explains (maximum likelihood; 95 % profile interval 0.23 to
0.96), more so for terse strong models: their verdicts alone claim too great a taste. Of the values in that interval,
this one leaves the least error in LC (docs/methods.md)."""

GPT4_TURBO = LengthPrior("gpt4-turbo", -0.88, 0.16, by_win_rate=0.11, by_length=0.32, confounding=_CONFOUNDING)
"""AlpacaEval 2's judge. Regression over the length coefficients that alpaca-eval publishes for 182 models, made
marginal over the instructions' difficulty; the sd is what is left (`tools/fit_length_prior.py`)."""

LLM = LengthPrior("llm", -0.88, 0.4, by_win_rate=0.11, by_length=0.32, confounding=_CONFOUNDING)
"""Other language models, and people: the same taste, less surely. alpaca-eval's evaluators prefer the longer answer in
51 to 79 % of pairs (GPT-4 Turbo 61 %, people 64 %; evaluators_leaderboard.csv of 0.6.6), and the coefficients published
for Llama-3-70B as judge differ from GPT-4 Turbo's on the same models by 0.4 (root mean square over 3)."""

WEAK = LengthPrior("weak", 0.0, 1.0)
"""Any other judge: nothing is known, so the verdicts decide (no confounding: what goes with length is taken for taste).
With this sd, GPT-4 Turbo's taste is no surprise."""

PRIORS = {prior.name: prior for prior in (GPT4_TURBO, LLM, WEAK)}
"""By name, as judges' configurations and command lines call them."""


def parse_prior(text: str) -> LengthPrior:
    """A prior as a command line gives it: "gpt4-turbo", "llm", "weak", or "MEAN,SD" (without confounding).

    Raises:
        UserError: If it is neither.
    """
    if text in PRIORS:
        return PRIORS[text]
    parts = text.split(",")
    try:
        mean, sd = (float(part) for part in parts)
    except ValueError:
        raise UserError(
            f"length prior {text!r}: expected {', '.join(PRIORS)}, or mean and sd of the length coefficient, "
            f"--length-prior=-1,0.3."
        ) from None
    return LengthPrior(f"{mean:g},{sd:g}", mean, sd)
