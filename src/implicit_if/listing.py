"""`implicit-if list`: the names that other commands take: judges, references, presets, recipes and so on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from implicit_if.harness.errors import unknown_name

HELP = "list what has a name: judges, references, presets, templates, recipes, instruction sets, tasks, models"
SECTION = "setup"
EXAMPLES = ("implicit-if list", "implicit-if list judges presets", "implicit-if list --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (all)")
    parser.add_argument("--json", action="store_true", help="print JSON: kind, then name, then what it is")


def run(args: argparse.Namespace) -> int:
    """Prints the names with a line on each.

    Raises:
        UserError: If there is no such kind.
    """
    for kind in args.kinds:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    found = {kind: names() for kind, (_, names) in KINDS.items() if not args.kinds or kind in args.kinds}
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    blocks = []
    for kind, names in found.items():
        width = max(map(len, names), default=0)
        lines = [f"  {name:<{width}}  {what}".rstrip() for name, what in names.items()]
        blocks.append("\n".join([f"{kind} ({KINDS[kind][0]})", *lines]))
    print("\n\n".join(blocks))
    return 0


def judges() -> dict[str, str]:
    """Judges by name."""
    from implicit_if.harness.judging.registry import known_judges, resolve_spec

    found = {}
    for name in known_judges():
        backend = resolve_spec(name if not _needs_argument(name) else f"{name}:x").backend
        found[name] = f"{backend.kind}, e.g. {backend.example}" if backend.name == name else f"a {backend.name} judge"
    return found


def _needs_argument(name: str) -> bool:
    from implicit_if.harness.judging.registry import get_backend

    backend = get_backend(name)
    return backend is not None and backend.argument not in ("none", "optional")


def references() -> dict[str, str]:
    """Named references, each with the instruction sets it answers."""
    from implicit_if.harness.references import FOLDER, reference_names

    return {
        name: ", ".join(sorted(path.stem for path in (FOLDER / name).glob("*@*.json") if ".meta" not in path.name))
        for name in reference_names()
    }


def presets() -> dict[str, str]:
    """Presets of rules, each with its rules."""
    from implicit_if.model_wrappers.rules.presets import load_preset, preset_names

    return {name: ", ".join(rule.name for rule in load_preset(name).rules) for name in preset_names()}


def templates() -> dict[str, str]:
    """Chat templates, each with the tags it puts around turns."""
    from implicit_if.harness.chat_templates import load_template, template_names

    return {name: " ".join(filter(None, (repr(tag) for tag in load_template(name).tags))) for name in template_names()}


def recipes() -> dict[str, str]:
    """Tuning recipes."""
    from implicit_if.harness.tuning.cli import summary_of
    from implicit_if.harness.tuning.recipe import recipe_names

    return {name: summary_of(name) for name in recipe_names()}


def profiles() -> dict[str, str]:
    """Hyper-parameters of tuning, each with the base model it is meant for."""
    from implicit_if.harness.tuning import profile

    return {name: found.base or "any base model" for name, found in profile.profiles().items()}


def instruction_sets() -> dict[str, str]:
    """Instruction sets that ship or have a name."""
    return {
        "auto": "alpaca_eval where it is cached or the hub answers, else builtin",
        "builtin": "80 instructions of this package",
        "validation": "56 others of this package, to choose epochs and rates on",
        "alpaca_eval": "the 805 of AlpacaEval, from the Hugging Face hub or its cache",
    }


def tasks() -> dict[str, str]:
    """Tasks of lm_eval that this package adds."""
    from implicit_if.harness.lm_eval_plugin import task_files

    return {path.parent.name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in task_files()}


def models() -> dict[str, str]:
    """Model classes of lm_eval that this package adds, and base models with a name of their own."""
    from implicit_if.harness.lm_eval_plugin import MODELS, declared
    from implicit_if.harness.tuning.base_model import registered_models

    return {name: f"lm_eval --model {name}" for name in declared(MODELS)} | {
        name: f"a base model: tune --base {name}, lm_eval --model rules_poe" for name in registered_models()
    }


KINDS: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "judges": ("--judge; docs/judges.md", judges),
    "references": ("--reference, and wherever outputs stand", references),
    "presets": ("--model_args rules=", presets),
    "templates": ("--template", templates),
    "recipes": ("implicit-if tune", recipes),
    "profiles": ("--profile", profiles),
    "instruction-sets": ("--instructions", instruction_sets),
    "tasks": ("lm_eval --tasks", tasks),
    "models": ("lm_eval --model", models),
}
