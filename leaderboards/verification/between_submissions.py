"""Checks between submissions: one name each, one verdict each, and nobody's answers under another's name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from implicit_if.leaderboards.verification.names import skeleton
from implicit_if.leaderboards.verification.result import Verified

COPIED_SHARE, NOTED_SHARE = 0.9, 0.5
"""Shares of equal answers, of those long enough to tell, from which they are a copy, or it is noted."""
_MOST_HOLDERS = 64
"""Of an answer that more submissions have, only pairs with the first of them are counted."""
_DEFINED = ("empty", "constant", "echo", "echo_lead_in", "template", "token_soup")
"""Controls that answer alike by design; verification knows their answers."""

Pairs = dict[tuple[int, int], int]


def cross_problems(submissions: Sequence[Verified], newcomers: Collection[str] = ()) -> dict[str, list[str]]:
    """What is wrong between submissions, by the id of the one that is to blame.

    That is the one among `newcomers`, since what stands already was first; of two that are both new, or both not, both.
    A copy has nine tenths of its answers from another name, whatever spaces, marks, capitals or look-alike letters were
    changed; under one name, with one judge and reference, all of them. Short answers alone prove nothing.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for first, second, problem in (*_names(submissions), *_copies(submissions), *_contradictions(submissions)):
        blamed = [(a, b) for a, b in ((first, second), (second, first)) if a.id in newcomers and b.id not in newcomers]
        for one, other in blamed or ((first, second), (second, first)):
            found[one.id].append(problem.format(other.id))
    return {key: sorted(set(problems)) for key, problems in sorted(found.items())}


def with_shared_answers(submissions: Sequence[Verified]) -> list[Verified]:
    """The submissions, with a note where one shares most of its answers with another one of another name."""
    notes: dict[int, tuple[int, int]] = {}
    for (a, b), count in sorted(_shared(submissions, "answers").items()):
        for mine, theirs in ((a, b), (b, a)):
            controls = {submissions[a].metadata.system.kind, submissions[b].metadata.system.kind} & {"control"}
            if (
                not controls
                and _owners_differ(submissions[a], submissions[b])
                and count > max(NOTED_SHARE * _telling(submissions[mine]), notes.get(mine, (0, 0))[0])
            ):
                notes[mine] = count, theirs
    result = list(submissions)
    for mine, (count, theirs) in notes.items():
        note = f"{count} of {_telling(result[mine])} answers are those of {submissions[theirs].id}"
        result[mine] = replace(result[mine], notes=(*result[mine].notes, note))
    return result


Problems = Iterator[tuple[Verified, Verified, str]]


def _names(submissions: Sequence[Verified]) -> Problems:
    told: dict[str, list[str]] = {
        "differs from {} only in capital letters": [one.id for one in submissions],
        "its judge is named like that of {}, with other letters": [one.metadata.judge.name for one in submissions],
        "its instruction set is named like that of {}, with other letters": [
            one.metadata.instruction_set.name for one in submissions
        ],
        "its reference is named like that of {}, with other letters": [
            one.metadata.reference.name for one in submissions
        ],
    }
    for problem, names in told.items():
        first: dict[str, dict[str, int]] = defaultdict(dict)
        for position, name in enumerate(names):
            key = name.casefold() if "capital" in problem else skeleton(name)
            first[key].setdefault(name, position)
        for same in first.values():
            for a, b in combinations(same.values(), 2):
                yield submissions[a], submissions[b], problem


def _copies(submissions: Sequence[Verified]) -> Problems:
    for (a, b), count in sorted(_shared(submissions, "answers").items()):
        first, second = submissions[a], submissions[b]
        least, most = sorted((_telling(first), _telling(second)))
        if _owners_differ(first, second):
            if count >= COPIED_SHARE * least:
                share = "all its" if count == most else f"{count} of {least}"
                yield first, second, f"{share} answers are those of {{}}, which has another name"
        elif count == most and (first.metadata.judge, first.metadata.reference) == (
            second.metadata.judge,
            second.metadata.reference,
        ):
            yield first, second, "repeats {}: the same answers, reference and judge"


def _contradictions(submissions: Sequence[Verified]) -> Problems:
    for a, b in _shared(submissions, "pairs"):
        first, second = submissions[a], submissions[b]
        _, mine, theirs = np.intersect1d(first.pairs, second.pairs, return_indices=True)
        for order in first.by_order.keys() & second.by_order.keys():
            differing = np.flatnonzero(abs(first.by_order[order][mine] - second.by_order[order][theirs]) > 1e-6)
            if differing.size:
                yield first, second, f"{differing.size} verdicts differ from those of {{}} on the same answers"


def _owners_differ(first: Verified, second: Verified) -> bool:
    return first.metadata.name != second.metadata.name


def _telling(one: Verified) -> int:
    return int(np.count_nonzero(one.answers))


def _shared(submissions: Sequence[Verified], what: str) -> Pairs:
    """How many answers, or verdicts' subjects, two submissions share, by their positions; only pairs that share any."""
    keys: list[NDArray[np.uint64]] = []
    owners: list[NDArray[np.int64]] = []
    for position, one in enumerate(submissions):
        hashes: NDArray[np.uint64] = getattr(one, what)
        if not hashes.size or (one.metadata.system.control in _DEFINED and what == "answers"):
            continue
        # an odd multiplier spreads the instruction's id, so that equal answers to different instructions differ
        instructions = np.array([int(i, 16) for i in one.instruction_ids], dtype=np.uint64)
        keys.append((hashes ^ (instructions * np.uint64(0x9E3779B97F4A7C15)))[hashes != 0])
        owners.append(np.full(len(keys[-1]), position))
    if not keys:
        return {}
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order]
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    ends = np.append(starts[1:], len(key))
    counts: Pairs = defaultdict(int)
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        holders = owner[start:end].tolist()
        pairs = combinations(holders, 2) if len(holders) <= _MOST_HOLDERS else ((holders[0], h) for h in holders[1:])
        for pair in pairs:
            counts[pair] += 1
    return counts
