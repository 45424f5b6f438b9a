"""Judged systems brought to one table of preferences that may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.comparing.loading import Seed
from implicit_if.harness.comparing.shared_settings import shared_settings
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.outputs import Output
from implicit_if.harness.stats.length_control.offline_model import LengthModel, length_model
from implicit_if.harness.stats.length_control.priors import LengthPrior
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.thoughts import without_thoughts


@dataclass(frozen=True)
class JudgedSystem:
    """A named system with one file a seed."""

    name: str
    seeds: list[Seed]


@dataclass(frozen=True)
class PreferenceTable:
    """Systems on the instructions judged for all of them.

    Attributes:
        systems: In the order given.
        ids: `[n]` instructions with a verdict for every system and seed, sorted.
        expected_ids: Instructions expected in any file (`Seed.expected`).
        preferences: By system's name, `[s, n]`.
        answers: What shaped the answers of all systems alike.
        notes: What a reader must know of how they answered.
    """

    systems: list[JudgedSystem]
    ids: list[str]
    expected_ids: frozenset[str]
    preferences: dict[str, Floats]
    answers: AnswerSettings = NOTHING_KNOWN
    notes: tuple[str, ...] = ()

    @property
    def n_expected(self) -> int:
        """How many instructions are expected."""
        return len(self.expected_ids)


def make_table(systems: Sequence[JudgedSystem]) -> PreferenceTable:
    """Aligns systems on the instructions all have verdicts for.

    Raises:
        UserError: If names repeat, judges, orders, references or what shaped the answers differ, or no instruction is
            common.
    """
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise UserError(f"systems: {', '.join(names)}. Expected different names: write NAME=PATH.")
    seeds = [seed for system in systems for seed in system.seeds]
    first = seeds[0]
    for seed in seeds[1:]:
        if (seed.fingerprint, seed.orders) != (first.fingerprint, first.orders):
            raise UserError(
                f"{seed.path}: judged by {_judge(seed)}, {first.path} by {_judge(first)}. Numbers of different judges "
                f"cannot be compared; judge both alike, or choose one with --judge."
            )
    ids = sorted(set.intersection(*(set(seed.preferences) for seed in seeds)))
    if not ids:
        raise UserError(f"no instruction has a verdict in all of: {', '.join(str(s.path) for s in seeds)}.")
    for system in systems[1:]:
        for instruction_id in ids:
            if _references(system, instruction_id) != _references(systems[0], instruction_id):
                raise UserError(
                    f"{system.name} and {systems[0].name} were judged against different reference answers (instruction "
                    f"{instruction_id}). Expected one reference, or the same one for each seed: implicit-if "
                    f"judge OUTPUTS --reference FILE judges stored answers again."
                )
    preferences = {
        system.name: np.array([[seed.preferences[i] for i in ids] for seed in system.seeds]) for system in systems
    }
    answers, notes = shared_settings({system.name: [seed.answers for seed in system.seeds] for system in systems})
    expected = frozenset.union(*(seed.expected for seed in seeds))
    return PreferenceTable(list(systems), ids, expected, preferences, answers, tuple(notes))


def length_models(
    table: PreferenceTable,
    outputs: Sequence[Sequence[Mapping[str, Output]]],
    references: Sequence[Sequence[Mapping[str, Output]]],
    prior: LengthPrior | None = None,
) -> dict[str, list[LengthModel]]:
    """Each system's length regressions, one a seed.

    Args:
        table: See `make_table`; of seeds loaded with these answers.
        outputs: `[system][seed]` answers by instruction id.
        references: `[system][seed]` the reference's answers by instruction id.
        prior: Another prior than the judge's.
    """
    prior = prior or length_prior(table.systems[0].seeds[0].judge)
    return {
        system.name: [
            length_model(
                row,
                [len(without_thoughts(answers[i].output)) for i in table.ids],
                [len(without_thoughts(reference[i].output)) for i in table.ids],
                ids=table.ids,
                prior=prior,
            )
            for row, answers, reference in zip(table.preferences[system.name], *answered, strict=True)
        ]
        for system, *answered in zip(table.systems, outputs, references, strict=True)
    }


def _references(system: JudgedSystem, instruction_id: str) -> set[str]:
    return {seed.references[instruction_id] for seed in system.seeds}


def _judge(seed: Seed) -> str:
    return f"{seed.judge} ({seed.fingerprint[:8]}, orders: {', '.join(seed.orders)})"
