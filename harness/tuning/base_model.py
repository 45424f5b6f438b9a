"""Finding the base model: a hub name, a folder, or a name that some package registered."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from implicit_if.harness import hub
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.hub import HubUnavailableError, within
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.tuning.profile import base_names, near_base

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
        UserError: See `check_name`.
    """
    check_name(name)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return Base(name, str(entry.load()()))
    folder = Path(name).expanduser()
    return Base(name, str(folder) if folder.is_dir() else name)


def check_name(name: str) -> None:
    """Refuses what cannot be a base model's name; nothing is loaded or converted.

    Raises:
        UserError: If it is a folder that is missing or holds no model, or a short name nobody registered.
    """
    folder = Path(name).expanduser()
    if name in registered_models():
        return
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"base model {name}: the folder holds no config.json. Expected a Hugging Face model.")
    elif name.count("/") != 1 or name.startswith((".", "/", "~")):
        fix = "Expected a folder, a hub name such as meta-llama/Llama-2-7b-hf, or a registered name."
        raise unknown_name("base model", name, {*registered_models(), *base_names()}, fix=fix)


def hub_commit(base: Base, revision: str | None) -> str | None:
    """The commit that a hub model's revision means now; a folder has none, so its `revision` is handed back.

    Raises:
        UserError: If the hub has no such model or revision, or cannot be reached and nothing is cached.
    """
    if Path(base.path).is_dir():
        return revision
    from transformers.utils.hub import extract_commit_hash

    return extract_commit_hash(hub_config(base.path, revision), None) or revision


def hub_config(name: str, revision: str | None) -> str:
    """The path of a hub model's config.json, from the cache or the hub.

    Raises:
        UserError: If the hub has no such model or revision, or cannot be reached and nothing is cached, or does not
            answer within `hub.PATIENCE` seconds: transformers' own timeouts add up to minutes where a proxy hangs.
    """
    from transformers.utils.hub import cached_file

    try:
        return str(within(hub.PATIENCE, lambda: cached_file(name, "config.json", revision=revision)))
    except OSError as error:
        raise unreadable_config(name, revision, error) from error


def unreadable_config(name: str, revision: str | None, error: Exception) -> UserError:
    """The error for a base model whose config.json cannot be loaded, with the name that may have been meant."""
    silent = isinstance(error, HubUnavailableError)
    fix = " If it was downloaded before, HF_HUB_OFFLINE=1 takes it from the cache." if silent else ""
    return UserError(
        f"base model {name!r}: its config.json cannot be loaded ({error}). Expected a Hugging Face model's "
        f"name or folder; base_revision is {revision!r}.{fix}{near_base(name)}"
    )


def weights_identity(base: Base, commit: str | None) -> str:
    """What is equal where two runs start from the same weights: name and commit on the hub, else a hash of the files.

    Args:
        base: The base model.
        commit: From `hub_commit`.
    """
    return model_fingerprint(base.path) if Path(base.path).is_dir() else f"{base.path}@{commit}"
