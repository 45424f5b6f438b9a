"""Fits the embedded judge on published preferences and corrupted answers, measures it, writes its file and its card.

    python tools/fit_embedded_judge.py FOLDER

FOLDER holds (.gz or not)
    instructions.json                     [{"index": 0, "instruction": "..."}, ...]
    reference_text_davinci_003.jsonl      {"index": 0, "output": "..."}
    preferences_ae1_gpt4.jsonl            {"model": "...", "index": 0, "output": "...", "preference": 1 to 2 (or null)}
    reference_gpt4_1106_preview.jsonl, preferences_ae2_gpt4_turbo.jsonl   the same against a strong reference

Writes harness/judging/configs/embedded.json and docs/judges/embedded.md: numbers only, no text of the data. The same
data give the same files. Takes about 15 minutes on one thread. Controls and time on the card are those of `implicit-if
judge-card embedded`: measure them again after a new fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from embedded_judge_card import measure, page
from embedded_judge_data import Data, Pair, control_pairs, corruption_pairs, implied_pairs, judged_pairs, read_data
from numpy.typing import NDArray

from implicit_if.harness.judging.backends.embedded import CONFIG, Coefficient, Config, answer_features
from implicit_if.harness.judging.cards.cli import load_measured
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder
from implicit_if.harness.judging.text_features import FEATURES_VERSION
from implicit_if.harness.stats.length_control.logistic import fit as fit_logistic
from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.storage import atomic_write, write_json

Floats = NDArray[np.float64]

VERSION = "1"
CARD = Path(__file__).resolve().parents[1] / "docs" / "judges" / "embedded.md"
SHARES = {"ae1": 1.0, "ae2": 0.5, "implied": 1.0, "corruption": 1.0}
"""What the sources weigh in the fit: pairs against GPT-4 half, being furthest from the judge's use."""
COMPARISONS = 10_000
"""The comparisons that a share of 1 counts as, however many it has, against the prior."""
PRIOR_SD = 0.3
FOLDS = 5


def feature_differences(pairs: Sequence[Pair], data: Data, embedder: SentenceEmbedder) -> tuple[list[str], Floats]:
    """Names, and `[n, k]` differences between the first and the second answer's features, in their units."""
    known: dict[tuple[int, str], list[float]] = {}
    names: list[str] = []
    texts = sorted({(p.index, text) for p in pairs for text in (p.first, p.second)}, key=lambda t: (t[1], t[0]))
    for count, (index, text) in enumerate(texts, start=1):  # sorted by text: equal texts are embedded once
        values = answer_features(data.instructions[index], text, embedder)
        names = list(values)
        known[index, text] = list(values.values())
        if count % 2000 == 0:
            print(f"features of {count} of {len(texts)} answers", file=sys.stderr, flush=True)
    first = np.array([known[p.index, p.first] for p in pairs])
    return names, first - np.array([known[p.index, p.second] for p in pairs])


def pair_weights(pairs: Sequence[Pair]) -> Floats:
    """What each pair weighs in a fit."""
    sizes = {source: sum(p.source == source for p in pairs) for source in SHARES}
    return np.array([COMPARISONS * SHARES[p.source] / sizes[p.source] if p.source in SHARES else 0.0 for p in pairs])


def fit(differences: Floats, labels: Floats, weights: Floats) -> Floats:
    """Coefficients `[k]` of standardised differences."""
    rows = weights > 0
    prior = np.full(differences.shape[1], PRIOR_SD)
    fits = fit_logistic(differences[rows], labels[rows], weights[None, rows], np.zeros_like(prior), prior)
    coefficients: Floats = fits[0]
    return coefficients


def held_out(pairs: Sequence[Pair], differences: Floats, weights: Floats) -> Floats:
    """Each pair's prediction by a fit that saw neither its instruction nor any answer of its families of models."""
    labels = np.array([p.label for p in pairs])
    order = np.random.default_rng(0).permutation(max(p.index for p in pairs) + 1)
    folds = np.array([order[p.index] % FOLDS for p in pairs])
    groups = sorted({p.families for p in pairs}, key=sorted)
    predictions = np.full(len(pairs), np.nan)
    for group in groups:
        free = np.array([not (p.families & group) for p in pairs])
        mine = np.array([p.families == group for p in pairs])
        for fold in range(FOLDS):
            rows = mine & (folds == fold)
            if rows.any():
                coefficients = fit(differences, labels, weights * (free & (folds != fold)))
                predictions[rows] = sigmoid(differences[rows] @ coefficients)
    return predictions


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--card", type=Path, default=CARD)
    options = parser.parse_args(arguments)

    data = read_data(options.folder)
    pairs = [*judged_pairs(data), *implied_pairs(data), *corruption_pairs(data), *control_pairs(data)]
    embedder = SentenceEmbedder(kept=100_000)
    names, differences = feature_differences(pairs, data, embedder)
    scales = differences.std(axis=0)
    scales[scales == 0] = 1.0
    weights = pair_weights(pairs)
    labels = np.array([p.label for p in pairs])
    coefficients = fit(differences / scales, labels, weights)
    print("held-out fits", file=sys.stderr, flush=True)
    measured = measure(pairs, held_out(pairs, differences / scales, weights))
    config = Config(
        version=VERSION,
        features_version=FEATURES_VERSION,
        coefficients={
            name: Coefficient(weight=round(float(weight), 4), scale=round(float(scale), 4))
            for name, weight, scale in zip(names, coefficients, scales, strict=True)
        },
        fit={
            "files": data.files,
            "pairs": {source: sum(p.source == source for p in pairs) for source in SHARES},
            "shares": SHARES,
            "comparisons": COMPARISONS,
            "prior_sd": PRIOR_SD,
            "folds": FOLDS,
            "measured": measured.model_dump(mode="json"),
        },
    )
    write_json(options.config, config.model_dump(mode="json"))
    with atomic_write(options.card) as file:
        file.write(page(load_measured(options.card.with_suffix(".json")), options.config))
    print(options.card.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
