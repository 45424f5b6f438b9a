"""Agreement between raters, pair by pair: of sheets filled in outside, and of any judge's stored annotations."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.sheets.read import holds_annotations, read_sheet
from implicit_if.harness.judging.sheets.verdicts import Rater, SheetVerdict, from_raw, hash_key, judge_name

_SHOWN = {"system_first": 1, "reference_first": 2, "none": 0}


class Share(NamedTuple):
    """So many of so many."""

    n: int
    of: int

    @property
    def percent(self) -> float | None:
        """In percent; None of none."""
        return 100 * self.n / self.of if self.of else None


@dataclass(frozen=True)
class RaterAgreement:
    """How two raters agree on the pairs that both judged; a rater's several verdicts on a pair count as their mean.

    Attributes:
        first: One rater's name.
        second: The other's; the same name where a rater's verdicts in both orders are compared.
        same: Pairs with the same verdict (the first answer, the second, neither), of all pairs in common.
        kappa: Cohen's, over these three; None where both always say the same one thing.
        correlation: Pearson's, of the preferences for the answer that the first rater's file names first (the
            system's, where it says which that is); kappa is over the same side. None below two pairs, or where one
            side does not vary.
        winner: Pairs with the same winner, of those that both decide (no preference of exactly 0.5).
        attempts: Answers of which both say the same (attempts the instruction or not, half counts as attempt), of those
            of which both say anything.
        attempts_kappa: Cohen's, over these two.
    """

    first: str
    second: str
    same: Share
    kappa: float | None
    correlation: float | None
    winner: Share
    attempts: Share
    attempts_kappa: float | None


class _Rating(NamedTuple):
    """A rater's mean verdict on a pair, its answers in the order of their hashes."""

    preference: float
    attempts: tuple[float | None, float | None]
    swapped: bool  # whether the file names the answers in the other order


def rater_agreement(files: Sequence[str | Path]) -> list[RaterAgreement]:
    """Agreement of every two raters in the files, and of each with itself where it judged pairs in both orders.

    Args:
        files: Sheets and files of annotations, each `[NAME=]PATH`. Without NAME a rater is called by its judge's name
            (with its fingerprint, where judges of one name have several), or by the file where it says nothing; files
            of one name are put together.

    Returns:
        One entry for every two raters with a pair in common, in the files' order; then one for each rater who judged
        pairs in both orders.

    Raises:
        UserError: If a file is malformed, or no two raters judged the same pair. Rows of a blind sheet have keys, not
            hashes, and have pairs in common only with the same sheet's.
    """
    by_judge: dict[tuple[str, str], list[SheetVerdict]] = {}
    for file in files:
        for judge, rows in load_ratings(str(file)).items():
            by_judge.setdefault(judge, []).extend(rows)
    names = Counter(name for name, _ in by_judge)
    ratings = {
        name if names[name] == 1 else f"{name} ({fingerprint[:8]})": rows
        for (name, fingerprint), rows in by_judge.items()
    }
    means = {name: _means(rows) for name, rows in ratings.items()}
    found = [
        _agreement(a, b, means[a], means[b]) for a, b in itertools.combinations(means, 2) if means[a].keys() & means[b]
    ]
    for name, rows in ratings.items():
        # what came up as two systems' answers is two pairs here, though it be one text
        own = [row._replace(pair=f"{row.system.replace(':', ' ')} {row.pair}") for row in rows]
        one, other = (_means(row for row in own if row.shown == shown) for shown in (1, 2))
        if one.keys() & other.keys():
            found.append(_agreement(name, name, one, other))
    if not found:
        raise UserError(
            f"found {len(ratings)} raters ({', '.join(ratings) or 'none'}) and no pair that two of them judged. Rows "
            f"of a blind sheet have pairs in common only with the same sheet's: judge with each sheet first "
            f"(implicit-if judge ... --judge sheet:FILE), and give the annotations."
        )
    return found


def load_ratings(spec: str) -> dict[tuple[str, str], list[SheetVerdict]]:
    """The verdicts in a file, by the rater's name and fingerprint (empty for a sheet); rows not filled in are left out.

    Args:
        spec: See `rater_agreement`.

    Raises:
        UserError: If the file is malformed, or NAME is given to several raters.
    """
    name, equals, rest = spec.partition("=")
    path = Path(spec if not equals or Path(spec).exists() else rest)
    label = "" if path == Path(spec) else name
    rows = (
        _annotations(path)
        if holds_annotations(path)
        else [((_called(row.rater, path), ""), row) for row in read_sheet(path)]
    )
    found: dict[tuple[str, str], list[SheetVerdict]] = {}
    for rater, row in rows:
        if row.preference is not None:
            found.setdefault(rater, []).append(row)
    if label and len(found) > 1:
        raise UserError(
            f"{path}: holds verdicts of {', '.join(n for n, _ in found)}. One name stands for one rater; leave it out."
        )
    return {(label or rater[0], "" if label else rater[1]): rows for rater, rows in found.items()}


def _annotations(path: Path) -> list[tuple[tuple[str, str], SheetVerdict]]:
    """The stored verdicts; of a sheet's judge, those that its annotation was made of."""
    found = []
    for a in AnnotationStore(path).read().verdicts.values():
        if a.preference is None or a.system_sha256 == a.reference_sha256:
            continue
        pair = hash_key(a.instruction_id, a.system_sha256, a.reference_sha256)
        whole = SheetVerdict(str(path), pair, Rater("", ""), "", _SHOWN[a.order], a.preference)
        kept = from_raw(a.raw) if a.judge.startswith(("sheet:", "human")) else []
        found += [((a.judge, a.fingerprint), row._replace(pair=pair)) for row in kept or [whole]]
    return found


def _called(rater: Rater, path: Path) -> str:
    return judge_name([rater]) if all(rater) else rater.name or path.stem


def _sorted(row: SheetVerdict) -> tuple[SheetVerdict, bool]:
    """The verdict with the answer of the smaller hash as the first, and whether it was the second; keys stay."""
    instruction, *hashes = row.pair.split(":")
    if hashes == sorted(hashes):
        return row, False
    return row.flipped()._replace(pair=hash_key(instruction, hashes[1], hashes[0])), True


def _means(rows: Iterable[SheetVerdict]) -> dict[str, _Rating]:
    by_pair: dict[str, list[tuple[SheetVerdict, bool]]] = {}
    for row in rows:
        one, swapped = _sorted(row)
        by_pair.setdefault(one.pair, []).append((one, swapped))
    return {
        pair: _Rating(
            sum(row.preference or 0.0 for row, _ in group) / len(group),
            (_mean([row.attempts[0] for row, _ in group]), _mean([row.attempts[1] for row, _ in group])),
            group[0][1],
        )
        for pair, group in by_pair.items()
    }


def _mean(said: Sequence[bool | None]) -> float | None:
    known = [value for value in said if value is not None]
    return sum(known) / len(known) if known else None


def _agreement(first: str, second: str, mine: Mapping[str, _Rating], theirs: Mapping[str, _Rating]) -> RaterAgreement:
    import numpy as np
    from sklearn.metrics import cohen_kappa_score

    from implicit_if.harness import stats

    pairs = sorted(mine.keys() & theirs.keys())
    a, b = (np.array([ratings[pair].preference for pair in pairs]) for ratings in (mine, theirs))
    swapped = np.array([mine[pair].swapped for pair in pairs])
    a, b = np.where(swapped, 1 - a, a), np.where(swapped, 1 - b, b)
    signs = np.sign(a - 0.5), np.sign(b - 0.5)
    decided = (signs[0] != 0) & (signs[1] != 0)
    equal = signs[0] == signs[1]
    varied = len(pairs) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    said = [
        (one >= 0.5, other >= 0.5)
        for pair in pairs
        for one, other in zip(mine[pair].attempts, theirs[pair].attempts, strict=True)
        if one is not None and other is not None
    ]
    return RaterAgreement(
        first,
        second,
        same=Share(int(equal.sum()), len(pairs)),
        kappa=stats.agreement(a, b).kappa,
        correlation=float(np.corrcoef(a, b)[0, 1]) if varied else None,
        winner=Share(int(equal[decided].sum()), int(decided.sum())),
        attempts=Share(sum(one == other for one, other in said), len(said)),
        attempts_kappa=cohen_kappa_score(*zip(*said, strict=True)) if len(set(itertools.chain(*said))) > 1 else None,
    )
