"""The annotations contract: one verdict about one pair in one presentation order, kept in append-only JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from implicit_if.harness.errors import UserError
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.storage import sha256_json

Order = Literal["system_first", "reference_first", "none"]
"""Which answer the judge saw first; "none" for judges that score answers one by one or symmetrically."""

WITHDRAWN = "verdict taken back"
"""The error of a line that takes back the verdict before it; any other error leaves that verdict as it is."""


_BEGINS = b'{"cost": '
"""What every stored line begins with: its keys are sorted."""


class Annotation(BaseModel):
    """One verdict.

    Attributes:
        instruction_id: The instruction's id.
        order: See `Order`.
        preference: Probability that the system's answer is better, in [0, 1]; None for a failed verdict, which is
            retried on resume and never counted as a loss.
        raw: What the judge said, as text.
        error: Why there is no preference.
        judge: The judge's name.
        fingerprint: Hash over everything that shapes the judge's verdict.
        system_sha256: Hash of the system's answer.
        reference_sha256: Hash of the reference's answer.
        latency: Seconds the verdict took; None if not measured.
        cost: US dollars; None if not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction_id: str
    order: Order
    preference: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    raw: str = ""
    error: str | None = None
    judge: str
    fingerprint: str
    system_sha256: str
    reference_sha256: str
    latency: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _either_verdict_or_error(self) -> Annotation:
        if (self.preference is None) == (self.error is None):
            raise ValueError("expected either a preference or an error, not both or neither")
        return self

    @property
    def key(self) -> str:
        return annotation_key(
            self.fingerprint, self.instruction_id, self.system_sha256, self.reference_sha256, self.order
        )


def annotation_key(
    fingerprint: str, instruction_id: str, system_sha256: str, reference_sha256: str, order: Order
) -> str:
    """What a verdict is about: a stored verdict is reused if and only if its key is equal."""
    return sha256_json([fingerprint, instruction_id, system_sha256, reference_sha256, order])


class StoreContent(NamedTuple):
    """What a store holds: the last verdict of each key, failed ones apart."""

    verdicts: dict[str, Annotation]
    failures: dict[str, Annotation]


class AnnotationStore:
    """A JSON Lines file of annotations, shared by any number of processes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[Annotation]:
        """Yields every complete line in the file's order, holding one at a time.

        Raises:
            UserError: If a line is not an annotation; names the file and the line.
        """
        for number, record in enumerate(read_records(self.path), start=1):
            yield _parse(record, self.path, number)

    def read(self) -> StoreContent:
        """Reads the whole file; a later line of the same key replaces an earlier one.

        A failed line replaces a verdict only if it says `WITHDRAWN`.

        Raises:
            UserError: If a line is not an annotation; names the file and the line.
        """
        verdicts: dict[str, Annotation] = {}
        failures: dict[str, Annotation] = {}
        for annotation in self:
            if annotation.error is None:
                verdicts[annotation.key] = annotation
                failures.pop(annotation.key, None)
            elif annotation.error == WITHDRAWN or annotation.key not in verdicts:
                verdicts.pop(annotation.key, None)
                failures[annotation.key] = annotation
        return StoreContent(verdicts, failures)

    def append(self, annotations: Iterable[Annotation]) -> None:
        """Appends verdicts durably; see `append_records`.

        Raises:
            UserError: If the file ends in what no annotation begins with.
            OSError: If it cannot be written.
        """
        append_records(self.path, (a.model_dump() for a in annotations), begins=_BEGINS)


def _parse(record: dict[str, Any], path: Path, number: int) -> Annotation:
    try:
        return Annotation.model_validate(record)
    except ValidationError as error:
        detail = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
        raise UserError(
            f"{path}, line {number}: not an annotation ({detail}). Delete that line to judge it again."
        ) from error
