"""AlpacaEval 2's own length-controlled win rate, for runs whose `df_gamed.csv` from its hub dataset is at hand.

It is what alpaca-eval 0.6.6 computes (metrics/glm_winrate.py, "length_controlled_v1") with two repairs: an
instruction's difficulty is found by the instruction, not by the row's position, and rows are put in AlpacaEval's order
before the fit, so that shuffled or missing rows do not shift the result. On complete rows in order both are equal.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import REPOSITORY, REVISION
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.bootstrap import replicates
from implicit_if.harness.stats.intervals import score_interval
from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.stats.vectors import (
    Floats,
    as_preferences,
    as_vector,
    check_expected,
    check_lengths,
    check_level,
)
from implicit_if.harness.storage import cache_dir

METHOD = "alpaca_eval"
FILE = "df_gamed.csv"
FEWEST = 5
"""Instructions below which there is no value: the fit is cross-validated in five folds."""
_GAMED_WEIGHT = 0.2 / 2  # alpaca-eval's lambda over its two gamed baselines
_COLUMNS = ("index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")


@dataclass(frozen=True)
class Gamed:
    """The hub file: judged length-gamed baselines and each instruction's difficulty.

    Attributes:
        difficulty: `[m]` by AlpacaEval position.
        features: `[g, 3]`: tanh of the length difference, difficulty, 0 (a gamed baseline has no intercept).
        outcomes: `[g]` preferences in [0, 1].
    """

    difficulty: Floats
    features: Floats
    outcomes: Floats


def find_gamed() -> Path | None:
    """The hub file in our cache folder (put there by hand) or in Hugging Face's; None if in neither. No network."""
    from huggingface_hub import try_to_load_from_cache

    if (own := cache_dir() / FILE).is_file():
        return own
    for revision in (REVISION, None):  # alpaca-eval itself loads the newest
        found = try_to_load_from_cache(REPOSITORY, FILE, repo_type="dataset", revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def load_gamed(path: str | Path) -> Gamed:
    """Reads `df_gamed.csv`.

    Raises:
        UserError: If the file is missing or malformed, or its first rows do not run through the instructions in
            order, which is what alpaca-eval's lookup rests on.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
        index = [int(float(v)) for v in columns["index"]]
        delta, difficulty, outcomes = (
            np.array([float(v or "nan") for v in columns[name]])
            for name in ("std_delta_len", "instruction_difficulty", "preference")
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not AlpacaEval's {FILE} ({error!r}). Expected a CSV with the columns {', '.join(_COLUMNS)}; it "
            f"is in the dataset {REPOSITORY}."
        ) from error
    m = len(set(index))
    if not m or index[:m] != list(range(m)) or set(columns["not_gamed_baseline"]) != {"False"}:
        raise UserError(
            f"{path}: expected the first rows to hold the instructions 0 to n - 1 in order, and not_gamed_baseline to "
            f"be False everywhere, as in the {FILE} of the dataset {REPOSITORY}. Download it again."
        )
    known = np.isfinite(outcomes)
    features = np.column_stack([np.tanh(delta), difficulty, np.zeros(len(rows))])
    return Gamed(difficulty[:m], features[known], outcomes[known])


def alpaca_eval_length_controlled(
    preferences: ArrayLike,
    system_lengths: ArrayLike,
    reference_lengths: ArrayLike,
    positions: Sequence[int],
    gamed: Gamed,
    *,
    n_expected: int | None = None,
    level: float = 0.95,
    n_resamples: int = 200,
    seed: int = 0,
) -> Score:
    """AlpacaEval 2's length-controlled win rate, in percent.

    Args:
        preferences: `[n]` in [0, 1], no missing values.
        system_lengths: `[n]` characters of the system's answers.
        reference_lengths: `[n]` characters of the reference's answers, which must be AlpacaEval's own.
        positions: `[n]` each instruction's place in AlpacaEval, from 0, each once, in any order.
        gamed: See `load_gamed`.
        n_expected: Instructions in the set; `n` if not given.
        level: Nominal coverage of the interval.
        n_resamples: Bootstrap resamples, refitted at the regularisation chosen on all rows; 0 for the value alone.
        seed: Seed of the resampling.

    Returns:
        Percent. The standard error is the bootstrap's, not alpaca-eval's `lc_standard_error`, which leaves out that the
        coefficients are estimated. Equal lengths, where alpaca-eval divides by 0, count as no difference. Fewer than
        five instructions cannot be cross-validated and have no value.

    Raises:
        UserError: If a value is missing or out of range, vectors differ in length, or a position is unknown or twice.
    """
    check_level(level)
    y = as_preferences(preferences)
    system = as_vector(system_lengths, "system_lengths")
    reference = as_vector(reference_lengths, "reference_lengths")
    n, m = y.size, gamed.difficulty.size
    check_lengths(n, system_lengths=system, reference_lengths=reference, positions=positions)
    expected = check_expected(n, n_expected)
    if len(set(positions)) != n or not set(positions) <= set(range(m)):
        raise UserError(f"positions: expected each instruction's place in AlpacaEval, 0 to {m - 1}, each once.")
    if n < FEWEST:
        return Score.estimate(None, METHOD, n, expected)
    order = np.argsort(np.asarray(positions))
    y, delta, difficulty = y[order], (reference - system)[order], gamed.difficulty[np.sort(np.asarray(positions))]
    spread = delta.std(ddof=1)
    scaled = delta / spread if spread > 0 else np.zeros(n)
    fit = _Fit(np.column_stack([np.tanh(scaled), difficulty, np.ones(n)]), y, gamed)
    c, strength = fit.cross_validated()
    value = float(fit.controlled(c, np.ones(n)))
    if not n_resamples:
        return Score.estimate(100 * value, METHOD, n, expected)

    def statistic(weights: Floats) -> Floats:
        return np.array([fit.controlled(fit.refitted(w, strength), w) for w in weights])

    error = float(replicates(statistic, n, n_resamples, seed).std(ddof=1))
    low, high = score_interval(value, error, n, level)
    return Score.estimate(
        100 * value, f"{METHOD};score", n, expected, 100 * error, (100 * low, 100 * high), level, seed
    )


@dataclass(frozen=True)
class _Fit:
    features: Floats
    outcomes: Floats
    gamed: Gamed

    def cross_validated(self) -> tuple[Floats, float]:
        """Coefficients and the strength C that alpaca-eval's own routine chooses, gamed rows first as it has them."""
        import pandas as pd
        import sklearn

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its imports warn of what it uses
            from alpaca_eval.metrics.glm_winrate import fit_LogisticRegressionCV

        table = pd.DataFrame(np.vstack([self.gamed.features, self.features]), columns=["length", "difficulty", "model"])
        table["preference"] = np.concatenate([self.gamed.outcomes, self.outcomes])
        weights = self._weights(np.ones(len(self.outcomes)))
        with sklearn.config_context(), warnings.catch_warnings():  # the routine changes sklearn's global settings
            warnings.simplefilter("ignore")
            model = fit_LogisticRegressionCV(
                table, "preference", sample_weight=weights, is_ytrue_proba=True, n_splits=5
            )
        return np.asarray(model.coef_[0], dtype=np.float64), float(np.ravel(model.C_)[0])

    def refitted(self, weights: Floats, strength: float) -> Floats:
        """Coefficients for reweighted rows at a fixed C."""
        from sklearn.linear_model import LogisticRegression

        x = np.vstack([self.gamed.features, self.features])
        y = np.concatenate([self.gamed.outcomes, self.outcomes])
        w = self._weights(weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # newer releases prefer another spelling of this penalty, older ones know only this
            model: Any = LogisticRegression(
                C=strength, penalty="l1", solver="liblinear", fit_intercept=False, random_state=123
            )
            model.fit(np.vstack([x, x]), np.repeat([1, 0], len(y)), sample_weight=np.concatenate([w * y, w * (1 - y)]))
        return np.asarray(model.coef_[0], dtype=np.float64)

    def controlled(self, coefficients: Floats, weights: Floats) -> float:
        """Mean prediction without a length difference."""
        return float(np.average(sigmoid(self.features[:, 1:] @ coefficients[1:]), weights=weights))

    def _weights(self, weights: Floats) -> Floats:
        return np.concatenate([np.full(len(self.gamed.outcomes), _GAMED_WEIGHT), weights])


def positions_of(ids: Sequence[str], official: Sequence[str]) -> list[int]:
    """Each instruction's place in AlpacaEval.

    Args:
        ids: Instruction ids.
        official: The ids of AlpacaEval's 805 instructions in its order.

    Raises:
        UserError: If an id is not among them.
    """
    places = {instruction_id: place for place, instruction_id in enumerate(official)}
    unknown = [i for i in ids if i not in places]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(ids)} instructions are not in AlpacaEval, the first is {unknown[0]!r}. Expected "
            f"outputs for AlpacaEval; other sets have the offline length control."
        )
    return [places[i] for i in ids]
