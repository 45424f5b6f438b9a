"""What `implicit-if compare` shows: systems, their paired differences, and the instructions they differ most on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from implicit_if.harness.comparing.attempts import AttemptsPart, rates
from implicit_if.harness.comparing.preference_table import PreferenceTable
from implicit_if.harness.instructions.identify import identify_set
from implicit_if.harness.judging.attempts import Attempts
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature, make_signature
from implicit_if.harness.stats.comparison import PairedDifference, compare, holm
from implicit_if.harness.stats.length_control.comparison import compare_controlled
from implicit_if.harness.stats.length_control.estimator_choice import cause, departure
from implicit_if.harness.stats.length_control.offline_model import LengthModel, controlled_win_rate, method_name
from implicit_if.harness.stats.length_control.priors import WEAK
from implicit_if.harness.stats.seeds import SeedSummary, length_controlled_over_seeds, over_seeds
from implicit_if.harness.stats.tie_groups import Sample, tie_groups
from implicit_if.harness.storage import sha256_json

_FLIPS = 9999
_FLIPPED_PAIRS = 100
"""Pairs up to which p-values are of sign flips: beyond, 1 / (`_FLIPS` + 1) times their number is no small p-value."""


@dataclass(frozen=True)
class ControlledPart:
    """The length-controlled half of a report; attributes as in `Report`.

    Attributes:
        alone: Percent by system: what the verdicts alone give, by the prior `WEAK`; empty where that is the prior.
        prior: The prior's name.
    """

    summaries: dict[str, SeedSummary]
    comparisons: dict[tuple[str, str], PairedDifference]
    adjusted: dict[tuple[str, str], float | None]
    signature: str
    alone: dict[str, float]
    prior: str


@dataclass(frozen=True)
class Report:
    """A comparison of systems.

    Attributes:
        table: What was compared.
        summaries: Win rate by system.
        comparisons: Difference by pair of systems, first minus second.
        adjusted: Holm's p-value by pair.
        groups: Statistical ties, best first.
        level: Nominal coverage of the intervals.
        signature: What produced the numbers.
        controlled: The same at equal lengths; None if lengths are not known.
        attempts: The attempt rates; None if the answers are not known.
    """

    table: PreferenceTable
    summaries: dict[str, SeedSummary]
    comparisons: dict[tuple[str, str], PairedDifference]
    adjusted: dict[tuple[str, str], float | None]
    groups: list[list[str]]
    level: float
    signature: str
    controlled: ControlledPart | None = None
    attempts: AttemptsPart | None = None


def make_report(
    table: PreferenceTable,
    models: Mapping[str, Sequence[LengthModel]] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    reference: str = "reference",
    instructions: tuple[str, str | None] | None = None,
    attempts: Mapping[str, Sequence[Attempts]] | None = None,
) -> Report:
    """Win rates and all paired differences of a table.

    Args:
        table: See `loading.make_table`.
        models: See `loading.length_models`; adds the length-controlled part.
        level: Nominal coverage of the intervals; ties are told at 1 minus it.
        seed: Seed of the permutation tests.
        reference: The reference's name in the signature.
        instructions: Name and revision of the instruction set in the signature; None tells it from the ids.
        attempts: By system, which answers of its seeds are attempts.
    """
    options: dict[str, Any] = {"n_expected": table.n_expected, "level": level}
    summaries = {name: over_seeds(values, table.ids, **options) for name, values in table.preferences.items()}
    pairs = list(itertools.combinations(table.preferences, 2))
    flips = _FLIPS if len(pairs) <= _FLIPPED_PAIRS else 0
    comparisons = {
        (a, b): compare(
            table.preferences[a], table.preferences[b], table.ids, n_permutations=flips, seed=seed, **options
        )
        for a, b in pairs
    }
    adjusted = dict(zip(comparisons, holm([c.p_value for c in comparisons.values()]), strict=True))
    samples = {
        name: Sample(summaries[name].estimate.value or 0.0, values) for name, values in table.preferences.items()
    }
    groups: dict[int, list[str]] = {}
    for name, group in tie_groups(samples, alpha=1 - level).items():
        groups.setdefault(group, []).append(name)
    signature = _signature(table, reference, instructions)
    controlled = None if models is None else _control(models, options, seed, signature)
    part = None if attempts is None else rates(attempts, table.n_expected, level, signature)
    return Report(
        table, summaries, comparisons, adjusted, list(groups.values()), level, str(signature), controlled, part
    )


def _control(
    models: Mapping[str, Sequence[LengthModel]], options: dict[str, Any], seed: int, signature: Signature
) -> ControlledPart:
    prior = next(iter(models.values()))[0].prior
    comparisons = {
        (a, b): compare_controlled(models[a], models[b], seed=seed, **options)
        for a, b in itertools.combinations(models, 2)
    }
    summaries = {name: length_controlled_over_seeds(seeds, **options) for name, seeds in models.items()}
    for name, seeds in models.items():
        if len(seeds) == 1:  # as everywhere else
            estimate = controlled_win_rate(seeds[0], **options)
            summaries[name] = replace(summaries[name], estimate=estimate)
    return ControlledPart(
        summaries,
        comparisons,
        dict(zip(comparisons, holm([c.p_value for c in comparisons.values()]), strict=True)),
        str(replace(signature, lc=method_name(prior))),
        {} if prior == WEAK else {name: _alone(seeds) for name, seeds in models.items()},
        prior.name,
    )


def _alone(seeds: Sequence[LengthModel]) -> float:
    return 100 * sum(replace(model, prior=WEAK).value() for model in seeds) / len(seeds)


def render(report: Report) -> str:
    """The tables, the signature, and what is missing, as text."""
    from tabulate import tabulate

    group_of = {name: rank for rank, names in enumerate(report.groups, start=1) for name in names}
    interval = f"{report.level:.0%} interval"
    systems = [
        [
            one_line(name),
            len(s.by_seed),
            _number(s.estimate.value),
            _interval(s.estimate),
            _number(s.sd),
            group_of[name],
        ]
        for name, s in report.summaries.items()
    ]
    head = ["system", "seeds", "win rate", interval, "sd of seeds", "group"]
    if report.attempts is not None:
        head[2:2] = ["attempts", interval]
        for row, summary in zip(systems, report.attempts.summaries.values(), strict=True):
            row[2:2] = [_number(summary.estimate.value), _interval(summary.estimate)]
    tables = [_pairs_table("difference", interval, report.comparisons, report.adjusted)]
    if report.controlled is not None:
        head += ["LC win rate", interval]
        for row, summary in zip(systems, report.controlled.summaries.values(), strict=True):
            row += [_number(summary.estimate.value), _interval(summary.estimate)]
        tables.append(
            _pairs_table("LC difference", interval, report.controlled.comparisons, report.controlled.adjusted)
        )
    n, expected = len(report.table.ids), report.table.n_expected
    return "\n".join(
        [
            tabulate(systems, head, disable_numparse=True),
            "",
            *(line for table in tables for line in (table, "")),
            f"n: {n} instructions judged for every system, of {expected}",
            *_missing(report.table),
            *_undecided(report),
            *_departures(report),
            *report.table.notes,
            "group: systems of one group do not differ significantly from its best; detectable: true difference that "
            "this design finds with 80 % power",
            *([] if report.attempts is None else [f"signature: {report.attempts.signature}"]),
            f"signature: {report.signature}",
            *([] if report.controlled is None else [f"signature: {report.controlled.signature}"]),
        ]
    )


def _pairs_table(
    title: str,
    interval: str,
    comparisons: dict[tuple[str, str], PairedDifference],
    adjusted: dict[tuple[str, str], float | None],
) -> str:
    from tabulate import tabulate

    rows = [
        [
            f"{one_line(a)} - {one_line(b)}",
            "-" if c.difference.value is None else f"{c.difference.value:+.1f}",
            _interval(c.difference),
            _p(c.p_value),
            _p(adjusted[a, b]),
            _number(c.detectable),
        ]
        for (a, b), c in comparisons.items()
    ]
    return tabulate(rows, [title, "points", interval, "p", "p (Holm)", "detectable"], disable_numparse=True)


def as_json(report: Report) -> dict[str, Any]:
    """What `--out` writes; the same annotations give the same bytes."""
    part = report.controlled
    return {
        "signature": report.signature,
        "notes": list(report.table.notes),
        "n": len(report.table.ids),
        "n_expected": report.table.n_expected,
        **_part_as_json(report.summaries, report.comparisons, report.adjusted),
        "groups": report.groups,
        "attempts": None
        if report.attempts is None
        else {
            "signature": report.attempts.signature,
            "systems": {
                name: {"by_seed": s.by_seed, "sd": s.sd, "estimate": _as_json(s.estimate)}
                for name, s in report.attempts.summaries.items()
            },
        },
        "length_controlled": None
        if part is None
        else {
            "signature": part.signature,
            **_part_as_json(part.summaries, part.comparisons, part.adjusted),
        },
    }


def _part_as_json(
    summaries: dict[str, SeedSummary],
    comparisons: dict[tuple[str, str], PairedDifference],
    adjusted: dict[tuple[str, str], float | None],
) -> dict[str, Any]:
    return {
        "systems": {
            name: {"by_seed": s.by_seed, "sd": s.sd, "estimate": _as_json(s.estimate)} for name, s in summaries.items()
        },
        "differences": [
            {
                "first": a,
                "second": b,
                "difference": _as_json(c.difference),
                "p_value": c.p_value,
                "detectable": c.detectable,
                "p_value_holm": adjusted[a, b],
            }
            for (a, b), c in comparisons.items()
        ],
    }


def _as_json(score: Score) -> dict[str, Any]:
    interval = score.interval
    return {
        "value": score.value,
        "standard_error": score.standard_error,
        "interval": None if interval is None else interval.ends,
        "level": None if interval is None else interval.level,
        "method": score.method,
        "n": score.n_judged,
        "n_expected": score.n_expected,
        "seed": None if interval is None else interval.seed,
    }


def _signature(table: PreferenceTable, reference: str, instructions: tuple[str, str | None] | None) -> Signature:
    """As `implicit-if judge` signs the same verdicts; with several seeds the hash is over all their references."""
    first = table.systems[0].seeds
    hashes = [sha256_json(sorted([i, h] for i, h in seed.references.items())) for seed in first]
    ids = table.expected_ids
    name, revision = instructions or identify_set(ids)
    return make_signature(
        instruction_set=name,
        instruction_revision=revision or sha256_json(sorted(ids)),
        n=table.n_expected,
        reference=reference,
        reference_sha256=hashes[0] if len(hashes) == 1 else sha256_json(sorted(hashes)),
        judge=first[0].judge,
        fingerprint=first[0].fingerprint,
        orders=len(first[0].orders),
        answers=table.answers,
    )


def _departures(report: Report) -> list[str]:
    lines, part = [], report.controlled
    for name, summary in () if part is None else part.summaries.items():
        win_rate, controlled = report.summaries[name].estimate.value, summary.estimate.value
        if part and win_rate is not None and controlled is not None and (far := departure(win_rate, summary.estimate)):
            why = cause(win_rate, controlled, part.alone.get(name), part.prior)
            lines.append(f"note: {one_line(name)}: {far}: {why}.")
    return lines


def _undecided(report: Report) -> list[str]:
    """What is missing of the attempt rates, which rest on the same answers for every system."""
    estimates = [] if report.attempts is None else [s.estimate for s in report.attempts.summaries.values()]
    short = [e for e in estimates if not e.complete]
    return [f"attempts: {e.n_judged} of {e.n_expected} instructions decided for every system" for e in short[:1]]


def _missing(table: PreferenceTable) -> list[str]:
    lines = []
    for system in table.systems:
        for seed in system.seeds:
            gap = table.n_expected - len(seed.preferences)
            if gap:
                lines.append(f"missing: {gap} verdicts of {one_line(system.name)} ({one_line(str(seed.path), 1_000)})")
            if seed.strays:
                lines.append(
                    f"other answers: {seed.strays} instructions of {one_line(system.name)} have verdicts about other "
                    f"answers than those given ({one_line(str(seed.path), 1_000)})"
                )
    return lines


def _interval(score: Score) -> str:
    return "-" if score.interval is None else "[{:.1f}, {:.1f}]".format(*score.interval.ends)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"
