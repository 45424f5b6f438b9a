"""Writes a submission's folder: all of it or nothing."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.outputs import Output
from implicit_if.harness.storage import cache_dir, json_bytes, jsonl_bytes, yaml_bytes
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.data_files import annotation_rows, attempt_rows, output_rows
from implicit_if.leaderboards.submission.read import SubmissionError, parse_json, parse_yaml, read_content
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION, Metadata, Scores, metadata_dict
from implicit_if.leaderboards.verification import checks, verify
from implicit_if.leaderboards.verification.attempts import attempts_of
from implicit_if.leaderboards.verification.scores import pairs_of, score_rows

STAGING = ".submission-"
"""How the folders begin in which submissions are written, beside `submissions/`; a killed command leaves one there."""
_HERE, _EXCHANGE = -100, 2
"""Linux's AT_FDCWD and RENAME_EXCHANGE."""


def write_submission(
    root: Path,
    metadata: Mapping[str, Any],
    system: Sequence[Output],
    reference: Sequence[Output],
    annotations: Sequence[Annotation],
    *,
    attempts: Sequence[Annotation] = (),
    self_reported: bool = False,
    share: bool = True,
    replace: bool = False,
) -> Path:
    """Scores, writes and verifies a submission.

    Args:
        root: `submissions/`; created.
        metadata: Everything of `schema.Metadata` but `files`.
        system: The answers, one per instruction of the set.
        reference: The answers they were judged against.
        annotations: The verdicts on them, in every order; of an instruction and order, one.
        attempts: A judge's verdicts on attempts, one an answer; none where the shipped classifier decides about them.
        self_reported: Writes scores and metadata only.
        share: Whether the reference goes into `submissions/references/`, once for all submissions.
        replace: Replaces an existing submission of the same id.

    Returns:
        Its folder.

    Raises:
        UserError: If the metadata are wrong, or a submission of this id exists.
        SubmissionError: If what was written does not verify; nothing is left behind then.
    """
    draft = _validated({**metadata, "files": {}})
    texts = draft.instruction_set.texts
    rows: dict[str, Sequence[Any]] = {
        "outputs": output_rows(system, texts=texts),
        "reference": output_rows(reference, texts=texts),
        "annotations": annotation_rows(annotations),
    }
    if attempts:
        rows[read.ATTEMPTS] = attempt_rows(attempts)
    files = {read.SCORES: scores_bytes(draft, rows)}
    if not self_reported:
        files |= {f"{stem}.jsonl": jsonl_bytes(part) for stem, part in rows.items()}
    return write_files(root, draft, files, replace=replace, share=share)


def scores_bytes(metadata: Metadata, rows: Mapping[str, Sequence[Any]]) -> bytes:
    """`scores.json`.

    Args:
        metadata: The metadata.
        rows: The rows of each file, by its name without ending.

    Raises:
        UserError: If a verdict is missing, or the two sides answer different instructions.
    """
    system, reference, annotations = (rows[stem] for stem in read.DATA)
    ids = [row["instruction_id"] for row in system]
    if ids != [row["instruction_id"] for row in reference]:
        raise UserError("the system and the reference answer different instructions; expected the same ones.")
    found = {(row["instruction_id"], row["order"]) for row in annotations}
    missing = [(i, order) for i in ids for order in metadata.judge.orders if (i, order) not in found]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(ids) * len(metadata.judge.orders)} verdicts of {metadata.judge.name} are missing "
            f"(first: instruction {missing[0][0]}, order {missing[0][1]}). Only complete results can be submitted; "
            f"judge the rest: implicit-if judge OUTPUTS --reference FILE --annotations FILE"
        )
    decided = rows.get(read.ATTEMPTS)
    if decided is not None and len(decided) < len(ids):
        raise UserError(
            f"{len(ids) - len(decided)} of {len(ids)} verdicts on attempts are missing. Only complete results can be "
            f"submitted; ask for the rest: implicit-if attempts OUTPUTS --judge {decided[0]['judge']}"
        )
    return json_bytes(rescored(metadata, rows).model_dump(mode="json"))


def rescored(metadata: Metadata, rows: Mapping[str, Sequence[Any]]) -> Scores:
    """The scores that rows give, with what the shipped classifier says about attempts where no row does."""
    system, reference, annotations = (rows[stem] for stem in read.DATA)
    pairs = pairs_of(system, reference, verify.texts_of(system))
    attempts = attempts_of(pairs, rows.get(read.ATTEMPTS))
    return score_rows(metadata, system, reference, annotations, pairs, attempts)[1]


