"""Profiles: what is known of a base model for tuning, one YAML each in `profiles/`.

It holds the model's names, what it takes from `settings/`, its learning rate, and the epochs chosen for each recipe.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import read_yaml

PROFILES = Path(__file__).parent / "profiles"
SETTINGS = Path(__file__).parent / "settings"
OTHER = "other/reference"
"""The profile of base models that have none of their own."""


@dataclass(frozen=True)
class Profile:
    """Hyper-parameters for one base model.

    Attributes:
        name: `model/settings`, e.g. `llama2-7b/reference`.
        base: The base model it is meant for; None: any.
        values: A partial recipe.
        names: Other names of the base model.
        epochs: By recipe, as chosen for this base model.
    """

    name: str
    base: str | None
    values: dict[str, Any]
    names: tuple[str, ...] = ()
    epochs: dict[str, int] = field(default_factory=dict)

    def fits(self, base: str) -> bool:
        """Whether a hub name or a folder ends in the name of this profile's base model."""
        return _last_part(base) in {_last_part(name) for name in (self.base, *self.names) if name}


@functools.cache
def profiles() -> dict[str, Profile]:
    """The shipped profiles by name; of each base model, the settings to take by default come first."""
    found = {}
    for path in sorted(PROFILES.glob("*.yaml")):
        model = read_yaml(path, "a recipe, with keys such as data, encoding and train")
        for settings in model.pop("settings"):
            shared, _ = read_extended(SETTINGS / f"{settings}.yaml", SETTINGS)
            values = merge(shared, {key: model[key] for key in ("data", "encoding", "train") if key in model})
            name = f"{path.stem}/{settings}"
            names = tuple(model.get("names", ()))
            epochs = model.get("epochs", {})
            found[name] = Profile(name, model.get("base"), values, names, epochs.get(settings, epochs))
    return found


def base_names() -> list[str]:
    """Every name of a base model that some profile is meant for."""
    return sorted({name for p in profiles().values() for name in (p.base, *p.names) if name})


def near_base(name: str) -> str:
    """A sentence that names the base model somebody may have meant; empty if none is near."""
    near = difflib.get_close_matches(name, base_names(), n=1, cutoff=0.8)
    return f" Did you mean {near[0]}?" if near and near[0] != name else ""


def registered_alias(name: str) -> str | None:
    """The registered name of a base model that has another short name, e.g. `embedded` for `gemma-3-270m`."""
    return next((p.base for p in profiles().values() if name in p.names and "/" not in name), None)


def choose_profile(name: str | None, own: dict[str, Any]) -> Profile | None:
    """The profile for a recipe's values; see `load_recipe`.

    Raises:
        UserError: For an unknown name, or settings that several base models have where none is named.
    """
    known, base = profiles(), own.get("base")
    fitting = [p for p in known.values() if base is not None and p.fits(str(base))]
    if name is None:
        train = own.get("train", {})
        complete = isinstance(train, dict) and {"epochs", "learning_rate"} <= train.keys()
        assumed = None if base is None or complete else known[OTHER]
        return next(iter(fitting), assumed)
    if name in known:
        return known[name]
    of_settings = [p for p in known.values() if p.name.split("/")[1] == name and p.base]
    matching = [p for p in of_settings if p in fitting] or of_settings
    if len(matching) == 1:
        return matching[0]
    if of_settings:
        options = " or ".join(p.name for p in of_settings)
        raise UserError(
            f"profile {name!r} exists for several models. Expected {options}, e.g. --profile {of_settings[0].name}."
        )
    raise unknown_name("profile", name, known)


def profile_note(name: str | None, base: str) -> str | None:
    """What to tell of a recipe's profile that is not its base model's own; None where it is."""
    profile = profiles().get(name or "")
    if profile is None or (profile.base and profile.fits(base)):
        return None
    if profile.base:
        return f"profile {name} is meant for {profile.base}, the base model is {Path(base).name}"
    return f"no profile is known for {Path(base).name}; learning rate and epochs are assumptions of {name}"


def merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """`lower` overlaid with `upper`, mapping by mapping; neither is changed."""
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_extended(path: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """A YAML laid over the shipped one of `folder` that it `extends`, and the names of what it extends."""
    own = read_yaml(path, "a recipe, with keys such as data, encoding and train")
    parent = own.pop("extends", None)
    if parent is None:
        return own, []
    shipped = {p.stem for p in folder.glob("*.yaml")}
    if parent not in shipped:
        raise unknown_name(f"name in {path}, extends", str(parent), shipped)
    lower, parents = read_extended(folder / f"{parent}.yaml", folder)
    return merge(lower, own), [parent, *parents]


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].casefold()
