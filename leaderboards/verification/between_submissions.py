"""Checks between submissions: one name each, one verdict each, and no answers under another system's name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from implicit_if.leaderboards.verification.answers import ALIKE
from implicit_if.leaderboards.verification.names import skeleton
from implicit_if.leaderboards.verification.result import Verified

COPIED_SHARE, NOTED_SHARE = 0.9, 0.5
"""Shares of equal answers, of those long enough to tell, from which they are a copy, or it is noted."""
_MOST_HOLDERS = 64
"""Of a verdict that more submissions have, only pairs with the first of them are compared."""
_DEFINED = ("empty", "constant", "echo", "echo_lead_in", "template", "token_soup")
"""Controls that answer alike by design; verification knows their answers."""

Pairs = dict[tuple[int, int], int]


def cross_problems(submissions: Sequence[Verified], newcomers: Collection[str] = ()) -> dict[str, list[str]]:
    """What is wrong between submissions, by the id of the one that is to blame.

    That is the one among `newcomers`, since what stands already was first; of two that are both new, or both not, both.
    A copy has nine tenths of its answers from another name, whatever spaces, marks, capitals, accents, look-alike
    letters or single words were changed; under one name, with one judge and reference, all of them. Short answers alone
    prove nothing.
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
    for (a, b), count in sorted(_shared_answers(submissions).items()):
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
    for (a, b), count in sorted(_shared_answers(submissions).items()):
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
    for a, b in sorted(_shared_pairs(submissions)):
        first, second = submissions[a], submissions[b]
        _, mine, theirs = np.intersect1d(first.pairs, second.pairs, return_indices=True)
        for order in first.by_order.keys() & second.by_order.keys():
            differing = np.flatnonzero(abs(first.by_order[order][mine] - second.by_order[order][theirs]) > 1e-6)
            if differing.size:
                yield first, second, f"{differing.size} verdicts differ from those of {{}} on the same answers"


def _owners_differ(first: Verified, second: Verified) -> bool:
    return first.metadata.name != second.metadata.name


def _telling(one: Verified) -> int:
    return int(np.count_nonzero(one.answers[:, 0]))


def _shared_answers(submissions: Sequence[Verified]) -> Pairs:
    """How many answers to the same instructions two submissions share, by their positions, where there are any."""
    held = [
        (position, one)
        for position, one in enumerate(submissions)
        if len(one.answers) and one.metadata.system.control not in _DEFINED
    ]
    if not held:
        return {}
    owners = np.concatenate([np.full(len(one.answers), position) for position, one in held])
    ids = np.array([key for _, one in held for key in one.instruction_ids])
    sketches = np.concatenate([one.answers for _, one in held])
    order = np.argsort(ids, kind="stable")
    order = order[sketches[order, 0] != 0]
    counts = np.zeros((len(submissions), len(submissions)), dtype=np.int64)
    starts = np.flatnonzero(np.concatenate(([True], ids[order][1:] != ids[order][:-1])))
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1:
            equal = np.zeros((len(rows), len(rows)), dtype=np.uint8)
            for numbers in sketches[rows].T:
                equal += numbers[:, None] == numbers
            counts[np.ix_(owners[rows], owners[rows])] += equal >= ALIKE
    return {(int(a), int(b)): int(counts[a, b]) for a, b in np.argwhere(np.triu(counts, 1))}


def _shared_pairs(submissions: Sequence[Verified]) -> set[tuple[int, int]]:
    """The positions of submissions with a verdict on the same answers."""
    held = [np.unique(one.pairs) for one in submissions]
    owner = np.repeat(np.arange(len(held)), [len(pairs) for pairs in held])
    pairs = np.concatenate(held) if held else np.zeros(0, dtype=np.uint64)
    order = np.lexsort((owner, pairs))
    pairs, owner = pairs[order], owner[order]
    starts = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))[: len(pairs)]
    found: set[tuple[int, int]] = set()
    for holders in np.split(owner, starts[1:]):
        if 1 < len(holders) <= _MOST_HOLDERS:
            found.update(combinations(holders.tolist(), 2))
        elif len(holders) > 1:
            found.update((int(holders[0]), int(other)) for other in holders[1:])
    return found
