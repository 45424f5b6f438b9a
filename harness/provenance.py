"""How a tuned model was made: `tuning.json`, which `implicit-if tune` writes beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import read_json

PROVENANCE = "tuning.json"


class TunedBase(BaseModel):
    """The pretrained model underneath.

    Attributes:
        name: On the hub, a registered name, or a folder.
        revision: Its commit on the hub; None if not from there.
        model_type: Its architecture; empty if not recorded.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str
    revision: str | None = None
    model_type: str = ""


class Provenance(BaseModel):
    """What is recorded of a tuning run.

    Attributes:
        recipe: The recipe's name.
        identity: Hashes of `recipe` (alone), `data` and `base`: runs of equal hashes are the same run.
        base: What was tuned.
        seed: Of the run; None if an older version did not record it.
        data: Origin, revision, licence, hash and statistics of the rows.
        template: Name and sha256 of the chat template.
        notes: What the user was told while it was prepared.
        training: Steps, device, losses and the like.
        versions: Of the packages it ran on.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    identity: dict[str, str]
    base: TunedBase
    seed: int | None = None
    data: dict[str, Any] = {}
    template: dict[str, str] = {}
    notes: list[str] = []
    training: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @property
    def recipe_fingerprint(self) -> str | None:
        """The hash of the recipe alone, as `Recipe.fingerprint` gives it."""
        return self.identity.get("recipe")


def load_provenance(folder: str | Path) -> Provenance | None:
    """What is recorded beside a model, or None where nothing of ours is.

    Version 0.1 left the seed to `recipe.yaml` beside it, where it is looked up.
    """
    path = Path(folder).expanduser() / PROVENANCE
    if not path.is_file():
        return None
    try:
        found = Provenance.model_validate(read_json(path, "the record of a tuning run"))
    except (UserError, ValidationError):
        return None
    return found if found.seed is not None else found.model_copy(update={"seed": _seed_of_recipe(path)})


def _seed_of_recipe(path: Path) -> int | None:
    import yaml

    try:
        seed = yaml.safe_load(path.with_name("recipe.yaml").read_text(encoding="utf-8"))["train"]["seed"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return seed if isinstance(seed, int) else None
