"""Attempt rates of the systems that `implicit-if compare` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.attempts import Attempts
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.attempt_rate import attempt_rate, decisions
from implicit_if.harness.stats.seeds import SeedSummary, over_seeds


@dataclass(frozen=True)
class AttemptsPart:
    """The attempt rates of a report.

    Attributes:
        summaries: By system.
        signature: What produced them.
    """

    summaries: dict[str, SeedSummary]
    signature: str


def rates(
    attempts: Mapping[str, Sequence[Attempts]], n_expected: int, level: float, signature: Signature
) -> AttemptsPart:
    """Attempt rates on the answers that every system and seed has a verdict on.

    Args:
        attempts: By system, its seeds.
        n_expected: Instructions there should be.
        level: Nominal coverage of the intervals.
        signature: The report's, of the win rates.

    Raises:
        UserError: If different judges decided.
    """
    told = [
        {v.instruction_id: v.preference for v in seed.judgement if v.preference is not None}
        for seeds in attempts.values()
        for seed in seeds
    ]
    judges = {(s.judgement.judge, s.judgement.fingerprint) for seeds in attempts.values() for s in seeds}
    if len(judges) > 1:
        names = ", ".join(sorted(f"{name} ({digits[:8]})" for name, digits in judges))
        raise UserError(f"attempts were decided by {names}. Attempt rates of different judges cannot be compared.")
    ids = sorted(set.intersection(*map(set, told)))
    rows = iter([decisions([one[key] for key in ids]) for one in told])
    summaries = {}
    for name, seeds in attempts.items():
        values = np.array([next(rows) for _ in seeds])
        summary = over_seeds(values, ids, n_expected=n_expected, level=level)
        if len(seeds) == 1:  # as everywhere else
            summary = replace(summary, estimate=attempt_rate(values[0], n_expected=n_expected, level=level))
        summaries[name] = summary
    ((judge, fingerprint),) = judges
    plain = replace(signature, reference=None, reference_hash=None, orders=None, lc=None)
    return AttemptsPart(summaries, str(replace(plain, judge=judge, judge_hash=fingerprint[:8])))
