"""What a submission's `metadata.yaml` holds, typed and strict.

The models are the schema: `submission.schema.json` is exported from them, and
`python -m implicit_if.leaderboards.submission.schema` prints it. Every text is bounded and visible, every mapping
bounded, every unknown key an error with the nearest name.
"""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from implicit_if.harness.annotations import Order
from implicit_if.harness.controls import Control
from implicit_if.harness.scores import StoredScore
from implicit_if.harness.system_kinds import Kind
from implicit_if.leaderboards.submission.field_types import (
    Finite,
    Identifier,
    Key,
    Line,
    Lines,
    Longer,
    Revision,
    Settings,
    Sha256,
    SystemName,
    Url,
    Versions,
    Whole,
)

SCHEMA_VERSION = 2
MAX_INSTRUCTIONS = 5_000


class Strict(BaseModel):
    """A model that refuses unknown keys and says which one was probably meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(_unknown(str(key)[:60], list(cls.model_fields)))
        return data


class System(Strict):
    """How the base model was adapted.

    Attributes:
        kind: What was done.
        task: The one task it was tuned on; for `single_task` only.
        preset: The rules' preset; for `rules` only.
        without: Rules left out of the preset (an ablation); for `rules` only.
        only: The preset's only rules that were kept (an ablation); for `rules` only.
        control: Which control; for `control` only.
        seed: Of the tuning.
        description: One line for readers.
    """

    kind: Kind
    task: Identifier | None = None
    preset: Identifier | None = None
    without: Annotated[list[Identifier], Field(max_length=16)] = []
    only: Annotated[list[Identifier], Field(max_length=16)] = []
    control: Control | None = None
    seed: Annotated[Whole, Field(ge=0)] | None = None
    description: Longer | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> System:
        for field, kind in (("task", "single_task"), ("preset", "rules"), ("control", "control")):
            if (getattr(self, field) is not None) != (self.kind == kind):
                raise ValueError(f"`{field}` is given if and only if kind is {kind}; kind is {self.kind}")
        if (self.without or self.only) and self.kind != "rules":
            raise ValueError(f"`without` and `only` are for kind rules; kind is {self.kind}")
        if self.without and self.only:
            raise ValueError("`without` and `only` exclude each other")
        return self


class BaseModelInfo(Strict):
    """The pretrained model underneath."""

    name: Line
    revision: Line | None = None
    licence: Line | None = None


class RecipeInfo(Strict):
    """The tuning recipe, as `implicit-if tune` records it."""

    name: Identifier
    fingerprint: Sha256 | None = None


class DataInfo(Strict):
    """A data set the system was tuned on."""

    name: Line
    licence: Line | None = None
    url: Url | None = None


class TemplateInfo(Strict):
    """The chat template of the prompts.

    Attributes:
        name: A shipped template's name, a file's, or "model" for the model's own.
        sha256: Of its source; None for "model" where lm-eval recorded none.
        tags: Its role tags, which no answer should hold; they define `format_leak_rate`.
    """

    name: Line
    sha256: Sha256 | None = None
    tags: Annotated[list[Line], Field(max_length=4)] = []


class InstructionSetInfo(Strict):
    """What was answered.

    Attributes:
        name: "builtin", "alpaca_eval", or a local set's.
        revision: What pins it: a commit for alpaca_eval, else the hash over its sorted ids.
        n: Instructions in the whole set; all are answered.
        texts: Whether the outputs hold the instructions' texts, or only ids.
    """

    name: Identifier
    revision: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{40,64}$")]
    n: Annotated[Whole, Field(ge=1, le=MAX_INSTRUCTIONS)]
    texts: StrictBool


class ReferenceInfo(Strict):
    """What the system was judged against: a name, and the hash over its answers (`outputs_sha256`)."""

    name: Line
    sha256: Sha256


class JudgeInfo(Strict):
    """Who judged, and the presentation orders of every pair."""

    name: Line
    fingerprint: Sha256
    orders: Annotated[list[Order], Field(min_length=1, max_length=2)]

    @model_validator(mode="after")
    def _all_orders(self) -> JudgeInfo:
        if self.orders not in (["none"], ["system_first", "reference_first"]):
            raise ValueError("orders: expected [none], or [system_first, reference_first]: both orders are judged")
        return self


class RunInfo(Strict):
    """What a rerun needs: lm-eval's model class and its arguments, and the versions it ran with."""

    model: Identifier
    model_args: Settings = {}
    versions: Versions = {}


