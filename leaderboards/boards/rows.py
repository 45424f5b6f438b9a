"""Systems: the rows of a board, seeds of a system brought together.

Shapes: `s` seeds, `n` instructions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from implicit_if.harness import stats
from implicit_if.harness.columns import ATTEMPTS, FORM
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.attempt_rate import decisions
from implicit_if.harness.stats.length_control.offline_model import length_model, method_name
from implicit_if.harness.stats.length_control.priors import PRIORS
from implicit_if.harness.stats.seeds import length_controlled_over_seeds
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.system_kinds import SYSTEM_KINDS, Kind
from implicit_if.leaderboards.boards.board_key import BoardKey, Family, family_of
from implicit_if.leaderboards.verification.result import BADGES, Verified
from implicit_if.leaderboards.verification.scores import answer_settings_of

_STRENGTH = list(BADGES)
_DIGITS = 6
"""Decimals kept of what is computed here: processors round sums differently, and files must not."""


@dataclass(frozen=True)
class Row:
    """One system: a submission, or several that are its seeds.

    Attributes:
        members: The submissions, by seed.
        label: What was done to the base model, e.g. "rules paper" or "without eos".
        badge: The weakest of the members'.
        win_rate: Percent; over seeds where there are several.
        win_rate_sd: Standard deviation over seeds in points; None for one seed.
        lc: Length-controlled win rate; None if not reported.
        lc_sd: As `win_rate_sd`.
        attempts: Attempt rate; None if there is none by the board's judge of attempts.
        attempts_sd: As `win_rate_sd`.
        form: Measures of form, averaged over seeds; see `scores.form_measures`.
        preferences: `[s, n]`; empty if self-reported.
    """

    members: tuple[Verified, ...]
    label: str
    badge: str
    win_rate: Score
    win_rate_sd: float | None
    lc: Score | None
    lc_sd: float | None
    form: Mapping[str, float | None]
    preferences: Floats = field(repr=False, compare=False)
    attempts: Score | None = None
    attempts_sd: float | None = None

    @property
    def first(self) -> Verified:
        """The submission that speaks for all of the row's."""
        return self.members[0]

    @property
    def id(self) -> str:
        """The first submission's id: unique among rows."""
        return self.first.id

    @property
    def kind(self) -> Kind:
        return self.first.metadata.system.kind

    @property
    def is_control(self) -> bool:
        return self.kind == "control"

    @property
    def is_reference(self) -> bool:
        """Whether these are the answers that the others are judged against."""
        return all(map(is_reference, self.members))

    @property
    def is_ablation(self) -> bool:
        """Whether some of the preset's rules were left out."""
        return bool(self.first.metadata.system.without or self.first.metadata.system.only)

    @property
    def base_model(self) -> str:
        return self.first.metadata.base_model.name

    @property
    def scores(self) -> dict[str, tuple[Score | None, float | None]]:
        """Each score with its standard deviation over seeds, by the names of `columns.SCORES`."""
        return {
            ATTEMPTS: (self.attempts, self.attempts_sd),
            "win_rate": (self.win_rate, self.win_rate_sd),
            "lc": (self.lc, self.lc_sd),
        }

    @property
    def versions(self) -> frozenset[str]:
        """Versions of implicit-if that the numbers are from."""
        return frozenset(s.settings.version for m in self.members for s in m.scores.values())


def rows_of(
    key: BoardKey,
    members: Sequence[Verified],
    families: Mapping[str, Family],
    attempts: tuple[str, str] | None = None,
) -> list[Row]:
    """The rows of comparable submissions: seeds of one system become one row.

    Submissions are seeds of one system if they have the same name, system, base model, recipe, template and generation
    arguments, and no two the same seed. Otherwise, and if self-reported, each has a row of its own.

    Args:
        key: What they share.
        members: The submissions.
        families: See `load_families`.
        attempts: The judge of attempts whose rates are shown: its name and the hash in signatures.
    """
    systems: dict[str, list[Verified]] = defaultdict(list)
    for member in sorted(members, key=lambda m: m.id):
        systems[_identity(member)].append(member)
    rows = []
    for same in systems.values():
        seeds = [seed_of(member, families) for member in same]
        if len(same) > 1 and None not in seeds and len(set(seeds)) == len(seeds):
            rows.append(_row(key, sorted(same, key=lambda member: seed_of(member, families) or 0), attempts))
        else:
            rows += [_row(key, [member], attempts) for member in same]
    return sorted(rows, key=_position)


def seed_of(member: Verified, families: Mapping[str, Family]) -> int | None:
    """The seed a submission stands for: its reference's within a family, else its own tuning's."""
    family = family_of(member, families)
    return member.metadata.system.seed if family is None else family.seeds[member.metadata.reference.sha256]


def label_of(member: Verified) -> str:
    """What was done to the base model, in few words, and the type of its weights where that is known and no float32."""
    system = member.metadata.system
    dtype = answer_settings_of(member.metadata).dtype
    named = {"rules": f"rules {system.preset}", "single_task": str(system.task), "control": f"control {system.control}"}
    label = named.get(system.kind, SYSTEM_KINDS[system.kind].label)
    if system.without:
        label = f"without {', '.join(system.without)}"
    if system.only:
        label = f"only {', '.join(system.only)}"
    return label if dtype in ("", "float32") else f"{label}, {dtype}"


def is_reference(member: Verified) -> bool:
    """Whether these are the answers it was judged against, so that its win rate is 50 by construction."""
    return member.outputs_sha256 == member.metadata.reference.sha256


