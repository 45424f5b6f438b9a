"""Writes a submission's folder: all of it or nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.storage import json_bytes, jsonl_bytes, yaml_bytes
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.canonical import compress
from implicit_if.leaderboards.submission.data_files import AnnotationRow, OutputRow, annotation_rows, output_rows
from implicit_if.leaderboards.submission.schema import Metadata, metadata_dict
from implicit_if.leaderboards.submission.scores import score_rows
from implicit_if.leaderboards.verification import verify

PACK_FROM = 256 * 1024
"""Bytes from which a file of rows is packed: smaller ones are easier to review as they are."""


def write_submission(
    root: Path,
    metadata: Mapping[str, Any],
    system: Sequence[Output],
    reference: Sequence[Output],
    annotations: Sequence[Annotation],
    *,
    packed: bool | None = None,
    self_reported: bool = False,
    replace: bool = False,
) -> Path:
    """Scores, writes and verifies a submission.

    Args:
        root: `submissions/`; created.
        metadata: Everything of `schema.Metadata` but `files`.
        system: The answers, one per instruction of the set.
        reference: The answers they were judged against.
        annotations: The verdicts on them, in every order; of an instruction and order, one.
        packed: Whether to pack files of rows; None packs large ones.
        self_reported: Writes scores and metadata only.
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
    files = {read.SCORES: scores_bytes(draft, rows["outputs"], rows["reference"], rows["annotations"])}
    if not self_reported:
        for stem, part in rows.items():
            data = jsonl_bytes(part)
            pack = len(data) >= PACK_FROM if packed is None else packed
            files[f"{stem}.jsonl{'.zst' if pack else ''}"] = compress(data) if pack else data
    return write_files(root, draft, files, replace=replace)


def scores_bytes(
    metadata: Metadata,
    system: Sequence[OutputRow],
    reference: Sequence[OutputRow],
    annotations: Sequence[AnnotationRow],
) -> bytes:
    """`scores.json`.

    Raises:
        UserError: If a verdict is missing, or the two sides answer different instructions.
    """
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
    return json_bytes(score_rows(metadata, system, reference, annotations)[1].model_dump(mode="json"))


def write_files(root: Path, metadata: Metadata, files: Mapping[str, bytes], *, replace: bool) -> Path:
    """Writes the files with their hashes in `metadata.yaml`, verifies them where they lie, then moves them in place.

    Raises:
        UserError: If a submission of this id exists and is not to be replaced.
        SubmissionError: If what was written does not verify.
    """
    target = root / metadata.id
    if target.exists() and not replace:
        raise UserError(f"{target}: exists. Choose another --revision, or replace it with --replace.")
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    metadata = metadata.model_copy(update={"files": hashes})
    with tempfile.TemporaryDirectory(prefix=".submission-", dir=root) as temporary:
        folder = Path(temporary, *Path(metadata.id).parts)
        folder.mkdir(parents=True)
        for name, data in {**files, read.METADATA: yaml_bytes(metadata_dict(metadata))}.items():
            with open(folder / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        verify.verify(folder)
        before = Path(temporary) / "before"
        if target.exists():
            os.replace(target, before)
        try:
            os.replace(folder, target)
        except OSError:
            if before.exists():
                os.replace(before, target)
            raise
    return target


def _validated(metadata: Mapping[str, Any]) -> Metadata:
    try:
        return Metadata.model_validate(metadata)
    except ValidationError as error:
        raise UserError("; ".join(verify.complaints(error))) from None
