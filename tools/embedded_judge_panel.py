"""Pairs to fit the embedded judge on, as features: of the panel, of controls and of answers that run on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fit_embedded_attempts import Table
from numpy.typing import NDArray
from panel_data import PanelPair

from implicit_if.harness.controls import CONTROLS, WORTHLESS, control_answers
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.backends.embedded import judge_features

Floats = NDArray[np.float64]

TUNED = ("instruction", "response", "gsm", "mbpp", "rules")
"""Systems that no control may beat."""
CONTROL_LABEL, RUN_ON_LABEL = 0.75, 0.8
"""How sure a tuned system is to win against a control, and an answer against itself with a further turn."""
TURNS = (
    "\n### Human\n{}\n### Reply\n{}",
    "\n[USR] {}\n[BOT] {}",
    "\nQ> {}\nA> {}",
    "\n<|passenger|>\n{}\n<|driver|>\n{}",
    "\n[question] {}\n[answer] {}",
    "\nUser: {}\nAssistant: {}",
    "\n@@me: {}\n@@you: {}",
    "\n<user>\n{}\n</user>\n{}",
)


@dataclass(frozen=True)
class Differences:
    """Differences between two answers' features.

    Attributes:
        x: `[n, k]`.
        labels: `[n]` the probability that the first is better.
        instructions, systems: `[n]` what each pair is about; "" for none.
    """

    x: Floats
    labels: Floats
    instructions: NDArray[np.str_]
    systems: NDArray[np.str_]

    def of(self, rows: NDArray[np.bool_]) -> Differences:
        return Differences(self.x[rows], self.labels[rows], self.instructions[rows], self.systems[rows])


def weighed(names: Sequence[str], x: Floats, attempts: Floats, quality: Floats) -> Floats:
    """`[n, m]` the judge's features of answers, from their features `[n, k]`."""
    rows = zip(x.tolist(), attempts.tolist(), quality.tolist(), strict=True)
    return np.array(
        [
            list(judge_features(v, p if v["words"] else 0.0, q).values())
            for values, p, q in rows
            for v in [dict(zip(names, values, strict=True))]
        ]
    )


def panel_differences(pairs: Sequence[PanelPair], table: Table, features: Floats) -> Differences:
    """System against reference, as the rater preferred; `features` are those of the table's answers, `[n, m]`."""
    places = {(a.instruction_id, a.system, a.answer): place for place, a in enumerate(table.answers)}
    first = [places[p.instruction_id, p.system, p.answer] for p in pairs]
    second = [places[p.instruction_id, p.reference, p.reference_answer] for p in pairs]
    return Differences(
        features[first] - features[second],
        np.array([p.preference for p in pairs]),
        np.array([p.instruction_id for p in pairs]),
        np.array([p.system for p in pairs]),
    )


def control_texts(table: Table) -> list[tuple[str, str, str]]:
    """Control, instruction id and answer, on the builtin set, of all controls but the longer of two."""
    texts = load_instructions("builtin").texts()
    panel = {(a.system, a.instruction_id): a.answer for a in table.answers}
    sides = tuple({key: panel.get((system, key), "") for key in texts} for system in ("instruction", "rules"))
    return [
        (control, key, answer)
        for control in CONTROLS
        if control in WORTHLESS
        for key, answer in control_answers(control, texts, sides).items()
        if ("instruction", key) in panel
    ]


def control_differences(
    table: Table, features: Floats, controls: Sequence[tuple[str, str, str]], control_features: Floats
) -> Differences:
    """Every tuned system's answer against every control."""
    places = {(a.instruction_id, a.system): place for place, a in enumerate(table.answers)}
    found = [
        (features[places[key, system]] - control_features[number], key, system)
        for number, (_, key, _) in enumerate(controls)
        for system in TUNED
        if (key, system) in places
    ]
    return Differences(
        np.array([x for x, _, _ in found]),
        np.full(len(found), CONTROL_LABEL),
        np.array([key for _, key, _ in found]),
        np.array([system for _, _, system in found]),
    )


def run_on_texts(table: Table) -> list[tuple[int, str]]:
    """The place of an answer of `instruction` in the table, and the answer with one further turn; two each."""
    rng = random.Random(0)
    own = [place for place, a in enumerate(table.answers) if a.system == "instruction"]
    texts = []
    for place in own:
        answer = table.answers[place]
        for turn in rng.sample(TURNS, 2):
            other = table.answers[rng.choice([o for o in own if o != place])]
            texts.append((place, answer.answer + turn.format(other.instruction.split("\n")[0], other.answer[:200])))
    return texts


def run_on_differences(
    table: Table, features: Floats, texts: Sequence[tuple[int, str]], text_features: Floats
) -> Differences:
    """Answers against themselves with a further turn."""
    places = [place for place, _ in texts]
    return Differences(
        features[places] - text_features,
        np.full(len(texts), RUN_ON_LABEL),
        table.instructions[places],
        table.systems[places],
    )


def made_differences(table: Table, features: Floats) -> Differences:
    """The real answer of each instruction against every worthless one; `features` are those of the made answers."""
    starts = np.flatnonzero(table.kinds == "real")
    size = len(table.kinds) // len(starts)
    x = np.vstack([features[start] - features[start + 1 : start + size] for start in starts])
    return Differences(x, np.ones(len(x)), np.full(len(x), ""), np.full(len(x), ""))
