"""Recomputes a submission's numbers from its answers and verdicts. Nothing in it is believed, nothing is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from implicit_if.harness.answer_form import foreign_words
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.registry import offline_judges
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.signature import make_signature
from implicit_if.harness.storage import json_bytes
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.data_files import OutputRow, RowKind, parse_rows
from implicit_if.leaderboards.submission.maintainer_files import Audit, Rerun
from implicit_if.leaderboards.submission.migrations import migrate, sign_task
from implicit_if.leaderboards.submission.read import SubmissionError
from implicit_if.leaderboards.submission.schema import Metadata, Scores
from implicit_if.leaderboards.verification import answers, attempts, checks
from implicit_if.leaderboards.verification.rejudge import judged_again
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import (
    answer_settings_of,
    fits,
    form_differences,
    impossible,
    pairs_of,
    score_differences,
    score_rows,
    strange_labels,
)

M = TypeVar("M", bound=BaseModel)
_KINDS: dict[str, RowKind] = {"outputs": "outputs", "annotations": "annotations", read.ATTEMPTS: "attempts"}


def verify(folder: str | Path, *, contributed: bool = False) -> Verified:
    """Verifies one submission.

    Args:
        folder: `<org>__<model>/<revision>`.
        contributed: As a pull request may bring it: without a maintainer's `rerun.json`.

    Raises:
        SubmissionError: Lists what is wrong, bounded in number and length.
    """
    return examine(read.read_content(Path(folder)), contributed=contributed)


def examine(content: read.Content, *, contributed: bool = False) -> Verified:
    """Verifies what was read; see `verify`."""
    metadata = parse_metadata(content)
    findings = checks.Findings()
    check_files(content, metadata, findings)
    for name in read.BY_MAINTAINERS if contributed else ():
        if name in content.files:
            findings.add(f"{name}: is written by maintainers only; leave it out")
    stored = _parse(content, read.SCORES, Scores, findings)
    added: dict[str, Rerun | Audit] = {}
    if read.RERUN in content.files and (rerun := _parse(content, read.RERUN, Rerun, findings)) is not None:
        added[read.RERUN] = rerun
    if read.AUDIT in content.files and (audit := _parse(content, read.AUDIT, Audit, findings)) is not None:
        added[read.AUDIT] = audit
    rows = parse_all_rows(content, findings)
    checks.check_judge(metadata.judge, findings)
    checks.check_reference(metadata.reference, metadata.instruction_set, findings)
    checks.check_template(metadata.template, findings)
    if rows and not findings:
        check_rows(metadata, rows, findings)
    if findings or stored is None:
        raise SubmissionError(content.folder, findings.lines())
    if not rows:
        return _self_reported(content, metadata, stored)
    return _recomputed(content, metadata, stored, rows, added)


def parse_all_rows(content: read.Content, findings: checks.Findings) -> dict[str, list[Any]]:
    """The rows of every file of rows, by stem; problems go to `findings`."""
    rows = {}
    for stem in content.stems:
        try:
            rows[stem] = _rows(content, stem)
        except ValueError as error:
            findings.add(f"{stem}.jsonl: {error}")
    return rows


def complaints(error: ValidationError) -> list[str]:
    """A validation error in short lines that hold no value from the file but its key names."""
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]:
        where = one_line(".".join(str(part)[:60] for part in item["loc"]), 120)
        lines.append(f"{where}: {item['msg']}".removeprefix(": "))
    return lines


def parse_metadata(content: read.Content) -> Metadata:
    """The metadata, migrated and validated.

    Raises:
        SubmissionError: Lists what is wrong.
    """
    name = read.METADATA
    try:
        return Metadata.model_validate(migrate(read.parse_yaml(content.files[name])))
    except ValidationError as error:
        raise SubmissionError(content.folder, [f"{name}: {line}" for line in complaints(error)]) from None
    except ValueError as error:
        raise SubmissionError(content.folder, [f"{name}: {error}"]) from None


def check_files(content: read.Content, metadata: Metadata, findings: checks.Findings) -> None:
    """The folder's name, the hashes in the metadata, and no file of rows without the others."""
    folder = content.folder.absolute()
    if f"{folder.parent.name}/{folder.name}" != metadata.id:
        findings.add(f"the folder is not named {metadata.id}, as metadata.yaml says")
    present = {n: h for n, h in content.hashes.items() if n not in (read.METADATA, *read.BY_MAINTAINERS)}
    for name in present.keys() - metadata.files.keys():
        findings.add("metadata.yaml: `files` lacks a file that is there", name)
    for name in metadata.files.keys() - present.keys():
        findings.add("metadata.yaml: `files` names a file that is not there", name)
    for name in present.keys() & metadata.files.keys():
        if present[name] != metadata.files[name]:
            findings.add(f"{name}: its sha256 is not the one in metadata.yaml; the file was changed")
    if content.stems not in ((), read.DATA, (*read.DATA, read.ATTEMPTS)):
        findings.add(
            f"found {', '.join(content.stems)} alone; expected {', '.join(read.DATA)}, or none (self-reported)"
        )


