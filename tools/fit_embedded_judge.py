"""Fits the embedded judge on published preferences, corruptions, controls and a panel; measures it; writes its card.

    python tools/fit_embedded_judge.py FOLDER PANEL LIMA [--cache FILE]

FOLDER holds (.gz or not)
    instructions.json                     [{"index": 0, "instruction": "..."}, ...]
    reference_text_davinci_003.jsonl      {"index": 0, "output": "..."}
    preferences_ae1_gpt4.jsonl            {"model": "...", "index": 0, "output": "...", "preference": 1 to 2 (or null)}
    reference_gpt4_1106_preview.jsonl, preferences_ae2_gpt4_turbo.jsonl   the same against a strong reference
PANEL and LIMA are those of `fit_embedded_attempts.py`, which is run first: this fit reads its two files.

Writes harness/judging/configs/embedded.json and docs/judges/embedded.md: numbers only, no text of the data. The same
data give the same files. Takes about 40 minutes on one thread. Controls and time on the card are those of `implicit-if
judge-card embedded`: measure them again after a new fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cached_embedder import CachedEmbedder
from embedded_judge_card import page
from embedded_judge_data import Data, Pair, corruption_pairs, implied_pairs, judged_pairs, read_data
from embedded_judge_measures import measure
from embedded_judge_panel import (
    Differences,
    control_differences,
    control_texts,
    made_differences,
    panel_differences,
    run_on_differences,
    run_on_texts,
    weighed,
)
from embedded_judge_panel_measures import PanelFit, measure_panel
from fit_embedded_attempts import REPEATS, Table, held_out, read_table
from numpy.typing import NDArray
from panel_data import PanelPair, read_panel

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.backends import embedded_attempts
from implicit_if.harness.judging.backends.embedded import (
    CONFIG,
    FEATURES_VERSION,
    QUALITY,
    Coefficient,
    Config,
    answer_features,
)
from implicit_if.harness.judging.cards.cli import load_measured
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder
from implicit_if.harness.stats.length_control.logistic import fit as fit_logistic
from implicit_if.harness.stats.length_control.logistic import sigmoid
from implicit_if.harness.storage import atomic_write, sha256_file, write_json

Floats = NDArray[np.float64]

VERSION = "2"
CARD = Path(__file__).resolve().parents[1] / "docs" / "judges" / "embedded.md"
SAMPLED: dict[str, range] = {"ae1": range(805), "ae2": range(0, 805, 8), "corruption": range(0, 260, 2)}
"""The instructions whose pairs are read, by index, for the time that embeddings take."""
SHARES = {
    "ae1": 5.0,
    "ae2": 1.5,
    "implied": 5.0,
    "corruption": 1.0,
    "made": 0.5,
    "panel": 8.0,
    "control": 3.0,
    "run on": 0.7,
}
"""What the sources weigh in the fit."""
COMPARISONS = 10_000
"""The comparisons that a share of 1 counts as, however many it has, against the prior."""
PRIOR_SD = 0.3
STRETCH = 1.5
"""What all coefficients are multiplied with: no order of answers depends on it, and win rates against the panel's
reference come out as the rater's, which a fit with a prior draws towards 50."""
FOLDS = 5


