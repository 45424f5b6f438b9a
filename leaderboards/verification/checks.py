"""What the rows of a submission must fulfil: coverage, hashes, orders, one judge, nothing twice, nothing foreign."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from implicit_if.harness.chat_templates import load_template, template_names
from implicit_if.harness.instructions import alpaca_eval, load_instructions
from implicit_if.harness.judging.registry import (
    backend_of,
    fingerprint_of_name,
    offline_judge,
    offline_judges,
    rereader,
)
from implicit_if.harness.outputs import instruction_id
from implicit_if.harness.references import reference_names
from implicit_if.harness.safe_text import is_plain, one_line
from implicit_if.harness.storage import sha256_json, sha256_text
from implicit_if.leaderboards.submission.data_files import AnnotationRow, OutputRow
from implicit_if.leaderboards.submission.schema import InstructionSetInfo, JudgeInfo, ReferenceInfo, TemplateInfo
from implicit_if.leaderboards.verification import names

_ROUNDING = 1e-3
_JUDGE_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,150}")


class Findings:
    """Collects problems; many of one kind become one line with a count and the first place."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, problem: str, place: str = "") -> None:
        """Notes a problem, in words that do not depend on the place."""
        self._count[problem] = self._count.get(problem, 0) + 1
        self._first.setdefault(problem, place)

    def __bool__(self) -> bool:
        return bool(self._count)

    def lines(self) -> list[str]:
        """One line a kind of problem."""
        lines = []
        for problem, count in self._count.items():
            place = one_line(self._first[problem], 60)
            where = f" (first: {place})" if place and count > 1 else f" ({place})" if place else ""
            lines.append(f"{problem}{where}" if count == 1 else f"{problem}, {count} times{where}")
        return lines


def answer_hashes(rows: Iterable[OutputRow]) -> dict[str, str]:
    """sha256 of each answer by instruction id, in the rows' order."""
    return {row["instruction_id"]: sha256_text(row["output"]) for row in rows}


def hash_of_answers(hashes: dict[str, str]) -> str:
    """`signature.outputs_sha256` of answers whose hashes are known."""
    return sha256_json(sorted([i, digest] for i, digest in hashes.items()))


def check_outputs(name: str, rows: Sequence[OutputRow], texts: bool, findings: Findings) -> None:
    """Order, one generator, texts where they are announced and only there."""
    before = ""
    for row in rows:
        key = row["instruction_id"]
        if key <= before:
            findings.add(f"{name}: answers an instruction twice, or is not sorted by instruction_id", key)
        before = key
        if (row["instruction"] is not None) != texts:
            announced = "without its text" if texts else "with a text"
            findings.add(f"{name}: holds an instruction {announced}, against instruction_set.texts", key)
        elif row["instruction"] is not None and instruction_id(row["instruction"]) != key:
            findings.add(f"{name}: an instruction's text does not hash to its id", key)
    if len({row["generator"] for row in rows}) != 1:
        findings.add(f"{name}: holds answers of several generators, expected one")
    for label in {row["generator"] for row in rows} | {row["dataset"] or "x" for row in rows}:
        if not is_plain(label) or not label:
            findings.add(f"{name}: a generator or dataset is empty or holds invisible characters", label)


def check_coverage(info: InstructionSetInfo, ids: Sequence[str], findings: Findings) -> None:
    """All instructions of the set that is named, and no other; a known set only under its own name."""
    content = sha256_json(sorted(ids))
    if len(ids) != info.n:
        findings.add(f"outputs: answers {len(ids)} instructions, instruction_set.n is {info.n}; all must be answered")
    for name, (revision, known) in known_sets().items():
        if info.name == name and content != known:
            findings.add(f"outputs: {_gap(name, ids)}; expected exactly the instructions of {name!r}")
        if info.name == name and info.revision != revision:
            findings.add(f"instruction_set.revision: expected {revision} for {name!r}")
        if info.name != name and content == known:
            findings.add(f"instruction_set.name: these are the instructions of {name!r}, expected that name")
    if (other := names.alike(info.name, known_sets())) is not None:
        findings.add(f"instruction_set.name: {info.name!r} is taken for {other!r}; name the set otherwise")
    if info.name not in known_sets() and info.revision != content:
        findings.add(f"instruction_set.revision: expected the hash over the sorted ids, {content}")
    if info.texts and content == known_sets()["alpaca_eval"][1]:
        findings.add("instruction_set.texts: AlpacaEval's licence forbids shipping its texts; expected false")


