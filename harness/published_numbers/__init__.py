"""Numbers that papers published, from the YAML files here: facts with their source."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import read_yaml
from implicit_if.harness.system_kinds import Kind

FOLDER = Path(__file__).parent


class PublishedRow(BaseModel):
    """One system of a published table.

    Attributes:
        base_model: As the source calls it.
        system: As this project calls it.
        kind: Where it belongs; "ablation" rows go into the table of rules.
        mean: Over seeds, percent.
        sd: Standard deviation over seeds, percentage points.
        table: Where the source has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str
    system: str
    kind: Kind | Literal["ablation"]
    mean: float = Field(ge=0, le=100)
    sd: float = Field(ge=0, le=100)
    table: str


class Published(BaseModel):
    """One source, one judge, one reference: one table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    title: str
    authors: str
    url: str = Field(pattern=r"https://[^\s<>()]+")
    metric: str
    instruction_set: str
    reference: str
    judge: str
    note: str
    seeds: int = Field(ge=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)

    def of_rules(self) -> tuple[PublishedRow, ...]:
        """The rows of the rule ablation: of each base model with one, base, all rules and the ablations."""
        models = {row.base_model for row in self.rows if row.kind == "ablation"}
        return tuple(r for r in self.rows if r.base_model in models and r.kind in ("base", "rules", "ablation"))

    def of_systems(self) -> tuple[PublishedRow, ...]:
        """The rows without the ablations."""
        return tuple(row for row in self.rows if row.kind != "ablation")


@functools.cache
def load_published(folder: Path = FOLDER) -> tuple[Published, ...]:
    """Every published table of a folder, by file name.

    Raises:
        UserError: If a file is malformed; names it.
    """
    tables = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            tables.append(Published.model_validate(read_yaml(path, "a table of published numbers, as paper.yaml")))
        except ValidationError as error:
            raise UserError(
                f"{path}: not a table of published numbers ({error}). Follow paper.yaml beside it."
            ) from error
    return tuple(tables)