def _parse(content: read.Content, name: str, model: type[M], findings: checks.Findings) -> M | None:
    data = sign_task(content.files[name])
    try:
        parsed = model.model_validate(read.parse_json(data))
    except ValidationError as error:
        for line in complaints(error):
            findings.add(f"{name}: {line}")
    except ValueError as error:
        findings.add(f"{name}: {error}")
    else:
        if json_bytes(parsed.model_dump(mode="json")) == data:
            return parsed
        findings.add(f"{name}: is not written canonically; write it with implicit-if submit")
    return None


def _rows(content: read.Content, stem: str) -> list[Any]:
    if stem == "reference":  # many submissions share one
        return _reference_rows(_Hashed(content.hashes[read.REFERENCE], content.rows(stem)))
    return parse_rows(content.rows(stem), _KINDS[stem])


class _Hashed(NamedTuple):
    """Bytes that are looked up by their hash."""

    sha256: str
    data: bytes

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self.sha256 == other.sha256


@lru_cache(maxsize=4)
def _reference_rows(hashed: _Hashed) -> list[Any]:
    return parse_rows(hashed.data, "outputs")


def check_rows(metadata: Metadata, rows: Mapping[str, list[Any]], findings: checks.Findings) -> None:
    """Everything about the rows but the scores; problems go to `findings`."""
    outputs, reference, annotations = (rows[stem] for stem in read.DATA)
    hashes, reference_hashes = checks.answer_hashes(outputs), checks.answer_hashes(reference)
    for stem, part in (("outputs", outputs), ("reference", reference)):
        checks.check_outputs(stem, part, metadata.instruction_set.texts, findings)
    checks.check_coverage(metadata.instruction_set, list(hashes), findings)
    if hashes.keys() != reference_hashes.keys():
        findings.add("reference: does not answer the same instructions as outputs")
    if checks.hash_of_answers(reference_hashes) != metadata.reference.sha256:
        findings.add("metadata.yaml: reference.sha256 is not the hash of reference.jsonl's answers")
    if reference[0]["generator"] != metadata.reference.name:
        findings.add("metadata.yaml: reference.name is not the generator that reference.jsonl names")
    checks.check_annotations(annotations, metadata.judge, hashes, reference_hashes, findings)
    if read.ATTEMPTS in rows:
        attempts.check_attempts(rows[read.ATTEMPTS], outputs, texts_of(outputs), findings)


def texts_of(outputs: Sequence[OutputRow]) -> dict[str, str]:
    """The instructions' texts that the rows themselves or the builtin set tell, by id."""
    told = {row["instruction_id"]: row["instruction"] for row in outputs if row["instruction"]}
    return {**load_instructions("builtin").texts(), **told}


def _recomputed(
    content: read.Content,
    metadata: Metadata,
    stored: Scores,
    rows: Mapping[str, list[Any]],
    added: Mapping[str, Rerun | Audit],
) -> Verified:
    outputs, reference, annotations = (rows[stem] for stem in read.DATA)
    hashes, reference_hashes = checks.answer_hashes(outputs), checks.answer_hashes(reference)
    texts = texts_of(outputs)
    pairs = pairs_of(outputs, reference, texts)
    decided = attempts.attempts_of(pairs, rows.get(read.ATTEMPTS))
    judgement, computed = score_rows(metadata, outputs, reference, annotations, pairs, decided)
    stored, computed = attempts.settle(stored, computed)
    again = judged_again(metadata.judge.name, metadata.judge.fingerprint, pairs, judgement.preferences.tolist())
    problems = [
        *strange_labels(stored.scores),
        *score_differences(stored.scores, computed.scores),
        *form_differences(stored.form, computed.form),
        *(again or []),
        *_maintainers_problems(content, added, stored),
    ]
    control = metadata.system.control
    if control is not None and answers.is_control(control, outputs, texts) is False:
        problems.append(f"metadata.yaml: system.control is {control}, but these are not that control's answers")
    if problems:
        raise SubmissionError(content.folder, problems)
    notes = [
        f"a maintainer's {name.removesuffix('.json')} does not agree" for name, one in added.items() if not one.agrees
    ]
    if again is None and metadata.judge.name in offline_judges():
        notes.append(
            f"{metadata.judge.name}'s verdicts are believed: without the instructions' texts it cannot judge again"
        )
    if (note := foreign_words([p.system for p in pairs], [p.reference for p in pairs])) is not None:
        notes.append(note)
    return Verified(
        id=metadata.id,
        folder=content.folder,
        metadata=metadata,
        badge=_badge(again is not None, {name: one for name, one in added.items() if one.agrees}),
        scores=stored.scores,
        # a measure that is younger than the submission; rounded, since processors round sums differently
        form={name: None if v is None else round(v, 6) for name, v in computed.form.items()} | stored.form,
        instruction_ids=tuple(hashes),
        preferences=judgement.preferences,
        attempts=np.zeros(0) if decided is None else decided.judgement.preferences,
        by_order={order: judgement.in_order(order) for order in judgement.orders},
        lengths=np.array([[len(row["output"]) for row in part] for part in (outputs, reference)], dtype=np.uint32),
        answers=answers.sketches(outputs),
        pairs=_pair_keys(metadata.judge.fingerprint, hashes, reference_hashes),
        outputs_sha256=checks.hash_of_answers(hashes),
        sha256=content.sha256,
        notes=tuple(notes),
    )


