"""Derives `harness/stats/length_control/priors.py`'s prior on GPT-4 Turbo's taste for length from published scores.

    python tools/fit_length_prior.py baseline_gpt4_1106_preview.csv [--without MODEL ...]

The file is in alpaca-eval's repository, under
src/alpaca_eval/metrics/weights/weighted_alpaca_eval_gpt4_turbo/length_controlled_v1: for each model the coefficients of
its length control, logit P = b tanh(length difference) + g difficulty + t. Win rates and lengths come from the
leaderboard in the installed alpaca-eval. No verdict is read.

Difficulty is hidden from the offline estimator, so b is made marginal over it: times the slope, at the model's t, of
the logit of the mean of P over difficulty. Difficulty is taken as normal, with the mean and the deviation that best
give back the published length-controlled win rates. The marginal b is then regressed on the logit of the raw win rate
and the log ratio of mean lengths.

At last the offline estimator is tried on verdicts simulated from each model's coefficients: 805 made-up lengths, and
difficulties that fall with the reference's length (correlation -0.33, about what verdicts show). What real verdicts
have beyond this model is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.stats.length_control.offline_model import length_controlled_win_rate
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO

Floats = NDArray[np.float64]

BOARD = "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
REFERENCE = "gpt4_1106_preview"
NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
SHARES = _WEIGHTS / _WEIGHTS.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--without", nargs="*", default=[], metavar="MODEL", help="models to leave out")
    options = parser.parse_args()
    table = read(options.weights)
    table = table[~table.index.isin(options.without)]
    mean, deviation = difficulty(table)
    rates, ratios = logit(table["win_rate"].to_numpy() / 100), table["log_ratio"].to_numpy()
    features = np.column_stack([np.ones(len(table)), rates, ratios])
    marginal = table["b"].to_numpy() * slopes(table["g"].to_numpy(), table["t"].to_numpy(), mean, deviation)
    coefficients = np.linalg.lstsq(features, marginal, rcond=None)[0]
    left = marginal - features @ coefficients
    print(f"{len(table)} models; difficulty N({mean:.3f}, {deviation:.3f}^2)")
    print("mean {:.3f}, by_win_rate {:.3f}, by_length {:.3f}".format(*coefficients), f"sd {left.std(ddof=3):.3f}")
    print(f"logits of win rates {rates.min():.2f} to {rates.max():.2f}; log ratios {ratios.min():.2f}", end="")
    print(f" to {ratios.max():.2f}")
    report_simulation(table, mean, deviation)


def read(weights: Path) -> pd.DataFrame:
    """Coefficients b, g, t, win rates and log ratios of lengths, of honest models only."""
    spec = importlib.util.find_spec("alpaca_eval")
    assert spec is not None
    assert spec.origin is not None
    board = pd.read_csv(Path(spec.origin).parent / BOARD, index_col=0)
    table = pd.read_csv(weights, index_col=0).set_axis(["b", "g", "t"], axis=1)
    table = table[~table.index.duplicated(keep="last")].join(board, how="inner")
    table["log_ratio"] = np.log(table["avg_length"] / board.loc[REFERENCE, "avg_length"])
    return table[(table["t"] != 0) & ~table.index.str.contains("gamed|NullModel|example")]


def difficulty(table: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation with which the coefficients give the published length-controlled win rates."""
    g, t = table["g"].to_numpy(), table["t"].to_numpy()
    published = table["length_controlled_winrate"].to_numpy()

    def errors(at: Any) -> Floats:
        return np.asarray(100 * mean_over_difficulty(t, g, at[0], at[1]) - published)

    fit = least_squares(errors, [0.0, 2.0])
    print(f"published length-controlled win rates are given back within {np.abs(fit.fun).mean():.2f} points on average")
    return float(fit.x[0]), float(fit.x[1])


def report_simulation(table: pd.DataFrame, mean: float, deviation: float, n: int = 805) -> None:
    """Mean error of the offline estimator on simulated verdicts, by the true length-controlled win rate."""
    rng = np.random.default_rng(0)
    size = rng.standard_normal(n)
    reference = np.exp(7.4 + 0.7 * size).round()
    hidden = -0.33 * size + math.sqrt(1 - 0.33**2) * rng.standard_normal(n)
    truth, errors = [], []
    for row in table.itertuples():
        lengths = np.exp(0.7 * size + rng.normal(0, 0.6, n))
        lengths = (lengths / lengths.mean() * reference.mean() * math.exp(row.log_ratio)).round()
        difference = reference - lengths
        level = row.t + row.g * (mean + deviation * hidden)
        verdicts = sigmoid(row.b * np.tanh(difference / difference.std(ddof=1)) + level)
        found = length_controlled_win_rate(verdicts, lengths, reference, n_resamples=0, prior=GPT4_TURBO).value
        truth.append(100 * float(sigmoid(level).mean()))
        errors.append(abs((found or 0.0) - truth[-1]))
    table = pd.DataFrame({"true": truth, "error": errors})
    bins = table.groupby(pd.cut(table["true"], [0, 10, 20, 30, 45, 100]), observed=True)["error"]
    print(f"on simulated verdicts: mean error {np.mean(errors):.2f}, largest {max(errors):.2f}; by true win rate")
    print(bins.agg(["size", "mean"]).round(2).to_string())


def mean_over_difficulty(t: Floats, g: Floats, mean: float, deviation: float) -> Floats:
    """Mean of P over difficulty, at equal lengths."""
    return np.asarray(sigmoid(t[:, None] + np.outer(g, mean + deviation * NODES)) @ SHARES)


def slopes(g: Floats, t: Floats, mean: float, deviation: float, step: float = 0.05) -> Floats:
    """By how much the logit of that mean rises with t."""
    high, low = (logit(mean_over_difficulty(t + h, g, mean, deviation)) for h in (step, -step))
    return (high - low) / (2 * step)


def logit(p: Floats) -> Floats:
    return np.asarray(np.log(p / (1 - p)))


if __name__ == "__main__":
    main()
