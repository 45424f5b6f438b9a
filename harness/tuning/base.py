"""Finding the base model: a hub name, a folder, or a name that some package registered."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from implicit_if.harness.errors import UserError

GROUP = "implicit_if.models"
"""Entry points that give a base model a short name: each names a callable that returns the model's folder."""


@dataclass(frozen=True)
class Base:
    """A base model.

    Attributes:
        name: What the user called it.
        path: What transformers loads: a hub name or a folder.
    """

    name: str
    path: str


def registered_models() -> list[str]:
    """Short names of base models, e.g. `embedded`."""
    return sorted(entry.name for entry in entry_points(group=GROUP))


def resolve_base(name: str) -> Base:
    """Turns a base model's name into what transformers can load; a registered model is made ready.

    Raises:
        UserError: If it is a folder that is missing or holds no model, or a short name nobody registered.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return Base(name, str(entry.load()()))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"base model {name}: the folder holds no config.json. Expected a Hugging Face model.")
        return Base(name, str(folder))
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join(registered_models()) or "none"
        raise UserError(
            f"base model {name!r}: no such folder. Expected a folder, a hub name such as meta-llama/Llama-2-7b-hf, "
            f"or a registered name ({known})."
        )
    return Base(name, name)
