"""Annotation files, ours and alpaca-eval's, as judged seeds of a system."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Literal, get_args

from implicit_if.harness.annotations import Annotation, AnnotationStore, Order
from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.comparing.published import is_published, read_published
from implicit_if.harness.comparing.shared_settings import settings_beside
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import official_ids
from implicit_if.harness.judging.judgement import Judgement, Unjudged
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.outputs import Output

_SUFFIX = ".annotations.jsonl"


@dataclass(frozen=True)
class Seed:
    """One annotation file: a system's verdicts at one seed.

    Attributes:
        path: The file.
        judge: The judge's name.
        fingerprint: Its fingerprint.
        orders: Presentation orders in which anything was judged.
        preferences: Preference by instruction id, averaged over the orders, where no order's verdict is missing.
        expected: Every instruction id of the outputs, or of the file if those are not known, judged or not.
        references: Hash of the reference's answer by instruction id.
        strays: Instructions in the file with verdicts about other answers only.
        answers: What shaped the answers, as far as it is known.
    """

    path: Path
    judge: str
    fingerprint: str
    orders: tuple[str, ...]
    preferences: dict[str, float]
    expected: frozenset[str]
    references: dict[str, str]
    strays: int = 0
    answers: AnswerSettings = NOTHING_KNOWN


def parse_system(spec: str) -> tuple[str, list[Path]]:
    """`[NAME=]PATH[,PATH...]` as a name and annotation files; a folder stands for all annotation files in it.

    Without NAME the first path's name is taken.

    Raises:
        UserError: If a path does not exist, or a folder holds no annotation file.
    """
    name, equals, paths = spec.partition("=")
    if not equals or Path(spec).exists():
        name, paths = "", spec
    files: list[Path] = []
    for part in paths.split(","):
        path = Path(part)
        if path.is_dir():
            found = sorted(path.glob(f"*{_SUFFIX}"))
            if not found:
                raise UserError(f"{path}: no *{_SUFFIX} in this folder. Make one: implicit-if judge OUTPUTS ...")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(
                f"{part!r}: no such file or folder. Expected [NAME=]PATH[,PATH...] with annotation files, as "
                f"implicit-if judge writes them."
            )
    first = Path(paths.split(",")[0])
    if not name and is_published(first):
        name = read_published(first).pairs[0].system.generator
    return name or (first.resolve().name if first.is_dir() else first.name.removesuffix(_SUFFIX)), files


def load_seed(
    path: Path,
    judge: str | None = None,
    outputs: Mapping[str, Output] | None = None,
    references: Mapping[str, Output] | None = None,
    answers: AnswerSettings | None = None,
) -> Seed:
    """Reads one annotation file, ours or alpaca-eval's.

    Args:
        path: The file.
        judge: Name, or first digits of the fingerprint, of the judge to take; needed if the file holds several.
        outputs: The system's answers by instruction id: only verdicts about these answers are taken, and one about
            each is expected.
        references: The reference's answers by instruction id: only verdicts against these are taken.
        answers: What shaped the system's answers; None looks beside the file.

    Raises:
        UserError: If the file has no verdict of that judge or about these answers, several judges without `judge`, or
            verdicts about different answers to one instruction.
    """
    lines = _of_one_judge(_lines(path), path, judge)
    in_file = {a.instruction_id for a in lines}
    lines = _about(lines, "system_sha256", outputs, path, "no verdict about the answers in --outputs")
    lines = _about(lines, "reference_sha256", references, path, "no verdict against the answers in --reference-outputs")
    by_instruction: dict[str, list[Annotation]] = defaultdict(list)
    for line in lines:
        by_instruction[line.instruction_id].append(line)
    _check_one_pair_each(by_instruction, path)
    orders = sorted({str(a.order) for a in lines})
    preferences = {}
    for instruction_id, group in by_instruction.items():
        known = {str(a.order): a.preference for a in group if a.preference is not None}
        if len(known) == len(orders):
            preferences[instruction_id] = sum(known[order] for order in orders) / len(orders)
    hashes = {i: group[0].reference_sha256 for i, group in by_instruction.items()}
    if outputs is not None and references is not None:
        hashes |= {i: references[i].sha256 for i in outputs if i in references}
    return Seed(
        path,
        lines[0].judge,
        lines[0].fingerprint,
        tuple(orders),
        preferences,
        frozenset(_expected(path, by_instruction) if outputs is None else outputs),
        hashes,
        len(in_file - by_instruction.keys()),
        settings_beside(path, lines) if answers is None else answers,
    )


def _lines(path: Path) -> list[Annotation]:
    if is_published(path):
        return read_published(path).annotations
    content = AnnotationStore(path).read()
    return [*content.verdicts.values(), *content.failures.values()]


def _expected(path: Path, ids: Collection[str]) -> Collection[str]:
    """The instructions of the file; of a published one all of AlpacaEval's if it is part of them."""
    return official_ids() if is_published(path) and set(ids) <= set(official_ids()) else ids


