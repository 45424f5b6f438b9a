"""Recomputes published AlpacaEval 2 scores from published annotations, and measures the offline length control.

    python tools/check_published_scores.py FOLDER

FOLDER holds (.gz or not)
    instructions.json                     [{"index": 0, "model_shown_first": true}, ...]
    reference_gpt4_1106_preview.jsonl     {"index": 0, "output": "..."}
    preferences_ae2_gpt4_turbo.jsonl      {"model": "...", "index": 0, "output": "...", "preference": 1.5 (or null)}
    published_ae2.csv                     alpaca-eval's leaderboard: win_rate, standard_error, discrete_win_rate,
                                          length_controlled_winrate

Exit status 1 if a win rate differs from the published one by more than the preferences' rounding explains, if row
order or a missing row shifts a result, or if length control is off by more than 1.0 point on average.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_if.harness import stats
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LLM, WEAK, LengthPrior

Floats = NDArray[np.float64]

ROUNDING = 100 * 5e-7
"""Points by which preferences rounded to six digits may shift a score."""
METRICS = ("win_rate", "standard_error", "discrete_win_rate", "length_controlled_winrate", "n_total")
FLAT = LengthPrior("flat", -1.4, 0.15)
"""One mean whatever the win rate and the lengths: what the fitted prior is compared with."""
CONFOUNDING = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


@dataclass(frozen=True)
class Model:
    """One model's judged rows and its published line."""

    name: str
    ids: list[str]
    preferences: Floats
    lengths: Floats
    reference_lengths: Floats
    shown_first: Floats
    published: dict[str, float]

    def controlled(self, rows: Any = slice(None), **options: Any) -> float:
        estimate = stats.length_controlled_win_rate(
            self.preferences[rows],
            self.lengths[rows],
            self.reference_lengths[rows],
            self.shown_first[rows] if options.pop("order", True) else None,
            [str(i) for i in np.array(self.ids)[rows]],
            n_resamples=0,
            **options,
        )
        assert estimate.value is not None
        return estimate.value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    models = load(parser.parse_args().folder)
    failures = [*check_win_rates(models), *check_length_control(models), *check_rows(models)]
    report_prior(models)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def check_win_rates(models: list[Model]) -> Iterator[str]:
    """Published and alpaca-eval's own numbers against ours, in points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca_eval.metrics import get_winrate
    largest, to_alpaca_eval = dict.fromkeys(("win_rate", "standard_error", "discrete_win_rate"), 0.0), 0.0
    for model in models:
        plain, discrete = stats.win_rate(model.preferences), stats.discrete_win_rate(model.preferences)
        ours = {
            "win_rate": plain.value,
            "standard_error": plain.standard_error,
            "discrete_win_rate": discrete.value,
        }
        theirs = get_winrate([{"preference": p + 1} for p in model.preferences])
        if plain.n_judged != model.published["n_total"]:
            yield f"{model.name}: {plain.n_judged} judged rows, published {model.published['n_total']:.0f}"
        for metric, value in ours.items():
            assert value is not None
            largest[metric] = max(largest[metric], abs(value - model.published[metric]))
            to_alpaca_eval = max(to_alpaca_eval, abs(value - float(theirs[metric])))
    print(f"{len(models)} models; largest difference in points")
    for metric, difference in largest.items():
        print(f"  {metric:18} to the published: {difference:.1e}")
        if difference > ROUNDING:
            yield f"{metric} differs from the published by {difference}"
    print(f"  all three          to alpaca-eval's function on the same rows: {to_alpaca_eval:.1e}")
    if to_alpaca_eval > 1e-9:
        yield f"alpaca-eval's function gives another number, by {to_alpaca_eval}"


def check_length_control(models: list[Model]) -> Iterator[str]:
    print("\nlength-controlled win rate: published, ours with and without the order known, raw")
    errors = []
    for model in models:
        published = model.published["length_controlled_winrate"]
        known, unknown, raw = model.controlled(), model.controlled(order=False), 100 * model.preferences.mean()
        errors.append([known - published, unknown - published, raw - published])
        print(f"  {model.name:24} {published:6.2f} {known:6.2f} {unknown:6.2f} {raw:6.2f}")
    means = np.abs(errors).mean(axis=0)
    print(f"  mean error {means[0]:.2f} with, {means[1]:.2f} without; raw {means[2]:.2f}")
    if max(means[:2]) > 1:
        yield f"length control is off by {max(means[:2]):.2f} points on average"


def check_rows(models: list[Model]) -> Iterator[str]:
    """Shuffling must change nothing, leaving rows out no more than those rows can."""
    rng = np.random.default_rng(0)
    shifts = []
    for model in models:
        n = len(model.ids)
        if model.controlled(rng.permutation(n)) != model.controlled():
            yield f"{model.name}: shuffled rows change the length-controlled win rate"
        kept = np.sort(rng.permutation(n)[: n - 20])
        shifts.append(abs(model.controlled(kept) - model.controlled()))
    print(f"\nshuffled rows: no change; 20 rows left out: at most {max(shifts):.2f} points")
    if max(shifts) > 1:
        yield f"20 missing rows shift the length-controlled win rate by {max(shifts):.2f} points"


def report_prior(models: list[Model]) -> None:
    """Other priors on the same models. FLAT's mean and the confounding were chosen on them, the rest was not."""
    published = np.array([model.published["length_controlled_winrate"] for model in models])
    print("\nmean error with other priors")
    for prior in (GPT4_TURBO, LLM, WEAK, FLAT):
        errors = np.abs([model.controlled(prior=prior) for model in models] - published)
        print(f"  {prior.name:12} {errors.mean():5.2f} (largest {errors.max():.2f})")
    priors = [replace(GPT4_TURBO, confounding=sd) for sd in CONFOUNDING]
    errors = np.abs(np.array([[model.controlled(prior=prior) for prior in priors] for model in models]).T - published)
    print(
        "mean error by confounding:",
        ", ".join(f"{sd}: {e:.2f}" for sd, e in zip(CONFOUNDING, errors.mean(1), strict=True)),
    )
    chosen = [int(np.delete(errors, left_out, axis=1).mean(1).argmin()) for left_out in range(len(models))]
    print(
        f"  chosen without the model it is tried on ({', '.join(str(CONFOUNDING[i]) for i in sorted(set(chosen)))}): "
        f"{errors[chosen, range(len(models))].mean():.2f}"
    )