class Fit:
    """All pairs as feature differences.

    Attributes:
        names: Of the judge's features.
        pairs: Published ones and corruptions; `published` their differences.
        others: Those of the made answers, the panel, controls and run-ons, by source.
        scales: `[k]` of the differences.
    """

    def __init__(self, names: list[str], pairs: list[Pair], published: Floats, others: dict[str, Differences]) -> None:
        self.names, self.pairs, self.published, self.others = names, pairs, published, others
        self.labels = np.array([p.label for p in pairs])
        self.sources = np.array([p.source for p in pairs])
        self.scales = np.vstack([published, others["made"].x]).std(axis=0)
        self.scales[self.scales == 0] = 1.0

    def coefficients(
        self, rows: NDArray[np.bool_] | None = None, others: Mapping[str, Differences] | None = None
    ) -> Floats:
        """`[k]`, from the chosen published pairs and the other sources, for differences in units of `scales`."""
        chosen = np.ones(len(self.pairs), bool) if rows is None else rows
        x, labels, weights = [self.published[chosen]], [self.labels[chosen]], [self._weights(chosen)]
        for source, found in (others or self.others).items():
            x.append(found.x)
            labels.append(found.labels)
            weights.append(np.full(len(found.labels), COMPARISONS * SHARES[source] / len(found.labels)))
        prior = np.full(len(self.names), PRIOR_SD)
        stacked = np.vstack(x) / self.scales
        fits = fit_logistic(stacked, np.concatenate(labels), np.concatenate(weights)[None], np.zeros_like(prior), prior)
        coefficients: Floats = STRETCH * fits[0]
        return coefficients

    def _weights(self, rows: NDArray[np.bool_]) -> Floats:
        sources = self.sources[rows]
        sizes = {source: max(1, int((sources == source).sum())) for source in np.unique(self.sources)}
        return np.array([COMPARISONS * SHARES[source] / sizes[source] for source in sources])

    def held_out(self) -> Floats:
        """Each published pair's prediction by a fit without its instruction and without any answer of its families."""
        order = np.random.default_rng(0).permutation(max(p.index for p in self.pairs) + 1)
        folds = np.array([order[p.index] % FOLDS for p in self.pairs])
        predictions = np.full(len(self.pairs), np.nan)
        for group in sorted({p.families for p in self.pairs}, key=sorted):
            free = np.array([not (p.families & group) for p in self.pairs])
            mine = np.array([p.families == group for p in self.pairs])
            for fold in range(FOLDS):
                rows = mine & (folds == fold)
                if rows.any():
                    coefficients = self.coefficients(free & (folds != fold))
                    predictions[rows] = sigmoid(self.published[rows] / self.scales @ coefficients)
        return predictions


def published_pairs(data: Data) -> list[Pair]:
    """Judged, implied and corrupted ones of the SAMPLED instructions."""
    pairs = [*judged_pairs(data), *implied_pairs(data), *corruption_pairs(data)]
    return [p for p in pairs if p.index in SAMPLED[p.kind if p.source == "implied" else p.source]]


def published_differences(pairs: Sequence[Pair], data: Data, embedder: SentenceEmbedder) -> tuple[list[str], Floats]:
    """Names, and `[n, k]` differences between the first and the second answer's features, in their units."""
    known: dict[tuple[int, str], list[float]] = {}
    names: list[str] = []
    texts = sorted({(p.index, text) for p in pairs for text in (p.first, p.second)}, key=lambda t: (t[1], t[0]))
    for count, (index, text) in enumerate(texts, start=1):  # sorted by text: equal texts are embedded once
        values = answer_features(data.instructions[index], text, embedder)
        names = list(values)
        known[index, text] = list(values.values())
        if count % 500 == 0:
            print(f"features of {count} of {len(texts)} answers", file=sys.stderr, flush=True)
    first = np.array([known[p.index, p.first] for p in pairs])
    return names, first - np.array([known[p.index, p.second] for p in pairs])


def panel_fit(fit: Fit, pairs: Sequence[PanelPair], table: Table, embedder: SentenceEmbedder) -> PanelFit:
    """What is measured on the panel: win rates by fits without the instruction, or without the system; controls."""
    controls, run_ons = control_texts(table), run_on_texts(table)
    of_control = _features([(key, text) for _, key, text in controls], embedder)
    of_run_on = _features([(table.answers[place].instruction_id, text) for place, text in run_ons], embedder)
    instruction_folds, system_folds = [], []
    for seed in range(REPEATS):
        features = weighed(table.names, table.x, *held_out(table, table.instructions, seed))
        panel = panel_differences(pairs, table, features)
        sources = {
            "panel": panel,
            "control": control_differences(table, features, controls, of_control),
            "run on": run_on_differences(table, features, run_ons, of_run_on),
        }
        if seed == 0:
            fit.others |= sources
        instruction_folds.append(_predictions(fit, sources, panel.instructions, seed, FOLDS))
    features = weighed(table.names, table.x, *held_out(table, table.systems, 0, folds=len(np.unique(table.systems))))
    panel = panel_differences(pairs, table, features)
    system_folds = _predictions(fit, fit.others | {"panel": panel}, panel.systems, 0, len(np.unique(panel.systems)))
    return PanelFit(pairs, instruction_folds, system_folds, table, controls, of_control, run_ons, of_run_on)


