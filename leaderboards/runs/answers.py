"""A run's answers with all that is known of each, whatever kind of run it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from implicit_if.harness.outputs import Output
from implicit_if.harness.stats.vectors import Floats
from implicit_if.leaderboards.runs.run import Run
from implicit_if.leaderboards.verification.result import read_pairs


@dataclass(frozen=True)
class Answered:
    """A run's answers with all that is known of each.

    Shapes: `n` answers, sorted by instruction id.

    Attributes:
        run: The run.
        ids: `[n]`.
        texts: `[n]` instructions; None where the text is not known.
        answers: `[n]` of the system.
        references: `[n]` of the reference; empty where nothing was judged.
        preferences: `[n]`, NaN where not judged; empty where nothing was.
        by_order: The same in each presentation order.
        probabilities: `[n]` of an attempt, NaN where nobody decided; empty where nobody did for any.
    """

    run: Run
    ids: Sequence[str]
    texts: Sequence[str | None]
    answers: Sequence[Output]
    references: Sequence[Output] = ()
    preferences: Floats = field(default_factory=lambda: np.zeros(0))
    by_order: Mapping[str, Floats] = field(default_factory=dict)
    probabilities: Floats = field(default_factory=lambda: np.zeros(0))


def answers_of(run: Run) -> Answered | None:
    """A run's answers in order; None if it holds scores only."""
    if run.verified is not None:
        member = run.verified
        if not member.instruction_ids:
            return None
        pairs = read_pairs(member)
        return Answered(
            run,
            member.instruction_ids,
            [pair.instruction.strip() or None for pair in pairs],
            [pair.system for pair in pairs],
            [pair.reference for pair in pairs],
            member.preferences,
            {str(order): values for order, values in member.by_order.items()},
            member.attempts,
        )
    if run.judged is not None:
        judged = run.judged
        return Answered(
            run,
            [pair.instruction_id for pair in judged.pairs],
            [pair.instruction.strip() or None for pair in judged.pairs],
            judged.outputs,
            judged.reference,
            judged.judgement.preferences,
            {str(order): judged.judgement.in_order(order) for order in judged.judgement.orders},
            np.zeros(0) if judged.attempts is None else judged.attempts.judgement.preferences,
        )
    if not run.outputs:
        return None
    order = sorted(range(len(run.outputs)), key=lambda i: run.outputs[i].instruction_id)
    answers = [run.outputs[i] for i in order]
    tries = np.zeros(0) if run.decided is None else run.decided.judgement.preferences[order]
    return Answered(
        run, [a.instruction_id for a in answers], [a.instruction for a in answers], answers, probabilities=tries
    )