def load(folder: Path) -> list[Model]:
    shown = {row["index"]: bool(row["model_shown_first"]) for row in json.loads(_read(folder / "instructions.json"))}
    reference = {row["index"]: len(row["output"]) for row in _lines(folder / "reference_gpt4_1106_preview.jsonl")}
    rows = defaultdict(list)
    for row in _lines(folder / "preferences_ae2_gpt4_turbo.jsonl"):
        if row["preference"] is not None:
            rows[row["model"]].append(row)
    published = {line[""]: line for line in csv.DictReader(_read(folder / "published_ae2.csv").splitlines())}
    return [
        Model(
            name=name,
            ids=[f"{row['index']:05}" for row in judged],
            preferences=np.array([1.5 if row["preference"] == 0 else row["preference"] for row in judged]) - 1,
            lengths=np.array([float(len(row["output"])) for row in judged]),
            reference_lengths=np.array([float(reference[row["index"]]) for row in judged]),
            shown_first=np.array([float(shown[row["index"]]) for row in judged]),
            published={metric: float(published[name][metric]) for metric in METRICS},
        )
        for name, judged in sorted(rows.items())
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _read(path).split("\n") if line)


def _read(path: Path) -> str:
    zipped = path.with_name(path.name + ".gz")
    return gzip.decompress(zipped.read_bytes()).decode() if zipped.exists() else path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
