"""Presets of rules: YAML files, checked against the rules' own signatures, and changed from `--model_args`."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import read_yaml, sha256_json

_LARGEST = 1e30
_RANGE = f" between {-_LARGEST:g} and {_LARGEST:g}"
"""Scores are float32: nothing near its largest number, no infinity and no NaN is a weight."""

PRESETS = Path(__file__).parent / "presets"

StringWeights = tuple[tuple[str, float], ...]
"""Strings and what their tokens get: a `TokenWeights` option before a tokenizer is known."""


@dataclass(frozen=True)
class Rule:
    """One rule of a preset.

    Attributes:
        name: The preset's name for it, e.g. "eos"; what `drop=` takes.
        function: A key of `rules.RULES`.
        options: Its keyword arguments; a `TokenWeights` option is a `StringWeights` here.
    """

    name: str
    function: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """Rules that are applied together. No rules: the plain base model.

    Attributes:
        name: The preset's name, and what was changed in it.
        source: Where the rules come from.
        rules: What is left of them.
        origin: The name of the unchanged preset.
        without: Names of rules that were left out.
        changes: Values by "rule.option" that were changed.
    """

    name: str
    source: str
    rules: tuple[Rule, ...]
    origin: str = ""
    without: tuple[str, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of what the rules do; the preset's name and source do not enter."""
        return sha256_json([[r.name, r.function, {k: _plain(v) for k, v in r.options.items()}] for r in self.rules])

    def as_data(self) -> dict[str, Any]:
        """The system these rules make: kind, unchanged preset, and what was changed in it."""
        if not self.rules:
            return {"kind": "base"}
        preset = {"preset": self.origin or self.name, "without": list(self.without), "changes": dict(self.changes)}
        return {"kind": "rules"} | preset | {"sha256": self.sha256}


