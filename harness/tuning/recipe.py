"""Loading recipes: a base model's profile, a recipe's YAML and the command line's overrides become one `Recipe`.

Later layers win: the profile's settings, the recipe, the profile's epochs for that recipe, overrides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from implicit_if.harness.cli import name_value
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import atomic_write
from implicit_if.harness.tuning.base_model import check_name
from implicit_if.harness.tuning.profile import choose_profile, merge, read_extended, registered_alias
from implicit_if.harness.tuning.recipe_schema import Recipe, key_paths, validate

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def load_recipe(
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    base: str | None = None,
    profile: str | None = None,
    data: str | Path | None = None,
    seed: int | None = None,
) -> Recipe:
    """Loads a recipe and makes every choice.

    Args:
        name_or_path: A shipped recipe's name, or a YAML file (also a `recipe.yaml` saved beside a tuned model).
        overrides: `key=value` with dotted keys, values as in YAML, e.g. `train.learning_rate=2e-5`.
        base: The base model; None takes the recipe's or the profile's.
        profile: `model/settings`, or the settings' name where the base model tells which model is meant. None takes
            the recipe's own, else the first of the base model; a base model without one gets `other/reference` where
            the recipe leaves epochs or learning rate open.
        data: Local file of the recipe's data; None takes the recipe's.
        seed: Order of the rows; None takes the recipe's.

    Raises:
        UserError: For an unknown recipe, base model, profile or key, a value that does not fit, or a choice that is
            missing.
    """
    path = _recipe_path(name_or_path)
    own, parents = _read_recipe(path)
    for override in [*overrides, *([] if seed is None else [f"train.seed={seed}"])]:
        own = merge(own, _parse_override(override))
    if base is not None:
        own["base"] = base if Path(base).is_dir() else registered_alias(base) or base
    chosen = choose_profile(profile or own.get("profile"), own)
    values = merge(chosen.values if chosen else {}, own)
    values["profile"] = chosen.name if chosen else None
    values.setdefault("name", path.stem)
    if chosen:
        if chosen.base:
            values.setdefault("base", chosen.base)
        names = [path.stem] if path.parent == RECIPES else parents
        epochs = next((chosen.epochs[name] for name in names if name in chosen.epochs), None)
        if epochs and isinstance(values["train"], dict) and "epochs" not in own.get("train", {}):
            values["train"] = {**values["train"], "epochs": epochs}
    if data is not None:  # not as an override: a path is no YAML value
        values["data"] = {**values.get("data", {}), "path": str(data)}
    recipe = validate(values, f"recipe {name_or_path}")
    if "/" not in recipe.base:  # whether a folder or a hub model is there is asked when it is needed
        check_name(recipe.base)
    return recipe


def save_recipe(path: str | Path, recipe: Recipe, note: str = "") -> None:
    """Writes the resolved recipe as YAML; `load_recipe` reads it back to an equal one."""
    with atomic_write(path) as file:
        file.write("".join(f"# {line}\n" for line in note.splitlines()))
        yaml.safe_dump(recipe.model_dump(mode="json"), file, sort_keys=False, allow_unicode=True)


def _recipe_path(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, str) and name_or_path in recipe_names():
        return RECIPES / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such recipe file. Give a YAML file or one of: {', '.join(recipe_names())}.")
        return path
    raise unknown_name("recipe", str(name_or_path), recipe_names(), fix="A file of your own ends in .yaml.")


def _read_recipe(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A recipe's YAML, its keys of the kinds that the layers rely on; the schema checks the rest."""
    own, parents = read_extended(path, RECIPES)
    for key, kind in {"base": str, "profile": str, **dict.fromkeys(("data", "encoding", "train"), dict)}.items():
        value = own.get(key)
        if value is None:
            own.pop(key, None)
        elif not isinstance(value, kind):
            expected = "a text" if kind is str else "keys and values"
            raise UserError(f"{path}: {key} is {value!r:.60}, expected {expected}.")
    data = own.get("data", {})
    beside = path.parent / Path(str(data.get("path") or "")).expanduser()
    if isinstance(data.get("path"), str) and beside.is_file():
        own["data"] = {**data, "path": str(beside)}
    return own, parents


def _parse_override(text: str) -> dict[str, Any]:
    key, raw = name_value(text, "--set", "train.epochs=3")
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
