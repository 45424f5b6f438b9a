"""`implicit-if tune`: a base model becomes one of the paper's systems."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.base_model import registered_models, resolve_base
from implicit_if.harness.tuning.profile import profiles
from implicit_if.harness.tuning.recipe import load_recipe, recipe_names
from implicit_if.harness.tuning.recipe_schema import Recipe

HELP = "tune a base model by a recipe (instruction, response, mbpp, ...)"
SECTION = "tune"
EXAMPLES = (
    "implicit-if tune --list",
    "implicit-if tune response --base embedded --data lima.jsonl --dry-run",
    "implicit-if tune instruction --base meta-llama/Llama-2-7b-hf --profile llama2-7b/reference --seeds 1,2,3",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("recipe", nargs="?", help="a recipe's name (see --list), or a YAML file")
    parser.add_argument("--list", action="store_true", help="list recipes and profiles")
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the tuned model (default: tuned/<recipe>-<base>-<seed>)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show rows, lengths and the loss mask; train nothing")
    parser.add_argument("--keep-checkpoints", action="store_true", help="keep DIR.work when the model is finished")
    add_recipe_arguments(parser)
    parser.add_argument("--seed", type=int, help="order of the rows; systems are compared at the same seed")
    parser.add_argument("--seeds", metavar="N,N", help="several models, one a seed, in DIR-<seed>; continues like one")


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `tune` and `select` share."""
    parser.add_argument("--base", metavar="MODEL", help="base model: hub name, folder, or a registered name (embedded)")
    parser.add_argument(
        "--data", metavar="PATH", help="local file of the recipe's data: jsonl, json, csv, parquet, txt"
    )
    parser.add_argument("--profile", metavar="MODEL/SET", help="hyper-parameters, e.g. llama2-7b/reference")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides", help="e.g. train.epochs=3"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        UserError: See `load_recipe`, `prepare` and `tune`.
    """
    if arguments.list:
        print_list()
        return 0
    if arguments.recipe is None:
        raise UserError(f"no recipe given. Expected one of: {', '.join(recipe_names())}; or a YAML file.")
    if arguments.seeds is None:
        return _run(arguments, arguments.seed, arguments.out)
    if arguments.seed is not None:
        raise UserError("--seed and --seeds are both given, expected one of them.")
    statuses = (
        _run(arguments, seed, arguments.out and f"{arguments.out}-{seed}")
        for seed in numbers("--seeds", arguments.seeds, 0)
    )
    return next((status for status in statuses if status), 0)


def _run(arguments: argparse.Namespace, seed: int | None, out: str | None) -> int:
    recipe = recipe_from(arguments, seed)
    print(f"recipe {recipe.name}, base {recipe.base}, profile {recipe.profile or 'none'}", file=sys.stderr)
    if arguments.dry_run:
        from implicit_if.harness.tuning.data.conversations import load_rows
        from implicit_if.harness.tuning.data.prepare import prepare
        from implicit_if.harness.tuning.dry_run import preview

        rows = load_rows(recipe.data)  # before the base model is fetched
        preview(prepare(recipe, resolve_base(recipe.base).path, rows=rows))
        return 0
    from implicit_if.harness.child_process import STOPPED
    from implicit_if.harness.tuning.runner import StoppedError, tune

    try:
        tune(recipe, out or default_folder(recipe), keep_checkpoints=arguments.keep_checkpoints)
    except StoppedError as stop:
        print(f"implicit-if: {stop}", file=sys.stderr)
        return STOPPED
    return 0


def numbers(option: str, text: str, least: int) -> list[int]:
    """The integers of a list such as "5,7,10", each at least `least`, sorted and once.

    Raises:
        UserError: For anything else.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < least:
        raise UserError(f"{option} is {text!r}, expected numbers from {least} on, such as 5,7,10.")
    return found


def recipe_from(arguments: argparse.Namespace, seed: int | None = None) -> Recipe:
    """The resolved recipe that the arguments of `add_recipe_arguments` ask for."""
    return load_recipe(
        arguments.recipe,
        arguments.overrides,
        base=arguments.base,
        profile=arguments.profile,
        data=arguments.data,
        seed=seed,
    )


def default_folder(recipe: Recipe) -> Path:
    """`tuned/<recipe>-<base>-<seed>`, the base without its organisation."""
    base = Path(recipe.base.rstrip("/")).name
    return Path("tuned") / f"{recipe.name}-{base}-{recipe.train.seed}"


def print_list() -> None:
    """Prints recipes, profiles and registered base models."""
    print("recipes:")
    for name in recipe_names():
        print(f"  {name:<24}{summary_of(name)}")
    print("profiles:")
    for profile in profiles().values():
        print(f"  {profile.name:<24}{profile.base or 'any other base model'}")
    print(f"registered base models: {', '.join(registered_models()) or 'none'}")


def summary_of(name: str) -> str:
    """A shipped recipe's one line."""
    overrides = ["train.epochs=1", "train.learning_rate=1"]  # any value: a summary does not depend on the profile
    return load_recipe(name, overrides, profile="llama2-7b/reference").summary
