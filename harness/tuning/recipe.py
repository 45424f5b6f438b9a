"""Loading recipes: a recipe's YAML, a profile's hyper-parameters and the command line's overrides become one `Recipe`.

Later layers win: profile, recipe, the epochs chosen for the profile's model, overrides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import atomic_write
from implicit_if.harness.tuning.schema import Recipe, key_paths, validate

RECIPES = Path(__file__).parent / "recipes"
PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Profile:
    """Hyper-parameters for one base model.

    Attributes:
        name: `model/set`, e.g. `llama2-7b/reference`.
        model: The key under which recipes list their chosen epochs.
        base: The base model it is meant for.
        values: A partial recipe.
    """

    name: str
    model: str
    base: str
    values: dict[str, Any]


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def profiles() -> dict[str, Profile]:
    """The shipped profiles by name."""
    found = {}
    for path in sorted(PROFILES.glob("*.yaml")):
        content = _read_yaml(path)
        shared = content["shared"]
        if parent := content.get("extends"):
            shared = merge(_read_yaml(PROFILES / f"{parent}.yaml")["shared"], shared)
        for model, own in content["models"].items():
            own = dict(own)
            base = own["base"]
            name = f"{model}/{path.stem}"
            found[name] = Profile(name, model, base, merge(shared, own))
    return found


def load_recipe(
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    base: str | None = None,
    profile: str | None = None,
) -> Recipe:
    """Loads a recipe and makes every choice.

    Args:
        name_or_path: A shipped recipe's name, or a YAML file (also a `recipe.yaml` saved beside a tuned model).
        overrides: `key=value` with dotted keys, values as in YAML, e.g. `train.learning_rate=2e-5`.
        base: The base model; None takes the recipe's or the profile's.
        profile: `model/set`, or a set's name where the base model tells which model is meant. None takes the
            recipe's own, else the one whose base is `base`, preferring the `reference` set.

    Raises:
        UserError: For an unknown recipe, profile or key, a value that does not fit, or a choice that is missing.
    """
    path = _recipe_path(name_or_path)
    own = _read_recipe(path)
    chosen = _choose_profile(profile or own.get("profile"), base or own.get("base"))
    epochs = own.pop("epochs", {})
    values = merge(chosen.values if chosen else {}, own)
    values.setdefault("name", path.stem)
    values["profile"] = chosen.name if chosen else None
    if base is not None:
        values["base"] = base
    if chosen and "epochs" not in own.get("train", {}) and chosen.model in epochs:
        values = merge(values, {"train": {"epochs": epochs[chosen.model]}})
    for override in overrides:
        values = merge(values, _parse_override(override))
    return validate(values, f"recipe {name_or_path}")


def save_recipe(path: str | Path, recipe: Recipe, note: str = "") -> None:
    """Writes the resolved recipe as YAML; `load_recipe` reads it back to an equal one."""
    with atomic_write(path) as file:
        file.write("".join(f"# {line}\n" for line in note.splitlines()))
        yaml.safe_dump(recipe.model_dump(mode="json"), file, sort_keys=False, allow_unicode=True)


def merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """`lower` overlaid with `upper`, mapping by mapping; neither is changed."""
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _recipe_path(name_or_path: str | Path) -> Path:
    shipped = RECIPES / f"{name_or_path}.yaml"
    if isinstance(name_or_path, str) and name_or_path in recipe_names():
        return shipped
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such recipe file. Give a YAML file or one of: {', '.join(recipe_names())}.")
        return path
    raise unknown_name("recipe", str(name_or_path), recipe_names(), fix="A file of your own ends in .yaml.")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({error}). Expected a recipe.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, expected keys such as data, encoding and train.")
    return content


def _read_recipe(path: Path) -> dict[str, Any]:
    """A recipe's YAML, its keys of the kinds that the layers rely on; the schema checks the rest."""
    own = _read_yaml(path)
    for key, kind in {
        "base": str,
        "profile": str,
        **dict.fromkeys(("data", "encoding", "train", "epochs"), dict),
    }.items():
        value = own.get(key)
        if value is None:
            own.pop(key, None)
        elif not isinstance(value, kind):
            hint = " such as {llama2-7b: 5}; a number for every model is train.epochs" if key == "epochs" else ""
            expected = "a text" if kind is str else f"keys and values{hint}"
            raise UserError(f"{path}: {key} is {value!r:.60}, expected {expected}.")
    models = {profile.model for profile in profiles().values()}
    for model in own.get("epochs", {}):
        if model not in models:
            raise unknown_name(f"model in {path}, epochs", str(model), models)
    return own


def _choose_profile(name: str | None, base: str | None) -> Profile | None:
    known = profiles()
    if name is None:
        fitting = [p for p in known.values() if base is not None and _same_model(p.base, base)]
        return min(fitting, key=lambda p: (not p.name.endswith(("/reference", "/embedded")), p.name), default=None)
    if name in known:
        return known[name]
    of_set = [p for p in known.values() if p.name.split("/")[1] == name]
    matching = [p for p in of_set if base is not None and _same_model(p.base, base)] or of_set
    if len(matching) == 1:
        return matching[0]
    if of_set:
        options = " or ".join(p.name for p in of_set)
        raise UserError(
            f"profile {name!r} exists for several models. Expected {options}, e.g. --profile {of_set[0].name}."
        )
    raise unknown_name("profile", name, known)


def _same_model(left: str, right: str) -> bool:
    """Whether two hub names or folders end in the same model name."""
    return left.rstrip("/").split("/")[-1].casefold() == right.rstrip("/").split("/")[-1].casefold()


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals:
        raise UserError(f"--set {text!r}: found no '='. Expected key=value, e.g. --set train.epochs=3.")
    known = list(key_paths())
    if key not in known:
        raise unknown_name("recipe key", key, known)
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UserError(f"--set {key}: {raw!r} is not a YAML value. Quote it, e.g. --set '{key}=\"...\"'.") from error
    return _nest(key.split("."), value)


def _nest(keys: Iterable[str], value: Any) -> dict[str, Any]:
    nested = value
    for key in reversed(list(keys)):
        nested = {key: nested}
    return nested  # type: ignore[no-any-return]
