"""Judges by name: `get_judge("longest")`, `get_judge("openai:gpt-4.1-mini", base_url=...)`, `get_judge("my.yaml")`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, cast

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.judging.protocol import Judge

ENTRY_POINTS = "implicit_if.judges"
CONFIGS = Path(__file__).parent / "configs"

Need = Literal["none", "optional", "required"]


@dataclass(frozen=True)
class Backend:
    """Where a backend lives and whether it takes an argument.

    Attributes:
        target: "module:function"; the function is `build(argument: str | None, options: Mapping) -> Judge`.
        argument: Whether `name:argument` is refused, possible or required.
        example: A spec that works, for messages.
    """

    target: str
    argument: Need
    example: str


def _own(module: str, argument: Need, example: str) -> Backend:
    return Backend(f"implicit_if.harness.judging.backends.{module}:build", argument, example)


BACKENDS: dict[str, Backend] = {
    "longest": _own("longest", "none", "longest"),
    "embedded": _own("embedded", "none", "embedded"),
    "openai": _own("openai", "required", "openai:gpt-4.1-mini"),
    "anthropic": _own("anthropic", "required", "anthropic:claude-sonnet-4-5"),
    "alpaca_eval": _own("alpaca_eval", "required", "alpaca_eval:weighted_alpaca_eval_gpt4_turbo"),
    "reward": _own("reward", "required", "reward:Skywork/Skywork-Reward-V2-Qwen3-0.6B"),
    "human": _own("human", "required", "human:sheet.csv"),
}


@dataclass(frozen=True)
class JudgeSpec:
    """A spec taken apart: which backend, with which argument and options."""

    backend: Backend
    argument: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


def get_judge(spec: str, **options: Any) -> Judge:
    """Builds a judge.

    Args:
        spec: A backend's name, with its argument after a colon where it takes one; the name of a shipped
            configuration; or the path of a YAML file (`backend:`, `argument:`, every other key an option).
        **options: Passed to the backend; they override the YAML's.

    Raises:
        UserError: If the spec, the YAML or the options are wrong, or an extra is missing.
    """
    found = resolve_spec(spec)
    return cast(Judge, _load(found.backend)(found.argument, {**found.options, **options}))


def check_judge_spec(spec: str) -> None:
    """Checks a spec in milliseconds, without importing a backend: the name is known, its argument is there.

    Raises:
        UserError: As `get_judge` for the spec and the YAML.
    """
    resolve_spec(spec)


def known_judges() -> list[str]:
    """Every name a spec may start with: backends, shipped configurations, other packages' judges; sorted."""
    return sorted({*BACKENDS, *_configs(), *_plugins()})


def resolve_spec(spec: str) -> JudgeSpec:
    """Takes a spec apart; see `get_judge`."""
    name, colon, rest = spec.partition(":")
    argument = rest if colon else None
    if name in BACKENDS:
        return JudgeSpec(_checked(name, BACKENDS[name], argument), argument)
    if spec.endswith((".yaml", ".yml")):
        return _from_yaml(Path(spec))
    if name in _configs():
        if argument is not None:
            raise UserError(f"judge {spec!r}: {name!r} is a configuration and takes no argument. Use {name!r}.")
        return _from_yaml(_configs()[name])
    if name in _plugins():
        return JudgeSpec(Backend(_plugins()[name].value, "optional", name), argument)
    raise unknown_name("judge", name, known_judges(), fix="A judge of your own: the path of a YAML file.")


def _checked(name: str, backend: Backend, argument: str | None) -> Backend:
    if backend.argument == "none" and argument is not None:
        raise UserError(f"judge {name!r} takes no argument, found {argument!r}. Use {backend.example!r}.")
    if backend.argument == "required" and not argument:
        raise UserError(f"judge {name!r} needs an argument after a colon, found none. Use e.g. {backend.example!r}.")
    return backend


def _from_yaml(path: Path) -> JudgeSpec:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"judge {path}: no such file. Expected a YAML file or one of: {', '.join(known_judges())}."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"judge {path}: cannot be read as YAML ({error}).") from error
    expected = "Expected `backend: NAME`, `argument: TEXT` if the backend needs one, and the backend's options."
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"judge {path}: found {type(content).__name__}, not named settings. {expected}")
    options = dict(content)
    backend, argument = options.pop("backend", None), options.pop("argument", None)
    if not isinstance(backend, str) or not isinstance(argument, str | None):
        raise UserError(f"judge {path}: found backend {backend!r} and argument {argument!r}. {expected}")
    if backend in BACKENDS:
        return JudgeSpec(_checked(backend, BACKENDS[backend], argument), argument, options)
    if backend in _plugins():
        return JudgeSpec(Backend(_plugins()[backend].value, "optional", backend), argument, options)
    raise unknown_name("backend", backend, {*BACKENDS, *_plugins()}, fix=f"It is set in {path}.")


def _configs() -> dict[str, Path]:
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' judges; one whose name is taken is named on stderr and left out."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: (e.name, e.value)):
        if entry.name in BACKENDS or entry.name in _configs() or found.setdefault(entry.name, entry) is not entry:
            package = entry.dist.name if entry.dist else "another package"
            print(
                f"warning: the judge {entry.name!r} of {package} ({entry.value}) is not used: that name is taken.",
                file=sys.stderr,
            )
    return found


def _load(backend: Backend) -> Any:
    module, _, function = backend.target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"judge {backend.example!r}: its backend {backend.target} cannot be loaded ({error}). "
            f"Install it anew, or what it needs."
        ) from error
