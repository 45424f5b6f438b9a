"""Fits what the embedded judge knows of single answers, on a panel's verdicts and on worthless answers made for it.

    python tools/fit_embedded_attempts.py PANEL LIMA [--cache FILE]

PANEL is examples/panel's file of verdicts; LIMA a JSON Lines file of conversations (`messages`), of which the first 70
instructions and answers (in an order drawn with a fixed seed) are read. Two ensembles of trees are fitted and written,
numbers only: harness/judging/configs/embedded_attempts.json, the probability that an answer attempts its instruction,
and embedded_quality.json, how much better the rater liked it than the other answers to it. The first file also holds
what was measured by cross-validation over instructions and over systems. The same data give the same files. Takes about
15 minutes on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cached_embedder import CachedEmbedder
from embedded_attempts_measures import measure_attempts
from numpy.typing import NDArray
from panel_data import PanelAnswer, PanelPair, panel_answers, read_panel
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from worthless_answers import NEAR, made_answers

from implicit_if.harness.judging.attempt_features import FEATURES_VERSION
from implicit_if.harness.judging.backends.embedded import QUALITY
from implicit_if.harness.judging.backends.embedded_attempts import CONFIG, Config, answer_features, calibrated
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder
from implicit_if.harness.judging.tree_ensemble import Node, TreeEnsemble
from implicit_if.harness.storage import atomic_write, sha256_file

Floats = NDArray[np.float64]

VERSION = "1"
TREES, QUALITY_TREES = 150, 100
FEATURE_SHARE = 0.4
ATTEMPT_LEAF, QUALITY_LEAF = 3, 8
MADE = 70
FOLDS = 6
REPEATS = 5
"""How often the cross-validation is drawn again, for the spread."""


@dataclass(frozen=True)
class Table:
    """What the fits read.

    Attributes:
        names: Of the features.
        answers: The panel's.
        x: `[n, k]` their features.
        attempts: `[n]` whether at least half of the rater's verdicts call them attempts.
        quality: `[n]` see `qualities`.
        kinds: Of the made answers.
        made: `[m, k]` their features.
    """

    names: list[str]
    answers: list[PanelAnswer]
    x: Floats
    attempts: NDArray[np.bool_]
    quality: Floats
    kinds: NDArray[np.str_]
    made: Floats

    @property
    def instructions(self) -> NDArray[np.str_]:
        return np.array([a.instruction_id for a in self.answers])

    @property
    def systems(self) -> NDArray[np.str_]:
        return np.array([a.system for a in self.answers])


def read_table(panel: Sequence[PanelPair], lima: Path, embedder: SentenceEmbedder) -> Table:
    """The panel's answers and the made ones, with features."""
    answers = panel_answers(list(panel))
    lines = lima.read_text(encoding="utf-8").splitlines()
    turns = [json.loads(line)["messages"] for line in lines]
    made = made_answers([(turn[0]["content"], turn[1]["content"]) for turn in turns], MADE)
    texts = [(a.instruction, a.answer) for a in answers] + [(instruction, answer) for _, instruction, answer in made]
    rows = []
    for count, (instruction, answer) in enumerate(texts, start=1):
        rows.append(answer_features(instruction, answer, embedder))
        if count % 500 == 0:
            print(f"features of {count} of {len(texts)} answers", file=sys.stderr, flush=True)
    x = np.array([list(row.values()) for row in rows])
    return Table(
        names=list(rows[0]),
        answers=answers,
        x=x[: len(answers)],
        attempts=np.array([a.attempts >= 0.5 for a in answers]),
        quality=qualities(panel, answers),
        kinds=np.array([kind for kind, _, _ in made]),
        made=x[len(answers) :],
    )


def qualities(panel: Sequence[PanelPair], answers: Sequence[PanelAnswer]) -> Floats:
    """`[n]` how far each answer lies above its instruction's mean, as preferences: their differences are 0.5 less."""
    pairs: dict[str, list[PanelPair]] = defaultdict(list)
    for pair in panel:
        pairs[pair.instruction_id].append(pair)
    found: dict[tuple[str, str, str], float] = {}
    for key, own in pairs.items():
        reference = -sum(p.preference - 0.5 for p in own) / (len(own) + 1)
        found[key, own[0].reference, own[0].reference_answer] = reference
        found |= {(key, p.system, p.answer): p.preference - 0.5 + reference for p in own}
    return np.array([found[a.instruction_id, a.system, a.answer] for a in answers])