def check_annotations(
    rows: Sequence[AnnotationRow],
    judge: JudgeInfo,
    system: dict[str, str],
    reference: dict[str, str],
    findings: Findings,
) -> None:
    """One verdict of the judge on every pair in every order, about these answers."""
    name = "annotations"
    reread = rereader(judge.name)
    before = ("", "")
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = row["instruction_id"], row["order"]
        if key <= before:
            findings.add(f"{name}: holds a verdict twice, or is not sorted by instruction_id and order", key[0])
        before = key
        seen.add(key)
        if key[0] not in system:
            findings.add(f"{name}: holds a verdict on an instruction that is not answered", key[0])
        elif (row["system_sha256"], row["reference_sha256"]) != (system[key[0]], reference.get(key[0])):
            findings.add(f"{name}: holds a verdict about other answers than these", key[0])
        elif row["system_sha256"] == row["reference_sha256"] and row["preference"] != 0.5:
            findings.add(f"{name}: prefers one of two identical answers, expected 0.5", key[0])
        elif reread is not None and row["system_sha256"] != row["reference_sha256"]:
            allowed = reread(row["raw"])
            if allowed is None:
                findings.add(
                    f"{name}: holds words of the judge that are incomplete, so that no preference follows", key[0]
                )
            elif not _follows(row, allowed):
                findings.add(f"{name}: holds a preference that does not follow from what the judge said", key[0])
        if (row["judge"], row["fingerprint"]) != (judge.name, judge.fingerprint):
            findings.add(f"{name}: holds a verdict of another judge than metadata.yaml names", key[0])
        if row["order"] not in judge.orders:
            findings.add(f"{name}: holds a verdict in an order that metadata.yaml does not name", key[0])
    for order in judge.orders:
        missing = [i for i in system if (i, order) not in seen]
        if missing:
            findings.add(f"{name}: {len(missing)} of {len(system)} verdicts are missing in order {order}", missing[0])


def _follows(row: AnnotationRow, allowed: tuple[float, float]) -> bool:
    first = 1 - row["preference"] if row["order"] == "reference_first" else row["preference"]
    return allowed[0] - _ROUNDING <= first <= allowed[1] + _ROUNDING


def check_judge(judge: JudgeInfo, findings: Findings) -> None:
    """The fingerprint and the orders, as far as they are known for a judge of this name."""
    if (other := names.alike(judge.name.partition(":")[0], names.judge_names())) is not None:
        findings.add(f"judge.name: {one_line(judge.name, 60)!r} is taken for {other!r}; expected the judge's own name")
    if not judge.name.isascii():
        findings.add(
            f"judge.name: {one_line(judge.name, 60)!r} holds letters that are not ASCII; name the judge otherwise"
        )
    expected, backend = offline_judges().get(judge.name), backend_of(judge.name)
    if expected is not None and offline_judge(judge.name, judge.fingerprint) is None:
        findings.add(
            f"judge.fingerprint: {judge.fingerprint[:12]} is not that of this program's {judge.name!r} "
            f"({expected[:12]}); judge again with it"
        )
    named, by_name = fingerprint_of_name(judge.name)
    if named and by_name is None:
        findings.add(f"judge.name: {one_line(judge.name, 60)!r} names no rater; expected e.g. sheet:person/NAME")
    elif named and judge.fingerprint != by_name:
        findings.add(f"judge.fingerprint: is not that of {one_line(judge.name, 60)!r}; judge again from the sheet")
    if backend is not None and not backend.ordered and judge.orders != ["none"]:
        findings.add(f"judge.orders: {judge.name!r} scores answers one by one; expected [none]")
    if backend is not None and backend.ordered and judge.orders == ["none"]:
        findings.add("judge.orders: this judge sees two answers in an order; expected both orders")


def built_by_name(judge: str) -> bool:
    """True for a judge of this package that its name alone builds, and that reads no file here."""
    backend, (_, _, argument) = backend_of(judge), judge.partition(":")
    if backend is None or backend.kind == "raters":
        return False
    alone = backend.argument in ("none", "optional") and judge == backend.name
    return alone or (backend.argument != "none" and bool(_JUDGE_ARGUMENT.fullmatch(argument)))


def check_reference(reference: ReferenceInfo, info: InstructionSetInfo, findings: Findings) -> None:
    """A shipped reference's name stands for its answers."""
    if (other := names.alike(reference.name, reference_names())) is not None:
        findings.add(f"reference.name: {one_line(reference.name, 60)!r} is taken for {other!r}; name it otherwise")
    expected = names.known_reference(reference.name) if info.name == "builtin" else None
    if expected not in (None, reference.sha256):
        findings.add(
            f"reference.name: these are not the answers of this program's {reference.name!r}; name it otherwise"
        )


def check_template(template: TemplateInfo | None, findings: Findings) -> None:
    """A shipped template's name stands for that template, and its source for its tags."""
    if template is None:
        return
    known = known_templates()
    if template.name in known and template.sha256 not in (None, known[template.name][0]):
        findings.add(f"template.sha256: is not that of this program's {template.name!r}; name the template otherwise")
    for sha256, tags in known.values():
        if template.sha256 == sha256 and tuple(template.tags) != tags:
            findings.add(f"template.tags: expected {', '.join(tags)} for this template")


@cache
def known_sets() -> dict[str, tuple[str, str]]:
    """Revision and content hash of the sets that have a name of their own; nothing is downloaded for it."""
    builtin = load_instructions("builtin")
    return {
        "alpaca_eval": (alpaca_eval.REVISION, alpaca_eval.CONTENT_SHA256),
        "builtin": (builtin.revision, builtin.content_sha256),
    }


@cache
def known_templates() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Hash and tags of the shipped chat templates, by name."""
    return {name: (load_template(name).sha256, load_template(name).tags) for name in template_names()}


def _gap(name: str, ids: Sequence[str]) -> str:
    if name != "builtin":
        return f"these {len(ids)} ids are not its ids"
    known = load_instructions("builtin").texts().keys()
    missing, strange = sorted(known - set(ids)), sorted(set(ids) - known)
    shown = [
        f"{len(found)} {word} ({found[0]})" for found, word in ((missing, "missing"), (strange, "unknown")) if found
    ]
    return "instructions " + ", ".join(shown)
