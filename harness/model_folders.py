"""Folders of models that a command line names: what cannot be a model is refused before anything is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError

_WHOLE = ("pretrained", "expert", "anti_expert")
"""Arguments that name a whole model."""
_PATH = re.compile(r"[/~]|\.\.?/|.*/.*/")
"""What no name on the hub looks like."""
_TOKENIZER = re.compile(r"(tokeniz|vocab|spiece|spm|merges|tekken).*|.*\.(model|tiktoken|gguf)")


def check_model_folders(arguments: Mapping[str, Any]) -> None:
    """Refuses folders that are not there, or hold no model: transformers would end in a traceback, minutes later.

    A relative path may as well be a name on the hub, unless a folder of nearly the same name lies beside it.

    Args:
        arguments: Of lm_eval's `--model_args`, as tasks get them; those without text are passed over.

    Raises:
        UserError: Names the argument, what is wrong, and what may have been meant.
    """
    for name in (*_WHOLE, "peft", "tokenizer"):
        value = arguments.get(name)
        if not isinstance(value, str):
            continue
        path = Path(value).expanduser()
        if not path.exists():
            _check_missing(name, value, path)
        elif name in _WHOLE and path.is_dir():
            _check_model(name, value, {file.name for file in path.iterdir()}, "tokenizer" in arguments)


def _check_missing(name: str, value: str, path: Path) -> None:
    if "/" not in value:
        return
    there = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.75)
    if near or _PATH.match(value):
        hint = f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
        raise UserError(f"{name}={value}: no such folder.{hint} Expected a model's folder, or its hub name.")


def _check_model(name: str, value: str, files: set[str], own_tokenizer: bool) -> None:
    if name == "pretrained" and "adapter_config.json" in files and "config.json" not in files:
        raise UserError(f"pretrained={value}: an adapter. Expected its base as well: pretrained=BASE,peft={value}")
    if "config.json" in files and not own_tokenizer and not any(map(_TOKENIZER.fullmatch, files)):
        raise UserError(
            f"{name}={value}: holds no tokenizer. Copy its tokenizer.json and tokenizer_config.json there too, or name "
            f"another folder: tokenizer=PATH"
        )
