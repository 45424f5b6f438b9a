"""References that are seeds of one system, declared by the maintainers in `references.yaml` beside `submissions/`.

In the paper every seed of a system is judged against the same seed of instruction tuning. Such references have
different answers, so numbers against them do not share a table (law 1), unless their maintainers say that they are
seeds of one system: then the table is over seeds, and its signature names the family with a hash over all of them.

    families:
      - name: llama-2-7b-lima
        seeds: {1: <outputs_sha256>, 2: <outputs_sha256>}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_json

if TYPE_CHECKING:
    from implicit_if.leaderboards.verification.result import Verified

FILE = "references.yaml"
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Family:
    """Seeds of one reference.

    Attributes:
        name: Its name in signatures.
        seeds: Seed by hash of the answers.
        sha256: Hash over all of them.
    """

    name: str
    seeds: dict[str, int]
    sha256: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    seeds: dict[int, _Sha256] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    families: list[_Entry]


def load_families(root: Path) -> dict[str, Family]:
    """The family of each declared reference, by hash of its answers; empty without a `references.yaml`.

    Raises:
        UserError: If the file is malformed, or a reference is declared twice.
    """
    import yaml

    path = root / FILE
    if not path.exists():
        return {}
    try:
        entries = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).families
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Expected families, each with a name and `seeds: {{1: SHA256}}`.") from error
    families: dict[str, Family] = {}
    for entry in entries:
        family = Family(
            entry.name, {sha: seed for seed, sha in entry.seeds.items()}, sha256_json(sorted(entry.seeds.values()))
        )
        for sha in family.seeds:
            if families.setdefault(sha, family) is not family:
                raise UserError(f"{path}: the reference {sha} is declared twice. Delete one of the two.")
        if len(family.seeds) != len(entry.seeds):
            raise UserError(f"{path}: two seeds of {entry.name!r} have the same answers. Expected one hash a seed.")
    return families


def family_of(member: Verified, families: Mapping[str, Family]) -> Family | None:
    """The family of a submission's reference; None if it has none, or the submission is of another seed."""
    sha256 = member.metadata.reference.sha256
    family = families.get(sha256)
    if family is None or member.metadata.system.seed not in (None, family.seeds[sha256]):
        return None
    return family