def preset_names() -> list[str]:
    """The shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_path: str | None) -> Preset:
    """Loads a shipped preset by name, or any YAML file of the same shape by path.

    Args:
        name_or_path: E.g. "paper" or "my_rules.yaml"; None is "none", as lm-eval's parser turns `rules=none` into None.

    Raises:
        UserError: Unknown name, missing file, or a file that is not a preset.
    """
    spec = "none" if name_or_path is None else str(name_or_path)
    path = PRESETS / f"{spec}.yaml"
    if spec not in preset_names():
        path = Path(spec).expanduser()
        if path.suffix not in {".yaml", ".yml"}:
            raise unknown_name("rules preset", spec, preset_names(), fix="Or give the path of a YAML file.")
        if not os.path.isfile(path):  # also a name that is too long for a file
            raise UserError(
                f"rules={spec[:200]}: no such file. Expected a preset ({', '.join(preset_names())}) or a YAML file."
            )
    data = read_yaml(path, f"a preset of the shape of those in {PRESETS}")
    return _parse(data, path)


def customise(preset: Preset, drop: str | None = None, overrides: Mapping[str, Any] | None = None) -> Preset:
    r"""Leaves rules out and changes single options.

    Args:
        preset: What to start from.
        drop: Names of rules joined by "+", e.g. "eos+diversity".
        overrides: Values by "rule.option", e.g. {"eos.maximum": 10}; a single string's weight is "uniform.<string>",
            with `\n` for a newline. Overriding a rule that is dropped is an error.

    Returns:
        A preset whose name tells what was changed, e.g. "paper-eos,uniform.!=0".
    """
    rules = {rule.name: rule for rule in preset.rules}
    name = preset.name
    without = [d for d in (drop or "").split("+") if d]
    changes = sorted((overrides or {}).items())
    for dropped in without:
        if dropped not in rules:
            raise unknown_name(f"rule in drop={drop}", dropped, rules)
        del rules[dropped]
        name += f"-{dropped}"
    for key, value in changes:
        rule_name, _, option = key.partition(".")
        if rule_name not in rules:
            raise unknown_name(f"rule in {key}={value}", rule_name, rules)
        rules[rule_name] = _override(rules[rule_name], option, value)
        name += f",{key}={value}"
    return replace(
        preset,
        name=name,
        rules=tuple(rules.values()),
        origin=preset.origin or preset.name,
        without=(*preset.without, *without),
        changes=(*preset.changes, *changes),
    )


def _override(rule: Rule, option: str, value: Any) -> Rule:
    options = dict(rule.options)
    where = f"{rule.name}.{option}={value}"
    try:
        string = option.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in option else option
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not an escape ({error.reason}). Expected e.g. \\n for a newline.") from error
    for key, weights in options.items():
        if isinstance(weights, tuple) and any(s == string for s, _ in weights):
            weight = _convert(value, float, where)
            changed = tuple((s, weight if s == string else w) for s, w in weights)
            return replace(rule, options=options | {key: changed})
    checked = _check_options(rule.function, {option: value}, where)
    return replace(rule, options=options | checked)


def _parse(data: Any, path: Path) -> Preset:
    shape = "Expected the keys name, source and rules (a mapping of rule name to function and options)"
    if not isinstance(data, dict) or not isinstance(data.get("rules"), dict) or not isinstance(data.get("name"), str):
        raise UserError(f"{path}: not a rules preset. {shape}, as in {PRESETS / 'paper.yaml'}.")
    if extra := sorted(map(str, data.keys() - {"name", "source", "rules"})):
        raise UserError(f"{path}: unknown key {extra[0]!r}. {shape}.")
    rules = []
    for name, entry in data["rules"].items():
        if not isinstance(entry, dict) or "function" not in entry:
            raise UserError(f"{path}: rule {name!r} has no function. Expected one of {', '.join(_functions())}.")
        if "." in str(name) or "+" in str(name):
            raise UserError(f"{path}: rule {name!r}: a rule's name may not contain '.' or '+'.")
        options = {key: value for key, value in entry.items() if key != "function"}
        where = f"{path}: rule {name!r}"
        rules.append(Rule(str(name), entry["function"], _check_options(entry["function"], options, where)))
        _require_all(rules[-1], where)
    return Preset(data["name"], str(data.get("source", "")), tuple(rules))


def _functions() -> dict[str, Any]:
    from implicit_if.model_wrappers.rules.rules import RULES

    return RULES


def _signature(function: str, where: str) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    functions = _functions()
    if not isinstance(function, str) or function not in functions:
        raise unknown_name(f"rule function in {where}", str(function), functions)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(functions[function]).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return parameters, typing.get_type_hints(functions[function])


def _check_options(function: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    parameters, hints = _signature(function, where)
    checked = {}
    for key, value in options.items():
        if key not in parameters:
            raise unknown_name(f"option of {function} in {where}", str(key), parameters)
        checked[key] = _convert(value, hints[key], f"{where}: {key}")
    return checked


def _require_all(rule: Rule, where: str) -> None:
    parameters, _ = _signature(rule.function, where)
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in rule.options]
    if missing:
        raise UserError(f"{where}: option {missing[0]!r} of {rule.function} is missing.")


def _convert(value: Any, kind: Any, where: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown_name(where, str(value), map(str, get_args(kind)))
        return value
    if getattr(kind, "__name__", "") == "TokenWeights":
        return _string_weights(value, where)
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if kind is float and numeric:
        return float(value)
    if kind is int and numeric and int(value) == value and value > 0:
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    expected = "a positive int" if kind is int else kind.__name__
    raise UserError(f"{where}: found {repr(value)[:60]}, expected {expected}{_RANGE if kind is float else ''}.")


def _string_weights(value: Any, where: str) -> StringWeights:
    expected = "expected a list of {weight: number, strings: [text, ...]}"
    if not isinstance(value, list):
        raise UserError(f"{where}: found {type(value).__name__}, {expected}.")
    pairs: dict[str, float] = {}
    for group in value:
        if (
            not isinstance(group, dict)
            or group.keys() != {"weight", "strings"}
            or not isinstance(group["strings"], list)
        ):
            raise UserError(f"{where}: found {group!r}, {expected}.")
        weight = _convert(group["weight"], float, f"{where}: weight")
        for string in group["strings"]:
            if not isinstance(string, str) or not string:
                raise UserError(f"{where}: found string {string!r}, expected non-empty text.")
            if string in pairs:
                raise UserError(f"{where}: the string {string!r} stands there twice; give it one weight.")
            pairs[string] = weight
    return tuple(pairs.items())


def _plain(value: Any) -> Any:
    return [list(pair) for pair in value] if isinstance(value, tuple) else value