def fit_attempts(table: Table, rows: NDArray[np.bool_]) -> Any:
    """Extremely randomised trees (Geurts et al. 2006) on the panel's chosen answers and the made ones."""
    real = table.kinds == "real"
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=ATTEMPT_LEAF, max_features=FEATURE_SHARE, random_state=0)
    return forest.fit(
        np.vstack([table.x[rows], table.made]),
        np.r_[table.attempts[rows], real],
        sample_weight=np.r_[np.ones(rows.sum()), np.where(real, 0.3, 0.1)],
    )


def fit_quality(table: Table, rows: NDArray[np.bool_]) -> Any:
    """The same for the quality."""
    real, near = table.kinds == "real", np.isin(table.kinds, sorted(NEAR))
    forest = ExtraTreesRegressor(
        QUALITY_TREES, min_samples_leaf=QUALITY_LEAF, max_features=FEATURE_SHARE, random_state=0
    )
    return forest.fit(
        np.vstack([table.x[rows], table.made]),
        np.r_[table.quality[rows], np.where(real, 0.2, np.where(near, -0.15, -0.12))],
        sample_weight=np.r_[np.ones(rows.sum()), np.where(real, 0.2, np.where(near, 0.4, 0.1))],
    )


def as_numbers(forest: Any, names: Sequence[str]) -> TreeEnsemble:
    """A fitted forest; a leaf holds the share of attempts or the mean, to 3 places."""
    return TreeEnsemble(features=tuple(names), trees=tuple(_nodes(tree.tree_) for tree in forest.estimators_))


def _nodes(tree: Any) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for place in range(tree.node_count):
        if tree.children_left[place] < 0:
            value = tree.value[place][0]
            nodes.append(round(float(value[1] / value.sum() if len(value) > 1 else value[0]), 3))
        else:
            question = int(tree.feature[place]), round(float(tree.threshold[place]), 5)
            nodes.append((*question, int(tree.children_left[place]), int(tree.children_right[place])))
    return tuple(nodes)


def held_out(table: Table, groups: NDArray[np.str_], seed: int, folds: int = FOLDS) -> tuple[Floats, Floats]:
    """Attempt probabilities and qualities `[n]` of the panel's answers by fits that saw no answer of their group."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold = {name: place % folds for place, name in enumerate(names)}
    of = np.array([fold[group] for group in groups])
    attempts, quality = np.zeros(len(of)), np.zeros(len(of))
    for number in range(folds):
        inside = of == number
        attempts[inside] = probability(fit_attempts(table, ~inside))(table.x[inside])
        quality[inside] = fit_quality(table, ~inside).predict(table.x[inside])
    return attempts, quality


def probability(forest: Any) -> Callable[[Floats], Floats]:
    """The function from features `[n, k]` to probabilities `[n]`."""
    return lambda x: calibrated(forest.predict_proba(x)[:, 1])


def write_config(path: Path, config: Config) -> None:
    """Writes the file, one tree a line."""
    content = config.model_dump(mode="json")
    trees = content["model"].pop("trees")
    head = json.dumps(content, indent=1, ensure_ascii=False)
    lines = ",\n".join("    " + json.dumps(tree, separators=(",", ":")) for tree in trees)
    marker = '  "features": ['
    with atomic_write(path) as file:
        file.write(head.replace(marker, f'  "trees": [\n{lines}\n  ],\n{marker}', 1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panel", type=Path)
    parser.add_argument("lima", type=Path)
    parser.add_argument("--cache", type=Path, help="a file that remembers sentence embeddings")
    parser.add_argument("--attempts", type=Path, default=CONFIG, metavar="FILE", help="written instead of the shipped")
    parser.add_argument("--quality", type=Path, default=QUALITY, metavar="FILE", help="likewise")
    options = parser.parse_args(arguments)

    table = read_table(read_panel(options.panel), options.lima, CachedEmbedder(options.cache))
    everything = np.ones(len(table.answers), bool)
    fit = {"panel": sha256_file(options.panel), "lima": sha256_file(options.lima), "answers": len(table.answers)}
    for path, forest in ((options.attempts, fit_attempts), (options.quality, fit_quality)):
        model = as_numbers(forest(table, everything), table.names)
        write_config(path, Config(version=VERSION, features_version=FEATURES_VERSION, model=model, fit=fit))
    print("cross-validation", file=sys.stderr, flush=True)
    by_instruction = [held_out(table, table.instructions, seed)[0] for seed in range(REPEATS)]
    by_system, _ = held_out(table, table.systems, 0, folds=len(np.unique(table.systems)))
    measured = measure_attempts(table.answers, by_instruction, by_system)
    model = as_numbers(fit_attempts(table, everything), table.names)
    fit["measured"] = measured.model_dump(mode="json")
    write_config(options.attempts, Config(version=VERSION, features_version=FEATURES_VERSION, model=model, fit=fit))


if __name__ == "__main__":
    main()