def _badge(judged: bool, agreeing: Mapping[str, Rerun | Audit]) -> str:
    """What was done; see `result.BADGES`."""
    if read.RERUN in agreeing:
        return "re-run"
    if judged:
        return "recomputed"
    found = agreeing.get(read.AUDIT)
    return f"audited ({found.n} of {found.n_expected})" if isinstance(found, Audit) else "rescored"


def _pair_keys(fingerprint: str, *hashes: Mapping[str, str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """`[n]` what a verdict is about, but for the order: judge, instruction and both answers."""
    rows = (f"{fingerprint}{key}{mine}{hashes[1][key]}" for key, mine in hashes[0].items())
    keys = (hashlib.blake2b(row.encode("ascii"), digest_size=8).digest() for row in rows)
    return np.array([int.from_bytes(key, "little") for key in keys], dtype=np.uint64)


def _self_reported(content: read.Content, metadata: Metadata, stored: Scores) -> Verified:
    expected = make_signature(
        task=metadata.task,
        instruction_set=metadata.instruction_set.name,
        instruction_revision=metadata.instruction_set.revision,
        n=metadata.instruction_set.n,
        reference=metadata.reference.name,
        reference_sha256=metadata.reference.sha256,
        judge=metadata.judge.name,
        fingerprint=metadata.judge.fingerprint,
        orders=len(metadata.judge.orders),
        answers=answer_settings_of(metadata),
    )
    problems = [*strange_labels(stored.scores), *impossible(stored)]
    problems += [
        f"{name}: found one without answers, which are what it is about"
        for name in read.BY_MAINTAINERS
        if name in content.files
    ]
    if "win_rate" not in stored.scores:
        problems.append("scores.json: win_rate is missing")
    for metric, score in stored.scores.items():
        found, mine = score.settings, expected
        if metric == ATTEMPTS:
            mine = replace(expected, reference=None, reference_hash=None, orders=None)
            mine = replace(mine, judge=found.judge, judge_hash=found.judge_hash)
        if not fits(replace(found, lc=None), mine):
            problems.append(f"scores.json: {metric}: its signature does not fit metadata.yaml, expected {mine}")
        if not score.complete or score.value is None or score.n_expected != metadata.instruction_set.n:
            problems.append(f"scores.json: {metric}: does not cover all {metadata.instruction_set.n} instructions")
    if problems:
        raise SubmissionError(content.folder, problems)
    nothing = np.zeros(0)
    return Verified(
        id=metadata.id,
        folder=content.folder,
        metadata=metadata,
        badge="self-reported",
        scores=stored.scores,
        form=stored.form,
        instruction_ids=(),
        preferences=nothing,
        by_order=dict.fromkeys(metadata.judge.orders, nothing),
        lengths=np.zeros((2, 0), dtype=np.uint32),
        answers=np.zeros((0, answers.SKETCH), dtype=np.uint32),
        pairs=np.zeros(0, dtype=np.uint64),
        outputs_sha256=None,
        sha256=content.sha256,
    )


def _maintainers_problems(content: read.Content, added: Mapping[str, Rerun | Audit], stored: Scores) -> list[str]:
    hashes = {name: digest for name, digest in content.hashes.items() if name not in read.BY_MAINTAINERS}
    expected = read.content_sha256(hashes)
    problems = [
        f"{name}: is about other files than these; make it again"
        for name, one in added.items()
        if one.submission_sha256 != expected
    ]
    rerun = added.get(read.RERUN)
    if isinstance(rerun, Rerun) and rerun.submitted != stored.scores.get("win_rate"):
        problems.append(f"{read.RERUN}: `submitted` is not this submission's win_rate")
    return problems
