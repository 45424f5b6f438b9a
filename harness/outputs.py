"""The outputs contract: one answer per instruction by one system, and the readers of files users already have.

An outputs file is a JSON list, a superset of alpaca-eval's `model_outputs.json`; its sidecar `<name>.meta.json`
says how the answers were made. Instruction texts may be absent (`instruction: null`) where a licence forbids
shipping them; `join_instructions` puts them back.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from implicit_if.harness.csv_rows import csv_rows
from implicit_if.harness.errors import UserError, raise_all
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import read_json, read_rows, sha256_text, write_json

_PACKAGES = ("implicit-if", "lm_eval", "torch", "transformers", "vllm")

_FORMAT = (
    'Expected objects like {"instruction": "Name a colour.", "output": "Red."}, in a JSON list, one a line in a .jsonl '
    "file, or columns of these names in a .csv file; `prompt` and `response` are taken, too, and `generator` names the "
    "system (default: the file's name). alpaca-eval's outputs and lm-eval's samples_*.jsonl of alpaca_winrate fit as "
    "they are."
)
_OTHER_NAMES = {"prompt": "instruction", "response": "output"}

FinishReason = Literal["eos", "length", "stop"]


def instruction_id(text: str) -> str:
    """An instruction's id: the first 16 hex digits of the sha256 of its stripped text."""
    return sha256_text(text.strip())[:16]


class Output(BaseModel):
    """One answer.

    Attributes:
        instruction_id: See `instruction_id`.
        instruction: The text, or None where only the id may be stored.
        output: The answer, without prompt and end-of-sequence token; may be empty.
        generator: The system's name.
        dataset: The instruction set's name, or alpaca-eval's subset name.
        finish_reason: "eos" (ended by itself), "stop" (a stop string) or "length" (cut); None if unknown.
        n_tokens: Response tokens without the final EOS; None if unknown.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    instruction_id: str
    instruction: str | None = None
    output: str
    generator: str
    dataset: str | None = None
    finish_reason: FinishReason | None = None
    n_tokens: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("instruction"), str):
            expected = instruction_id(data["instruction"])
            if data.setdefault("instruction_id", expected) != expected:
                raise ValueError(
                    f"instruction_id is {data['instruction_id']!r}, but the instruction's text hashes to {expected!r}"
                )
        return data

    @property
    def sha256(self) -> str:
        """The hash by which annotations refer to this answer's text."""
        return sha256_text(self.output)


class OutputsMeta(BaseModel):
    """The sidecar: how the answers were made. Unknown keys are kept.

    Attributes:
        generator: The system's name.
        instruction_set: Name of the instructions; None if not known.
        instruction_revision: Their revision.
        model: What the model class tells about itself.
        template: `name` and `sha256` of the chat template.
        generation: Generation arguments.
        versions: Of the packages that made the answers; `save_outputs` fills them in.
    """

    model_config = ConfigDict(extra="allow")

    generator: str
    instruction_set: str | None = None
    instruction_revision: str | None = None
    model: dict[str, Any] = {}
    template: dict[str, str] = {}
    generation: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @field_validator("template")
    @classmethod
    def _one_shape(cls, value: dict[str, str]) -> dict[str, str]:
        """Version 0.1's task wrote `template` and `template_sha256`."""
        return {{"template": "name", "template_sha256": "sha256"}.get(key, key): text for key, text in value.items()}