class Metadata(Strict):
    """`metadata.yaml`.

    Attributes:
        schema_version: See `migrations`.
        task: The lm-eval task whose answers these are, e.g. alpaca_winrate.
        name: `org/model`; with `revision` it names the submission's folder.
        revision: The system's revision.
        system: How it was made.
        base_model: From what; a control that needs no model says "none".
        recipe: The tuning recipe, if one of ours.
        data: What it was tuned on.
        template: The chat template; None if the answers were not made with one.
        instruction_set: What it answered.
        reference: What it was judged against.
        judge: By whom.
        generation: Generation arguments; for samples with their `seed`.
        system_instruction: What stood before every prompt; None if nothing did.
        dtype: The type of the weights that answered, e.g. float32; None if not known.
        run: What a rerun needs; None if lm-eval cannot make these answers.
        contact: A way to reach the submitter, if they want to be reached.
        links: Paper, code, weights.
        licence: Of the answers.
        files: sha256 of every other file of the submission, by name.
    """

    schema_version: Literal[2]
    task: Identifier
    name: SystemName
    revision: Revision
    system: System
    base_model: BaseModelInfo
    recipe: RecipeInfo | None = None
    data: Annotated[list[DataInfo], Field(max_length=16)] = []
    template: TemplateInfo | None = None
    instruction_set: InstructionSetInfo
    reference: ReferenceInfo
    judge: JudgeInfo
    generation: Settings = {}
    system_instruction: Lines | None = None
    dtype: Identifier | None = None
    run: RunInfo | None = None
    contact: Line | None = None
    links: Annotated[list[Url], Field(max_length=8)] = []
    licence: Line
    files: Annotated[dict[str, Sha256], Field(max_length=8)]

    @property
    def id(self) -> str:
        """`<org>__<model>/<revision>`: the submission's folder under `submissions/`."""
        return submission_id(self.name, self.revision)


class Scores(Strict):
    """`scores.json`.

    Attributes:
        scores: By metric, as `score_judgement` gives them.
        form: Measures of the answers' form; see `scores.form_measures`.
    """

    scores: Annotated[dict[Key, StoredScore], Field(min_length=1, max_length=16)]
    form: Annotated[dict[Key, Finite | None], Field(max_length=16)] = {}


def submission_id(name: str, revision: str) -> str:
    """`<org>__<model>/<revision>`."""
    return f"{name.replace('/', '__')}/{revision}"


def metadata_dict(metadata: Metadata) -> dict[str, Any]:
    """The metadata in the schema's key order, free mappings sorted, absent values left out."""
    value = metadata.model_dump(mode="json", exclude_none=True)
    for owner, key in ((value, "generation"), (value, "files"), (value.get("run", {}), "model_args")):
        if key in owner:
            owner[key] = dict(sorted(owner[key].items()))
    if "run" in value:
        value["run"]["versions"] = dict(sorted(value["run"]["versions"].items()))
    return value


def json_schema() -> bytes:
    """The JSON Schema of `metadata.yaml`, as `submission.schema.json` holds it."""
    schema = _first_lines(Metadata.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "implicit-if submission"
    return (json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def _first_lines(value: Any) -> Any:
    """Descriptions come from docstrings; their first lines say what a reader of the schema needs."""
    if isinstance(value, dict):
        return {
            key: child.split("\n")[0] if key == "description" and isinstance(child, str) else _first_lines(child)
            for key, child in value.items()
        }
    return [_first_lines(child) for child in value] if isinstance(value, list) else value


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown key {key!r}.{hint} Known: {', '.join(known)}"


if __name__ == "__main__":
    print(json_schema().decode("ascii"), end="")