def _predictions(
    fit: Fit, sources: Mapping[str, Differences], groups: NDArray[np.str_], seed: int, folds: int
) -> Floats:
    """`[n]` predictions of the panel's pairs by fits that saw none of their group."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold = {name: place % folds for place, name in enumerate(names)}
    by_system = set(names) <= set(sources["panel"].systems)
    found = np.zeros(len(groups))
    for number in range(folds):
        inside = {name for name in names if fold[name] == number}
        kept = {
            source: d.of(~np.isin(d.systems if by_system else d.instructions, sorted(inside)))
            for source, d in (fit.others | dict(sources)).items()
        }
        rows = np.isin(groups, sorted(inside))
        found[rows] = sigmoid(sources["panel"].x[rows] / fit.scales @ fit.coefficients(None, kept))
    return found


def _features(answers: Sequence[tuple[str, str]], embedder: SentenceEmbedder) -> Floats:
    """`[n, k]` the judge's features of builtin instructions' answers."""
    texts = load_instructions("builtin").texts()
    return np.array([list(answer_features(texts[key], answer, embedder).values()) for key, answer in answers])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("panel", type=Path)
    parser.add_argument("lima", type=Path)
    parser.add_argument("--cache", type=Path, help="a file that remembers sentence embeddings")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--card", type=Path, default=CARD)
    options = parser.parse_args(arguments)

    embedder = CachedEmbedder(options.cache)
    data, panel = read_data(options.folder), read_panel(options.panel)
    table = read_table(panel, options.lima, embedder)
    pairs = published_pairs(data)
    names, published = published_differences(pairs, data, embedder)
    attempts = embedded_attempts.calibrated(_ensemble(embedded_attempts.CONFIG, table))
    quality = _ensemble(QUALITY, table)
    made = made_differences(table, weighed(table.names, table.made, attempts, quality))
    fit = Fit(names, pairs, published, {"made": made})
    found = panel_fit(fit, panel, table, embedder)
    coefficients = fit.coefficients()
    config = Config(
        version=VERSION,
        features_version=FEATURES_VERSION,
        coefficients={
            name: Coefficient(weight=round(float(weight), 4), scale=round(float(scale), 4))
            for name, weight, scale in zip(names, coefficients, fit.scales, strict=True)
        },
        fit={},
    )
    write_json(options.config, config.model_dump(mode="json"))
    print("held-out fits", file=sys.stderr, flush=True)
    record = {
        "files": data.files | {"panel": sha256_file(options.panel), "lima": sha256_file(options.lima)},
        "pairs": {source: int((fit.sources == source).sum()) for source in ("ae1", "ae2", "implied", "corruption")}
        | {source: len(d.labels) for source, d in fit.others.items()},
        "sampled": {source: [of.start, of.stop, of.step] for source, of in SAMPLED.items()},
        "shares": SHARES,
        "comparisons": COMPARISONS,
        "prior_sd": PRIOR_SD,
        "stretch": STRETCH,
        "folds": FOLDS,
        "panel": measure_panel(found, coefficients / fit.scales).model_dump(mode="json"),
        "measured": measure(pairs, fit.held_out()).model_dump(mode="json"),
    }
    write_json(options.config, config.model_copy(update={"fit": record}).model_dump(mode="json"))
    with atomic_write(options.card) as file:
        file.write(page(load_measured(options.card.with_suffix(".json")), options.config))
    print(options.card.read_text(encoding="utf-8"))


def _ensemble(path: Path, table: Table) -> Floats:
    """`[m]` for the made answers."""
    model = embedded_attempts.read_config(path).model
    return np.array([model.predict(dict(zip(table.names, row, strict=True))) for row in table.made.tolist()])


if __name__ == "__main__":
    main()