def package_versions() -> dict[str, str]:
    """Versions of this package and of what it runs on, as far as they are installed."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def save_outputs(path: str | Path, outputs: Sequence[Output], meta: OutputsMeta | None = None) -> None:
    """Writes an outputs file, and its sidecar if given, each atomically, the sidecar first."""
    target = Path(path)
    if meta is not None:
        whole = meta.model_copy(update={"versions": meta.versions or package_versions()})
        write_json(target.with_suffix(".meta.json"), whole.model_dump())
    write_json(target, [o.model_dump() for o in outputs])


def load_outputs(path: str | Path) -> list[Output]:
    """Reads outputs: ours, alpaca-eval's `model_outputs.json`, lm-eval's `samples_*.jsonl`, or a user's own file.

    An own file is a JSON list, JSON Lines or CSV of `instruction` and `output`, or `prompt` and `response`; the system
    (`generator`) is called by the file's name where a row does not say. Of samples with repeated responses the one that
    lm-eval's filter chose is taken; it is an error if it chose none.

    Raises:
        UserError: If the file is missing, malformed, empty, or holds an instruction twice or several answers to one.
    """
    source = Path(path)
    if source.is_dir():
        inside = source / "outputs.json"
        hint = f", e.g. {inside}" if inside.is_file() else ""
        raise UserError(f"{source}: a folder. Expected a file of outputs{hint}.")
    outputs, first_at = [], dict[str, str]()
    for place, row in _rows(source):
        try:
            output = Output.model_validate(_from_sample(row, f"{source}, {place}") if "resps" in row else row)
        except ValidationError as error:
            detail = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors())
            fields = one_line(", ".join(key for key in row if key != "generator") or "none")
            raise UserError(f"{source}, {place}: {detail}. Found the fields: {fields}. {_FORMAT}") from error
        if (before := first_at.setdefault(output.instruction_id, place)) != place:
            raise UserError(
                f"{source}: {before} and {place} answer the same instruction (id {output.instruction_id}). "
                f"Expected one answer per instruction; remove one of them."
            )
        outputs.append(output)
    if not outputs:
        raise UserError(f"{source}: no outputs found. Expected at least one answer.")
    return outputs


def _rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file with their places, under our names."""
    rows = _csv(source) if source.suffix.lower() == ".csv" else read_rows(source, "a file of outputs")
    for place, row in rows:
        if "resps" not in row:
            if "instruction_id" not in row:
                for other, name in _OTHER_NAMES.items():
                    if other in row and name not in row:
                        row[name] = row.pop(other)
            row.setdefault("generator", source.stem)
        yield place, row


def _csv(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not source.is_file():
        raise UserError(f"{source}: no such file. Expected a file of outputs.")
    try:
        rows = list(csv_rows(source))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({error}). Expected UTF-8: a file of outputs.") from error
    raise_all([row for row in rows if isinstance(row, UserError)], source)
    for found in rows:
        if not isinstance(found, UserError):
            place, row = found  # an empty cell is an empty answer, or nothing said
            yield place, {k: v or "" for k, v in row.items() if v is not None or k in ("output", "response")}


def load_meta(path: str | Path) -> OutputsMeta | None:
    """The sidecar of an outputs file, or None if it has none."""
    sidecar = Path(path).with_suffix(".meta.json")
    if not sidecar.exists():
        return None
    try:
        return OutputsMeta.model_validate(read_json(sidecar, "a sidecar of outputs"))
    except ValidationError as error:
        raise UserError(f"{sidecar}: not a valid sidecar of outputs ({error}). Delete or replace it.") from error


def join_instructions(outputs: Iterable[Output], texts: dict[str, str]) -> list[Output]:
    """Puts the texts of an instruction set back into outputs that were stored by id only.

    Args:
        outputs: Outputs, some with `instruction` None.
        texts: Instruction text by id.

    Raises:
        UserError: If an id without text is not in `texts`.
    """
    joined = []
    for output in outputs:
        if output.instruction is None:
            text = texts.get(output.instruction_id)
            if text is None:
                raise UserError(
                    f"output of {output.generator!r}: no instruction with id {output.instruction_id} in the "
                    f"instruction set. Expected the set the outputs were made with; choose it with instructions=."
                )
            output = output.model_copy(update={"instruction": text})
        joined.append(output)
    return joined


def _from_sample(row: dict[str, Any], where: str) -> dict[str, Any]:
    """One line of lm-eval's samples: the document with the answer's text and what the task noted about it.

    The first request is the system's; a second is the reference's (`reference=base`). Of repeated responses to it the
    one that lm-eval's filter chose is taken, which is the one lm-eval scored.
    """
    doc = row.get("doc")
    resps = row.get("filtered_resps") or row["resps"]
    if not isinstance(doc, dict) or "instruction" not in doc or not resps:
        return row
    answers = resps[0] if isinstance(resps[0], list) else [resps[0]]
    if sum(isinstance(answer, str) for answer in answers) > 1:
        raise UserError(
            f"{where}: {len(answers)} responses to one instruction, expected one. Run lm-eval with repeats 1 or with a "
            f"filter that chooses, e.g. take_first; or split the file, one system a response, to judge them all."
        )
    noted = doc.get("output")
    noted = noted if isinstance(noted, dict) else {}
    return {
        "instruction": doc["instruction"],
        "output": answers[0] if answers else None,
        "generator": noted.get("generator", "model"),
        "dataset": doc.get("dataset"),
        "finish_reason": noted.get("finish_reason"),
        "n_tokens": noted.get("n_tokens"),
    }
