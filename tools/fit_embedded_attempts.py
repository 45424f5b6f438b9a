"""Fits the classifier of attempts on a panel's verdicts, measures it across instructions and systems, writes its file.

    python tools/fit_embedded_attempts.py panel_builtin.jsonl

Writes harness/judging/configs/embedded_attempts.json: numbers only. The same data give the same file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from panel_data import PanelAnswer, panel_answers, read_panel
from sklearn.ensemble import ExtraTreesClassifier

from implicit_if.harness.judging.attempt_features import FEATURES_VERSION
from implicit_if.harness.judging.backends.embedded_attempts import CONFIG, Config, answer_features
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder
from implicit_if.harness.judging.tree_ensemble import Node, TreeEnsemble
from implicit_if.harness.storage import atomic_write, sha256_file

Floats = NDArray[np.float64]

VERSION = "1"
TREES = 150
LEAF = 4
FEATURE_SHARE = 0.5
LEAVES = 40


def feature_rows(answers: Sequence[tuple[str, str]], embedder: SentenceEmbedder) -> tuple[list[str], Floats]:
    """Names, and `[n, k]` features of instructions with answers."""
    rows = [answer_features(instruction, answer, embedder) for instruction, answer in answers]
    return list(rows[0]), np.array([list(row.values()) for row in rows])


def fit(x: Floats, labels: NDArray[np.bool_], names: Sequence[str], weights: Floats | None = None) -> TreeEnsemble:
    """Extremely randomised trees (Geurts et al. 2006), as numbers."""
    forest = ExtraTreesClassifier(
        TREES, min_samples_leaf=LEAF, max_features=FEATURE_SHARE, max_leaf_nodes=LEAVES, random_state=0
    )
    forest.fit(x, labels, sample_weight=weights)
    return TreeEnsemble(features=tuple(names), trees=tuple(_nodes(tree.tree_) for tree in forest.estimators_))


def _nodes(tree: Any) -> tuple[Node, ...]:
    """The nodes of a fitted tree; a leaf holds the share of attempts, to 3 places."""
    nodes: list[Node] = []
    for place in range(tree.node_count):
        if tree.children_left[place] < 0:
            counts = tree.value[place][0]
            nodes.append(round(float(counts[1] / counts.sum()), 3))
        else:
            question = int(tree.feature[place]), round(float(tree.threshold[place]), 5)
            nodes.append((*question, int(tree.children_left[place]), int(tree.children_right[place])))
    return tuple(nodes)


def predict(model: TreeEnsemble, names: Sequence[str], x: Floats) -> Floats:
    """Probabilities `[n]`."""
    return np.array([model.predict(dict(zip(names, row, strict=True))) for row in x.tolist()])


def write_config(path: Path, config: Config) -> None:
    """Writes the file, one tree a line."""
    content = config.model_dump(mode="json")
    trees = content["model"].pop("trees")
    head = json.dumps(content, indent=1, ensure_ascii=False)
    lines = ",\n".join("    " + json.dumps(tree, separators=(",", ":")) for tree in trees)
    marker = '  "features": ['
    with atomic_write(path) as file:
        file.write(head.replace(marker, f'  "trees": [\n{lines}\n  ],\n{marker}', 1) + "\n")


def labels_of(answers: Sequence[PanelAnswer]) -> NDArray[np.bool_]:
    """What the rater decided: at least half of the verdicts."""
    return np.array([a.attempts >= 0.5 for a in answers])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panel", type=Path)
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args(arguments)
    answers = panel_answers(read_panel(options.panel))
    names, x = feature_rows([(a.instruction, a.answer) for a in answers], SentenceEmbedder(kept=100_000))
    model = fit(x, labels_of(answers), names)
    config = Config(
        version=VERSION,
        features_version=FEATURES_VERSION,
        model=model,
        fit={"panel": sha256_file(options.panel), "answers": len(answers)},
    )
    write_config(options.config, config)


if __name__ == "__main__":
    main()