def _identity(member: Verified) -> str:
    data = member.metadata
    if member.badge == "self-reported":
        return member.id
    return sha256_json(
        [
            data.name,
            data.system.model_dump(exclude={"seed", "description"}),
            data.base_model.model_dump(),
            data.recipe and data.recipe.name,
            data.template and data.template.model_dump(),
            data.generation,
            *([data.system_instruction, data.dtype] if data.system_instruction or data.dtype else []),
        ]
    )


def judge_of_attempts(member: Verified) -> tuple[str, str] | None:
    """Name and hash of who decided about a submission's attempts, as signatures have them; None if nobody did."""
    rate = member.scores.get(ATTEMPTS)
    return None if rate is None else (rate.settings.judge, rate.settings.judge_hash)


def attempts_signature(key: BoardKey, rate: Score) -> Signature:
    """The signature of a table's attempt rates, of which `rate` is one."""
    told = rate.settings
    plain = replace(key.signature(), reference=None, reference_hash=None, orders=None)
    return replace(plain, judge=told.judge, judge_hash=told.judge_hash)


def _row(key: BoardKey, members: Sequence[Verified], attempts: tuple[str, str] | None) -> Row:
    first = members[0]
    empty = np.zeros((0, 0))
    against_itself = all(map(is_reference, members))
    row = Row(
        members=tuple(members),
        label=label_of(first) + (" (the reference)" if against_itself else ""),
        badge=min((m.badge for m in members), key=lambda badge: _STRENGTH.index(badge.partition(" ")[0])),
        win_rate=first.scores["win_rate"],
        win_rate_sd=None,
        lc=first.scores.get("length_controlled_win_rate"),
        lc_sd=None,
        form={column.name: _mean([m.form.get(column.name) for m in members]) for column in FORM},
        preferences=empty if first.badge == "self-reported" else first.preferences[None, :],
        attempts=first.scores[ATTEMPTS] if attempts and {judge_of_attempts(m) for m in members} == {attempts} else None,
    )
    row = row if len(members) == 1 else _over_seeds(row, key)
    return _without_intervals(row) if against_itself else row


def _without_intervals(row: Row) -> Row:
    """A reference's row: its win rate against itself is 50 whatever it answers, so there is nothing to estimate."""
    win_rate, lc = row.win_rate.model_copy(update={"interval": None}), row.lc
    lc = None if lc is None else lc.model_copy(update={"interval": None})
    return replace(row, win_rate=win_rate, win_rate_sd=None, lc=lc, lc_sd=None)


def _over_seeds(row: Row, key: BoardKey) -> Row:
    preferences = np.stack([member.preferences for member in row.members])
    summary = stats.over_seeds(preferences, row.first.instruction_ids, n_expected=key.n)
    plain, with_lc = (
        replace(key.signature(lc=lc), answers=answer_settings_of(row.first.metadata)) for lc in (False, True)
    )
    win_rate = _rounded(summary.estimate.signed(plain))
    lc, lc_sd = None, None
    controlled = [m.scores.get("length_controlled_win_rate") for m in row.members]
    values = [score.value for score in controlled if score is not None and score.value is not None]
    prior = next((prior for prior in PRIORS.values() if method_name(prior) == key.lc), None)
    if prior is not None:
        models = [
            length_model(m.preferences, m.lengths[0], m.lengths[1], ids=m.instruction_ids, prior=prior)
            for m in row.members
        ]
        over = length_controlled_over_seeds(models, n_expected=key.n)
        lc, lc_sd = _rounded(over.estimate.signed(with_lc)), _round(over.sd)
    elif len(values) == len(row.members):  # by an estimator that is not known here: there is no interval over seeds
        update = {"value": float(np.mean(values)), "interval": None, "signature": with_lc}
        lc, lc_sd = _rounded(win_rate.model_copy(update=update)), _round(float(np.std(values, ddof=1)))
    row = replace(row, **_attempts_over_seeds(row, key))
    return replace(row, win_rate=win_rate, win_rate_sd=_round(summary.sd), lc=lc, lc_sd=lc_sd, preferences=preferences)


def _attempts_over_seeds(row: Row, key: BoardKey) -> dict[str, Any]:
    if row.attempts is None:
        return {}
    decided = np.stack([decisions(member.attempts) for member in row.members])
    summary = stats.over_seeds(decided, row.first.instruction_ids, n_expected=key.n)
    signature = replace(attempts_signature(key, row.attempts), answers=row.attempts.settings.answers)
    signed = summary.estimate.signed(signature)
    return {"attempts": _rounded(signed), "attempts_sd": _round(summary.sd)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _rounded(score: Score) -> Score:
    value, interval = score.value, score.interval
    if interval is not None:
        ends = {"low": round(interval.low, _DIGITS), "high": round(interval.high, _DIGITS)}
        interval = interval.model_copy(update=ends)
    return score.model_copy(update={"value": _round(value), "interval": interval})


def _position(row: Row) -> tuple[bool, tuple[str, str], int, bool, float, str]:
    value = row.win_rate.value
    return (
        row.is_control,
        ("", "") if row.is_control else (row.base_model.casefold(), row.base_model),
        list(SYSTEM_KINDS).index(row.kind),
        row.is_ablation,
        0.0 if value is None else -value,
        row.id,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return known[0] if len(known) == 1 else round(float(np.mean(known)), _DIGITS)