def write_files(
    root: Path, metadata: Metadata, files: Mapping[str, bytes], *, replace: bool, share: bool = True
) -> Path:
    """Writes the files with their hashes in `metadata.yaml`, verifies them beside `root`, then moves them in place.

    Of two commands that write one submission at once, the second finds it written.

    Raises:
        UserError: If a submission of this id exists and is not to be replaced.
        SubmissionError: If what was written does not verify.
    """
    target = root / metadata.id
    root.mkdir(parents=True, exist_ok=True)
    metadata = metadata.model_copy(update={"files": {name: _sha256(data) for name, data in sorted(files.items())}})
    lock = cache_dir() / "leaderboards" / f"submit-{_sha256(os.fsencode(root.resolve()))[:16]}"
    with locked(lock), tempfile.TemporaryDirectory(prefix=STAGING, dir=root.absolute().parent) as temporary:
        if target.exists() and not replace:
            raise UserError(f"{target}: exists. Choose another --revision, or replace it with --replace.")
        staged = Path(temporary, *Path(metadata.id).parts)
        shared = Path(read.REFERENCES, f"{metadata.files.get(read.REFERENCE)}.jsonl")
        for name, data in {**files, read.METADATA: yaml_bytes(metadata_dict(metadata))}.items():
            _write(Path(temporary, shared) if share and name == read.REFERENCE else staged / name, data)
        verify.verify(staged)
        if Path(temporary, shared).exists() and not (root / shared).exists():
            (root / shared).parent.mkdir(exist_ok=True)
            os.replace(Path(temporary, shared), root / shared)
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            _exchange(staged, target)
        else:
            os.replace(staged, target)
    return target


def update(path: Path) -> list[str]:
    """Recomputes `scores.json` from the answers and verdicts, which must verify, and rewrites `metadata.yaml`.

    Nothing is written where that changes nothing. Otherwise `rerun.json` and `audit.json`, which are about the old
    files, are dropped. A self-reported submission keeps its scores.

    Returns:
        What changed, a line each.

    Raises:
        SubmissionError: If anything but the scores does not verify.
    """
    content = read_content(path)
    metadata = verify.parse_metadata(content)
    findings = checks.Findings()
    verify.check_files(content, metadata, findings)
    rows = verify.parse_all_rows(content, findings)
    if rows and not findings:
        verify.check_rows(metadata, rows, findings)
    if findings:
        raise SubmissionError(path, findings.lines())
    files = {name: data for name, data in content.files.items() if name not in (read.METADATA, *read.BY_MAINTAINERS)}
    changes = []
    if rows:
        scores = rescored(metadata, rows)
        files[read.SCORES] = json_bytes(scores.model_dump(mode="json"))
        old = Scores.model_validate(parse_json(content.files[read.SCORES])).scores
        for name, score in sorted(scores.scores.items()):
            before = old[name].render(3) if name in old else "absent"
            if before != score.render(3):
                changes.append(f"{name}: {before} is now {score.render(3)}")
    current = parse_yaml(content.files[read.METADATA]).get("schema_version") == SCHEMA_VERSION
    if current and files[read.SCORES] == content.files[read.SCORES]:
        return []
    changes += [
        f"{name}: dropped, it is about the old files; run implicit-if {command} again"
        for name, command in ((read.RERUN, "rerun"), (read.AUDIT, "audit-verdicts"))
        if name in content.files
    ]
    write_files(path.absolute().parents[1], metadata, files, replace=True)
    return changes


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _exchange(staged: Path, target: Path) -> None:
    """Puts each folder in the other's place: in one step on Linux, so that a kill leaves the one or the other there."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if swap is not None and swap(_HERE, os.fsencode(staged), _HERE, os.fsencode(target), _EXCHANGE) == 0:
        return
    before = staged.with_name("before")
    os.replace(target, before)
    try:
        os.replace(staged, target)
    except OSError:
        os.replace(before, target)
        raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _validated(metadata: Mapping[str, Any]) -> Metadata:
    try:
        return Metadata.model_validate(metadata)
    except ValidationError as error:
        raise UserError("; ".join(verify.complaints(error))) from None