def judgement_of(pairs: Sequence[Pair], path: Path, judge: str | None = None) -> Judgement:
    """The verdicts that a file holds about these pairs, as if they had just been judged.

    Args:
        pairs: The answers.
        path: The file.
        judge: As in `load_seed`.

    Raises:
        UserError: If the file has no verdict about these answers, or several judges' without `judge`.
    """
    return judgement_from(pairs, _of_one_judge(_lines(path), path, judge), path)


def judgement_from(pairs: Sequence[Pair], lines: Sequence[Annotation], path: Path) -> Judgement:
    """The verdicts about these pairs, as if they had just been judged.

    Args:
        pairs: The answers.
        lines: One judge's verdicts.
        path: Where they are from, for messages.

    Raises:
        UserError: If none is about these answers.
    """
    found = {(a.instruction_id, a.system_sha256, a.reference_sha256, a.order): a for a in lines}
    keys = [(p.instruction_id, p.system.sha256, p.reference.sha256) for p in pairs]
    orders = tuple(order for order in get_args(Order) if any((*key, order) in found for key in keys))
    if not orders:
        raise UserError(f"{path}: no verdict about these answers. Give the answers that were judged, or judge these.")
    by_order = {order: array("d", [nan] * len(keys)) for order in orders}
    missing, cost = [], 0.0
    for place, key in enumerate(keys):
        for order in orders:
            one = found.get((*key, order))
            cost += (one and one.cost) or 0.0
            if one is None or one.preference is None:
                missing.append(Unjudged(key[0], order, (one and one.error) or "no verdict in the file"))
            else:
                by_order[order][place] = one.preference
    ids = [key[0] for key in keys]
    return Judgement(lines[0].judge, lines[0].fingerprint, orders, ids, by_order, missing, cost or None)


def _about(
    lines: list[Annotation],
    side: Literal["system_sha256", "reference_sha256"],
    answers: Mapping[str, Output] | None,
    path: Path,
    none: str,
) -> list[Annotation]:
    """The lines about these answers, all if they are not known."""
    if answers is None:
        return lines
    known = {i: output.sha256 for i, output in answers.items()}
    kept = [a for a in lines if getattr(a, side) == known.get(a.instruction_id)]
    if not kept:
        raise UserError(f"{path}: {none}. Give the files that were judged, or judge these: implicit-if judge ...")
    return kept


def _check_one_pair_each(by_instruction: Mapping[str, list[Annotation]], path: Path) -> None:
    for instruction_id, group in by_instruction.items():
        if len({a.system_sha256 for a in group}) > 1:
            raise UserError(
                f"{path}: instruction {instruction_id} was judged with different answers, e.g. before and after "
                f"outputs were made again. Say which with --outputs, or judge into a new file (--annotations)."
            )
        if len({a.reference_sha256 for a in group}) > 1:
            raise UserError(
                f"{path}: instruction {instruction_id} was judged against different references' answers. Say which "
                f"reference with --reference-outputs FILE, or judge into a new file (--annotations)."
            )


def _of_one_judge(lines: list[Annotation], path: Path, judge: str | None) -> list[Annotation]:
    """The chosen judge's lines; one that only ever failed is none to choose, unless all did."""
    with_verdicts = [a for a in lines if a.preference is not None] or lines
    known = sorted({(a.judge, a.fingerprint) for a in with_verdicts})
    chosen = [(j, f) for j, f in known if judge is None or j == judge or (len(judge) >= 4 and f.startswith(judge))]
    if len(chosen) != 1:
        listing = ", ".join(f"{j} ({f[:8]})" for j, f in known) or "none"
        wanted = "one judge" if judge is None else f"one judge {judge!r}"
        raise UserError(
            f"{path}: expected verdicts of {wanted}, found judges: {listing}. Choose one with --judge NAME or the "
            f"first digits of its fingerprint; for none: implicit-if judge OUTPUTS --annotations {path} ..."
        )
    return [a for a in lines if (a.judge, a.fingerprint) == chosen[0]]
