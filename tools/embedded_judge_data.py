"""What the embedded judge is fitted and measured on: published preferences, what they imply, corruptions."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from answer_corruptions import KINDS, WORTHLESS, Case, corrupt

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_file

SETS = {
    "ae1": ("preferences_ae1_gpt4.jsonl", "reference_text_davinci_003.jsonl"),
    "ae2": ("preferences_ae2_gpt4_turbo.jsonl", "reference_gpt4_1106_preview.jsonl"),
}


@dataclass(frozen=True)
class Data:
    """The published data.

    Attributes:
        instructions: By index.
        references: Per set, the reference's answers by index.
        answers: Per set and model, the answers by index.
        preferences: Per set and model, by index, the probability that the model's answer is better.
        files: sha256 by file name.
    """

    instructions: dict[int, str]
    references: dict[str, dict[int, str]]
    answers: dict[tuple[str, str], dict[int, str]]
    preferences: dict[tuple[str, str], dict[int, float]]
    files: dict[str, str]


@dataclass(frozen=True)
class Pair:
    """Two answers to one instruction and the probability that the first is better.

    Attributes:
        source: "ae1", "ae2", "implied" or "corruption".
        kind: The corruption, or the set an implied pair comes from.
        system: Whose win rate the pair counts for.
        families: Families of models whose answers are in it; references are in every fit, so they are left out.
    """

    source: str
    kind: str
    system: str
    index: int
    first: str
    second: str
    label: float
    families: frozenset[str]


def read_data(folder: Path) -> Data:
    """Reads the folder; rows without a preference are answers only."""
    paths = [_find(folder, "instructions.json"), *(_find(folder, name) for pair in SETS.values() for name in pair)]
    instructions = {row["index"]: row["instruction"] for row in json.loads(_read(paths[0]))}
    data = Data(instructions, {}, {}, {}, {path.name: sha256_file(path) for path in paths})
    for name, (preferences, reference) in SETS.items():
        data.references[name] = {row["index"]: row["output"] for row in _rows(_find(folder, reference))}
        for row in _rows(_find(folder, preferences)):
            key = name, row["model"]
            data.answers.setdefault(key, {})[row["index"]] = row["output"] or ""
            if row["preference"] is not None:
                data.preferences.setdefault(key, {})[row["index"]] = row["preference"] - 1
    return data


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise UserError(f"{folder / name}: no such file, with .gz or without. Expected the files --help lists.")


def _read(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _read(path).split("\n") if line)


def family(model: str) -> str:
    """Sizes and versions of one model are one family: `vicuna-7b`, `vicuna-13b-v1.5`."""
    return model.split("-")[0]


def judged_pairs(data: Data) -> Iterator[Pair]:
    """Each model against the set's reference, as GPT-4 judged them."""
    for (name, model), labels in data.preferences.items():
        for index, label in labels.items():
            answer, reference = data.answers[name, model][index], data.references[name][index]
            yield Pair(name, "", model, index, answer, reference, label, frozenset([family(model)]))


def implied_pairs(data: Data) -> Iterator[Pair]:
    """Two models judged against the same reference: the difference of their log-odds, halved since it is hearsay."""
    for (name, a), (other_name, b) in combinations(sorted(data.preferences), 2):
        labels, other_labels = data.preferences[name, a], data.preferences[other_name, b]
        for index in sorted(labels.keys() & other_labels.keys()) if name == other_name else []:
            if labels[index] == other_labels[index]:
                continue
            label = _implied(labels[index], other_labels[index])
            first, second = data.answers[name, a][index], data.answers[name, b][index]
            yield Pair("implied", name, a, index, first, second, label, frozenset([family(a), family(b)]))


def _implied(first: float, second: float) -> float:
    odds = [np.clip(p, 1e-5, 1 - 1e-5) / (1 - np.clip(p, 1e-5, 1 - 1e-5)) for p in (first, second)]
    return float(1 / (1 + np.sqrt(odds[1] / odds[0])))


def corruption_pairs(data: Data) -> Iterator[Pair]:
    """Every kind once per instruction: against the answer it was made of, and, if worthless, a weak model's answer."""
    systems = {("", f"{name} reference"): answers for name, answers in data.references.items()} | data.answers
    strong, weak = data.references["ae2"], [key for key in data.answers if key[0] == "ae1"]
    indices = sorted(strong)
    for index in indices:
        for kind in KINDS:
            rng = random.Random(f"{index}/{kind}")
            usable = [key for key in sorted(systems) if len(systems[key].get(index, "").split()) >= 8]
            if not usable:
                continue
            key = rng.choice(usable)
            others = rng.sample([i for i in indices if i != index], min(15, len(indices) - 1))
            stranger = systems[key].get(others[0]) or strong[others[0]]
            texts = [data.instructions[i] for i in others]
            case = Case(data.instructions[index], systems[key][index], stranger, strong[others[1]], texts)
            bad, own = corrupt(kind, case, str(index)), _families(key)
            yield Pair("corruption", kind, key[1], index, case.answer, bad, 1.0, own)
            other = rng.choice(weak)
            if kind in WORTHLESS and len(answer := data.answers[other].get(index, "").strip()) > 10:
                yield Pair("corruption", kind, other[1], index, answer, bad, 1.0, own | _families(other))


def _families(key: tuple[str, str]) -> frozenset[str]:
    return frozenset([family(key[1])]) if key[0] else frozenset()
