"""Checks between submissions: one name each, and nobody's answers under another's name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from implicit_if.leaderboards.verification.result import Verified

NOTED_SHARE = 0.5
"""Share of equal answers, of those long enough to tell, from which it is noted."""
_MOST_HOLDERS = 64
"""An answer that more submissions than this have is nobody's own."""


def cross_problems(submissions: Sequence[Verified]) -> list[str]:
    """What is wrong between submissions, as `<id>: <what>` in the order of ids.

    Two submissions with all answers equal must be of one name: the same system under another judge, reference or seed
    of the judge. Controls answer alike by design and are left out. Empty and short answers alone prove nothing.
    """
    problems = []
    by_name: dict[str, list[str]] = defaultdict(list)
    for one in submissions:
        by_name[one.id.casefold()].append(one.id)
    for ids in by_name.values():
        problems += [f"{other}: differs from {ids[0]} only in capital letters" for other in ids[1:]]
    by_answers: dict[str, list[Verified]] = defaultdict(list)
    for one in submissions:
        if one.outputs_sha256 is not None and one.metadata.system.kind != "control" and one.answers.any():
            by_answers[one.outputs_sha256].append(one)
    for group in by_answers.values():
        for first, second in combinations(group, 2):
            problems += _same_answers(first, second)
    return sorted(problems)


def with_shared_answers(submissions: Sequence[Verified]) -> list[Verified]:
    """The submissions, with a note where one shares most of its answers with another one of another name."""
    owners = [i for i, s in enumerate(submissions) if s.metadata.system.kind != "control" and len(s.instruction_ids)]
    shared = _shared_counts([submissions[i] for i in owners])
    notes: dict[int, tuple[int, int]] = {}
    for (a, b), count in sorted(shared.items()):
        for mine, theirs in ((owners[a], owners[b]), (owners[b], owners[a])):
            telling = int(np.count_nonzero(submissions[mine].answers))
            other_name = submissions[mine].metadata.name != submissions[theirs].metadata.name
            if other_name and count > NOTED_SHARE * telling and count > notes.get(mine, (0, 0))[0]:
                notes[mine] = count, theirs
    result = list(submissions)
    for mine, (count, theirs) in notes.items():
        telling = int(np.count_nonzero(result[mine].answers))
        note = f"{count} of {telling} answers are those of {submissions[theirs].id}"
        result[mine] = replace(result[mine], notes=(*result[mine].notes, note))
    return result


def _same_answers(first: Verified, second: Verified) -> list[str]:
    if first.metadata.name != second.metadata.name:
        return [f"{second.id}: all its answers are those of {first.id}, which has another name"]
    a, b = first.metadata, second.metadata
    if (a.judge, a.reference) == (b.judge, b.reference):
        return [f"{second.id}: repeats {first.id}: the same answers, reference and judge"]
    return []


def _shared_counts(submissions: Sequence[Verified]) -> dict[tuple[int, int], int]:
    """How many telling answers two submissions have in common, by their positions; only pairs that share any."""
    keys: list[NDArray[np.uint64]] = []
    owners: list[NDArray[np.int64]] = []
    for position, one in enumerate(submissions):
        instructions = np.array([int(i, 16) for i in one.instruction_ids], dtype=np.uint64)
        telling = one.answers != 0
        # an odd multiplier spreads the instruction's id, so that equal answers to different instructions differ
        keys.append((one.answers ^ (instructions * np.uint64(0x9E3779B97F4A7C15)))[telling])
        owners.append(np.full(int(telling.sum()), position))
    if not keys:
        return {}
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order]
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    ends = np.append(starts[1:], len(key))
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        if end - start <= _MOST_HOLDERS:
            for pair in combinations(owner[start:end].tolist(), 2):
                counts[pair] += 1
    return counts
