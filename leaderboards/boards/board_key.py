"""What the numbers of one table share, and references that are seeds of one system.

Maintainers declare such references in `references.yaml` beside `submissions/`.

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
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.signature import WIN_RATE_TASK, Signature, make_signature
from implicit_if.harness.storage import read_yaml, sha256_json
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import answer_settings_of

FILE = "references.yaml"
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, order=True)
class BoardKey:
    """What all numbers of a table share: law 1.

    Attributes:
        task: The lm-eval task.
        instruction_set: Name.
        instruction_revision: What pins it.
        n: Instructions.
        reference: Name of the answers judged against; a family's name where seeds have references of their own.
        reference_sha256: Hash over them.
        judge: Name.
        fingerprint: The judge's.
        orders: Presentation orders per pair.
        lc: Method of length control; empty if no number is length-controlled.
        answers: What shaped the answers, but for the type of the weights, which a system's row tells.
    """

    task: str
    instruction_set: str
    instruction_revision: str
    n: int
    reference: str
    reference_sha256: str
    judge: str
    fingerprint: str
    orders: int
    lc: str
    answers: AnswerSettings = NOTHING_KNOWN

    def signature(self, *, lc: bool = False) -> Signature:
        """The table's signature, of this version of implicit-if."""
        return make_signature(
            task=self.task,
            instruction_set=self.instruction_set,
            instruction_revision=self.instruction_revision,
            n=self.n,
            reference=self.reference,
            reference_sha256=self.reference_sha256,
            judge=self.judge,
            fingerprint=self.fingerprint,
            orders=self.orders,
            lc=(self.lc or None) if lc else None,
            answers=self.answers,
        )

    @property
    def slug(self) -> str:
        """A short name for files and links, another for every key."""
        task, *rest, answers = (getattr(self, name) for name in self.__dataclass_fields__)
        # links to the first task's tables are older than these in the key
        return sha256_json([*rest, *([] if task == WIN_RATE_TASK else [task]), *answers.fields])[:12]


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
    path = root / FILE
    if not path.exists():
        return {}
    try:
        entries = _File.model_validate(read_yaml(path, "families of references")).families
    except ValidationError as error:
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


def key_of(member: Verified, families: Mapping[str, Family]) -> BoardKey:
    """The table that a submission belongs to."""
    data = member.metadata
    family = family_of(member, families)
    controlled = member.scores.get("length_controlled_win_rate")
    return BoardKey(
        task=data.task,
        instruction_set=data.instruction_set.name,
        instruction_revision=data.instruction_set.revision,
        n=data.instruction_set.n,
        reference=data.reference.name if family is None else family.name,
        reference_sha256=data.reference.sha256 if family is None else family.sha256,
        judge=data.judge.name,
        fingerprint=data.judge.fingerprint,
        orders=len(data.judge.orders),
        lc="" if controlled is None else controlled.settings.lc or "",
        answers=answer_settings_of(data).of_table,
    )
