"""Boards: submissions grouped so that the numbers of one table may be compared, with what a reader must know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.registry import backend_of, length_prior
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.length_control.estimator_choice import departure, prior_moves
from implicit_if.harness.stats.length_control.offline_model import length_model, method_name
from implicit_if.harness.stats.length_control.priors import WEAK
from implicit_if.harness.stats.tie_groups import Sample, tie_groups
from implicit_if.leaderboards.boards.board_key import BoardKey, Family, key_of
from implicit_if.leaderboards.boards.rows import Row, attempts_signature, judge_of_attempts, rows_of
from implicit_if.leaderboards.verification.result import Verified


@dataclass(frozen=True)
class Board:
    """One table.

    Attributes:
        key: What its numbers share.
        rows: Sorted by base model, kind and win rate, controls last.
        groups: Tie group by row id; rows without verdicts of their own, controls and the reference have none.
        warnings: What a reader must know before quoting a number, one sentence each.
        attempts: The signature of the attempt rates; None if there are none.
    """

    key: BoardKey
    rows: tuple[Row, ...]
    groups: Mapping[str, int]
    warnings: tuple[str, ...]
    attempts: Signature | None = None


def make_boards(verified: Iterable[Verified], families: Mapping[str, Family]) -> list[tuple[Board, Board | None]]:
    """The table of systems and, where there are ablations, the table of rules of every group of comparable submissions.

    Args:
        verified: The submissions, in any order.
        families: By hash of a reference's answers, the family it belongs to; see `load_families`.

    Returns:
        Sorted by key. The table of rules has, of each base model with an ablation, base, rules and ablations.
    """
    boards = []
    for key, members in sorted(_by_key(verified, families).items(), key=lambda item: item[0]):
        rows = rows_of(key, members, families, _judge_of_attempts(members))
        ablated = {row.base_model for row in rows if row.is_ablation}
        rules = [row for row in rows if row.base_model in ablated and row.kind in ("base", "rules")]
        main = [row for row in rows if not row.is_ablation]
        boards.append((_board(key, main), _board(key, rules) if rules else None))
    return boards


def control_warnings(rows: Sequence[Row]) -> list[str]:
    """Law 6: which controls lie above the upper end of which real systems' intervals."""
    warnings = []
    highest = [(row, _upper_end(row)) for row in rows if not row.is_control]
    for control in (row for row in rows if row.is_control):
        value = control.win_rate.value
        beaten = [row for row, end in highest if value is not None and end is not None and value > end]
        if beaten:
            names = [f"{row.label} ({row.first.metadata.name})" for row in beaten]
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            warnings.append(
                f"the {control.label} ({value:.1f} %) beats {len(beaten)} real system{'s' if len(beaten) > 1 else ''} "
                f"beyond the interval: {shown}. Do not read quality into differences of this size."
            )
    return warnings


def _upper_end(row: Row) -> float | None:
    """What a control must exceed; the reference's 50 has no interval, and is no estimate."""
    if row.win_rate.interval is not None:
        return row.win_rate.interval.high
    return row.win_rate.value if row.is_reference else None


def _board(key: BoardKey, rows: Sequence[Row]) -> Board:
    _refuse_other_instructions(rows)
    samples = {
        row.id: Sample(row.win_rate.value, row.preferences)
        for row in rows
        if row.preferences.size and not (row.is_control or row.is_reference) and row.win_rate.value is not None
    }
    warnings = control_warnings(rows)
    if (backend := backend_of(key.judge)) is not None and backend.caution:
        warnings.insert(0, backend.caution)
    real = [row for row in rows if not row.is_control]
    far = [(row, *_cause(row, key.judge)) for row in real if row.lc and departure(row.win_rate.value, row.lc)]
    for why in dict.fromkeys(why for _, why, _ in far):
        found = [f"{row.label}{more}" for row, this, more in far if this == why]
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        warnings.append(f"LC differs from the win rate by more than LC's interval: {shown}. {why}.")
    warnings += [f"{member.id}: {note}" for row in rows for member in row.members for note in member.notes]
    if any(row.badge == "self-reported" for row in rows):
        warnings.append("self-reported rows were not recomputed: they have no tie group.")
    warnings += _other_judges_of_attempts(rows)
    attempts = next((attempts_signature(key, row.attempts) for row in rows if row.attempts is not None), None)
    return Board(key, tuple(rows), tie_groups(samples), tuple(warnings), attempts)


def _cause(row: Row, judge: str) -> tuple[str, str]:
    """What moved a row's LC away from its win rate, and what the verdicts alone give where it was the prior."""
    prior, method = length_prior(judge), row.lc.settings.lc if row.lc else None
    if not row.preferences.size:
        return "Their answers are not here, so that lengths or the prior may decide", ""
    if method != method_name(prior) or prior == WEAK or row.lc is None:
        return "There lengths decide", ""
    models = [
        length_model(one.preferences, one.lengths[0], one.lengths[1], ids=one.instruction_ids, prior=WEAK)
        for one in row.members
    ]
    alone = 100 * sum(model.value() for model in models) / len(models)
    if not prior_moves(row.win_rate.value or 0.0, row.lc.value or 0.0, alone):
        return "There lengths decide", ""
    return f"There the prior {prior.name} decides, and not the verdicts", f" ({alone:.1f} by the verdicts alone)"


def _judge_of_attempts(members: Sequence[Verified]) -> tuple[str, str] | None:
    """The judge of attempts that most submissions have: rates of different ones do not share a column."""
    counts = Counter(judge for member in members if (judge := judge_of_attempts(member)) is not None)
    return min(counts, key=lambda judge: (-counts[judge], judge), default=None)


def _other_judges_of_attempts(rows: Sequence[Row]) -> list[str]:
    others = [row for row in rows if row.attempts is None and any(map(judge_of_attempts, row.members))]
    shown = ", ".join(row.label for row in others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    if not others:
        return []
    return [f"the attempt rates of {shown} are another judge's and are shown with their answers only."]


def _refuse_other_instructions(rows: Sequence[Row]) -> None:
    judged = [row.first for row in rows if row.preferences.size]
    for member in judged:
        if member.instruction_ids != judged[0].instruction_ids:
            raise UserError(
                f"{judged[0].folder} and {member.folder} name the same instruction set and revision, but answer other "
                f"instructions. Check both with implicit-if verify, and correct or remove one."
            )


def _by_key(verified: Iterable[Verified], families: Mapping[str, Family]) -> dict[BoardKey, list[Verified]]:
    """The submissions by table; a control, whose answers no setting shapes, is in every table that fits otherwise."""
    groups: dict[BoardKey, list[Verified]] = defaultdict(list)
    controls: dict[BoardKey, list[Verified]] = defaultdict(list)
    for member in verified:
        kind = controls if member.metadata.system.kind == "control" else groups
        kind[key_of(member, families)].append(member)
    for key, members in controls.items():
        for table in [k for k in groups if replace(k, answers=key.answers) == key] or [key]:
            groups[table] += members
    return groups
