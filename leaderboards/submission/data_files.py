"""The lines of a submission's JSON Lines files: how outputs and annotations are stored, and read back without trust.

A file is accepted only if writing its parsed content gives the same bytes. That one check refuses duplicate keys, NaN,
numbers in odd forms, white space, hidden keys and anything else two readers could read differently.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, FailFast, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from implicit_if.harness.annotations import Annotation, Order
from implicit_if.harness.outputs import FinishReason, Output
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import jsonl_bytes
from implicit_if.leaderboards.submission.schema import MAX_INSTRUCTIONS

MAX_ANSWER = 200_000
"""Characters of an answer or an instruction."""
MAX_TOKENS = 10_000_000
MAX_RAW = 2_000
"""Characters kept of what a judge said."""
_MAX_PARTS = 20 * MAX_INSTRUCTIONS
"""Objects, lists and commas of a file outside of texts; canonical rows have at most 16 an instruction."""
_TEXT = re.compile(rb'"[^"]*"?')

RowKind = Literal["outputs", "annotations", "attempts"]
_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
_Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, StringConstraints(max_length=200)]
_Text = Annotated[str, StringConstraints(max_length=MAX_ANSWER)]


@with_config(ConfigDict(extra="forbid", strict=True))
class OutputRow(TypedDict):
    """A line of `outputs.jsonl` and `reference.jsonl`: a harness `Output`."""

    dataset: _Name | None
    finish_reason: FinishReason | None
    generator: _Name
    instruction: _Text | None
    instruction_id: _Id
    n_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None
    output: _Text


@with_config(ConfigDict(extra="forbid", strict=True))
class AnnotationRow(TypedDict):
    """A line of `annotations.jsonl`: a harness `Annotation` that is a verdict, without what differs between runs."""

    fingerprint: _Sha
    instruction_id: _Id
    judge: _Name
    order: Order
    preference: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    raw: Annotated[str, StringConstraints(max_length=MAX_RAW)]
    reference_sha256: _Sha
    system_sha256: _Sha


@with_config(ConfigDict(extra="forbid", strict=True))
class AttemptRow(TypedDict):
    """A line of `attempts.jsonl`: a verdict on one answer, the probability that it attempts its instruction."""

    fingerprint: _Sha
    instruction_id: _Id
    judge: _Name
    probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    raw: Annotated[str, StringConstraints(max_length=MAX_RAW)]
    system_sha256: _Sha


def output_rows(outputs: Iterable[Output], *, texts: bool) -> list[OutputRow]:
    """Outputs as stored: sorted by instruction, texts only where they may be shipped."""
    return [
        OutputRow(
            dataset=o.dataset,
            finish_reason=o.finish_reason,
            generator=o.generator,
            instruction=o.instruction if texts else None,
            instruction_id=o.instruction_id,
            n_tokens=o.n_tokens,
            output=o.output,
        )
        for o in sorted(outputs, key=lambda o: o.instruction_id)
    ]


def annotation_rows(annotations: Iterable[Annotation]) -> list[AnnotationRow]:
    """Verdicts as stored: sorted by instruction and order, `raw` shortened to `MAX_RAW` characters."""
    return [
        AnnotationRow(
            fingerprint=a.fingerprint,
            instruction_id=a.instruction_id,
            judge=a.judge,
            order=a.order,
            preference=float(a.preference),
            raw=_shortened(a.raw),
            reference_sha256=a.reference_sha256,
            system_sha256=a.system_sha256,
        )
        for a in sorted(annotations, key=lambda a: (a.instruction_id, a.order))
        if a.preference is not None
    ]


def _shortened(raw: str) -> str:
    from implicit_if.harness.judging.api.verdict_text import record

    if len(raw) <= MAX_RAW:
        return raw
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(kept := json.loads(raw), dict):
            raw = record(kept, MAX_RAW)
    return raw[:MAX_RAW]


def attempt_rows(annotations: Iterable[Annotation]) -> list[AttemptRow]:
    """Verdicts on single answers as stored; see `annotation_rows`."""
    return [
        AttemptRow(
            fingerprint=a.fingerprint,
            instruction_id=a.instruction_id,
            judge=a.judge,
            probability=float(a.preference),
            raw=_shortened(a.raw),
            system_sha256=a.system_sha256,
        )
        for a in sorted(annotations, key=lambda a: a.instruction_id)
        if a.preference is not None
    ]


def parse_rows(data: bytes, kind: RowKind) -> list[Any]:
    """The rows of a file.

    Args:
        data: The file's bytes, unpacked.
        kind: Which rows they should be.

    Raises:
        ValueError: Names the line and what is wrong with it; short, whatever the file holds.
    """
    if not data.endswith(b"\n"):
        raise ValueError("is empty or does not end with a newline")
    limit = MAX_INSTRUCTIONS * (2 if kind == "annotations" else 1)
    if (count := data.count(b"\n")) > limit:
        raise ValueError(f"has {count} lines, expected at most {limit}")
    _refuse_many_parts(data)
    try:
        # A newline cannot stand inside a line's JSON, so the lines are the items of a list: one call parses all.
        rows: list[Any] = _adapter(kind).validate_json(b"[" + data[:-1].replace(b"\n", b",") + b"]")
    except ValidationError as error:
        raise ValueError(_complaint(error, data, kind)) from None
    if jsonl_bytes(rows) != data:
        raise ValueError(_not_canonical(rows, data))
    return rows


def _refuse_many_parts(data: bytes) -> None:
    """Bounds what the parsed file takes: `{},` is three bytes, and hundreds once parsed and found wrong."""

    def parts(text: bytes) -> int:
        return text.count(b"{") + text.count(b"[") + text.count(b",")

    if parts(data) <= _MAX_PARTS:  # texts included: all that most files need
        return
    bare = data.replace(rb"\\", b"").replace(rb"\"", b"")  # now every quote opens or ends a text
    if bare.count(b'"') > 4 * _MAX_PARTS or parts(_TEXT.sub(b"", bare)) > _MAX_PARTS:
        raise ValueError(f"holds more than {_MAX_PARTS} values")


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    if kind == "outputs":
        return TypeAdapter(Annotated[list[OutputRow], FailFast()])
    if kind == "attempts":
        return TypeAdapter(Annotated[list[AttemptRow], FailFast()])
    return TypeAdapter(Annotated[list[AnnotationRow], FailFast()])


def _complaint(error: ValidationError, data: bytes, kind: str) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where, message = list(first["loc"]), one_line(first["msg"], 200)
    if where and isinstance(where[0], int):
        return f"line {where[0] + 1}: {one_line('.'.join(map(str, where[1:])), 60) or 'row'}: {message}"
    for number, line in enumerate(data[:-1].split(b"\n"), start=1):
        try:
            _adapter(kind).validate_json(b"[" + line + b"]")
        except ValidationError as of_line:
            message = of_line.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
            return f"line {number}: {one_line(message, 200)}"
    return message


def _not_canonical(rows: Sequence[Any], data: bytes) -> str:
    lines = data[:-1].split(b"\n")
    for number, (row, line) in enumerate(zip(rows, lines, strict=False), start=1):
        if jsonl_bytes([row])[:-1] != line:
            return (
                f"line {number}: is not written canonically (sorted keys, no spaces, ASCII, each key once), so its "
                f"bytes and its content could be told apart; write it with implicit-if submit"
            )
    return f"holds {len(rows)} rows in {len(lines)} lines"
