"""The systems an analysis runs: what a name on the command line stands for, loaded through lm-eval's registry."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.embedded_base import EMBEDDED, SHORT_NAME
from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import read_json

_EMBEDDED_SHAPE = {"model_type": "gemma3_text", "hidden_size": 640, "num_hidden_layers": 18}
_EMBEDDED_NAME = rf"{EMBEDDED}|{SHORT_NAME}(-[0-9a-f]{{8}}-\d+)?"  # the last is its folder's in the cache
HELP_SYSTEM = "base, rules, rules:PRESET, urial, a folder (a model or a LoRA adapter) or a hub name"


@dataclass(frozen=True)
class SystemSpec:
    """A system by name.

    Attributes:
        name: What the user typed.
        model: Name of the model class in lm-eval's registry.
        arguments: What it is built with.
    """

    name: str
    model: str
    arguments: dict[str, Any]

    def load(self) -> Any:
        """Loads the model.

        Raises:
            UserError: If it cannot be loaded.
        """
        import lm_eval.models  # noqa: F401  fills the registry
        from lm_eval.api.registry import get_model

        return get_model(self.model)(**self.arguments)


def parse_system(name: str, base: str | None = None, **settings: Any) -> SystemSpec:
    """What a name stands for; nothing is loaded.

    Args:
        name: See `HELP_SYSTEM`.
        base: The base model's folder or hub name; None or "embedded" is the embedded one.
        **settings: Of every model: device, dtype, batch_size.

    Raises:
        UserError: If the name is empty, or a folder that holds no model.
    """
    known = {key: value for key, value in settings.items() if value is not None}
    if base not in (None, EMBEDDED):
        known["pretrained"] = base
    kind, _, detail = name.partition(":")
    if kind == "base" and not detail:
        return SystemSpec(name, "rules_poe", known | {"rules": None})
    if kind == "rules":
        return SystemSpec(name, "rules_poe", known | {"rules": detail or "paper"})
    if kind == "urial":
        return SystemSpec(name, "urial", known | ({"prefix": detail} if detail else {}))
    folder = Path(name).expanduser()
    if not name:
        raise UserError(f"found an empty system. Expected {HELP_SYSTEM}.")
    if folder.is_dir() and (folder / "adapter_config.json").is_file():
        return SystemSpec(name, "rules_poe", known | {"rules": None, "peft": str(folder)})
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{name}: a folder without config.json or adapter_config.json. Expected a model's folder.")
    return SystemSpec(
        name, "rules_poe", known | {"rules": None, "pretrained": str(folder) if folder.is_dir() else name}
    )


def check_made_from(name: str, base: str | None) -> None:
    """Refuses a tuned model or adapter that cannot have been made from the base; nothing is loaded.

    An adapter tells its base's name, and of a model and a base in folders the shapes in `config.json` are compared. A
    model on the hub needs a base that was named.

    Args:
        name: A system's name, as for `parse_system`.
        base: The base model's folder or hub name; None is the embedded one.

    Raises:
        UserError: If it was made from another base, or no base is given for a model on the hub.
    """
    folder = Path(name).expanduser()
    if base is None and not folder.is_dir() and name.partition(":")[0] not in ("base", "rules", "urial"):
        raise UserError(f"{name}: no base given. Expected what it was tuned from: --base MODEL, or --base {EMBEDDED}.")
    base = None if base == EMBEDDED else base
    if (folder / "adapter_config.json").is_file():
        told = read_json(folder / "adapter_config.json", "an adapter's settings").get("base_model_name_or_path")
        if base is None and told and not re.fullmatch(_EMBEDDED_NAME, Path(str(told)).name):
            raise UserError(
                f"{name}: an adapter of {told}, not of the embedded model. Expected its base: --base {told}"
            )
        return
    if not (folder / "config.json").is_file():
        return
    made, expected = read_json(folder / "config.json", "a model's settings"), _EMBEDDED_SHAPE
    if base is not None:
        other = Path(base).expanduser() / "config.json"
        expected = read_json(other, "a model's settings") if other.is_file() else made
    if differ := [key for key in _EMBEDDED_SHAPE if made.get(key) != expected.get(key)]:
        key = differ[0]
        raise UserError(
            f"{name}: {key} is {made.get(key)}, and {expected.get(key)} in base {base or EMBEDDED!r}, so that it was "
            f"made from another base. Expected that one: --base MODEL."
        )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every command that loads models takes."""
    from implicit_if.harness.cli import positive

    add = parser.add_argument
    add("--base", metavar="MODEL", help="the base model's folder or hub name (the embedded model)")
    add("--device", metavar="NAME", help="cpu, cuda, ... (the GPU where there is one)")
    add("--dtype", metavar="NAME", default="float32", help="of the weights (float32)")
    add("--batch-size", type=positive, metavar="N", help="rows at once (chosen automatically)")


def model_settings(args: argparse.Namespace) -> dict[str, Any]:
    """`parse_system`'s settings from the command line."""
    return {"base": args.base, "device": args.device, "dtype": args.dtype, "batch_size": args.batch_size}
