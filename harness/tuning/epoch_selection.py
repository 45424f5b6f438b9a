"""`implicit-if select`: how many epochs? Trains the sweep, judges each model on a validation set, records the choice.

The paper's way: 5, 7, 10, 15 and 20 epochs with seed 42, judged on 56 validation instructions against GPT-3.5. With a
decaying schedule an epoch checkpoint of a longer run is not the shorter run: each number of epochs trains on its own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.child_process import STOPPED, run_stoppable
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.judging.protocol import candidates
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.provenance import PROVENANCE
from implicit_if.harness.references import BASE, choose_reference, load_reference
from implicit_if.harness.scores import Score, StoredScore
from implicit_if.harness.storage import sha256_json, write_json
from implicit_if.harness.tuning.cli import add_recipe_arguments, numbers, recipe_from
from implicit_if.harness.tuning.data.encode import prompt_template
from implicit_if.harness.tuning.recipe import save_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe

HELP = "choose the number of epochs on a validation set, as the paper does"
SECTION = "tune"
EXAMPLES = ("implicit-if select response --base embedded --data lima.jsonl --reference reference.json --out sweep",)
EPOCHS = (5, 7, 10, 15, 20)
SEED = 42
TASK = "alpaca_winrate"
METRIC = "length_controlled_win_rate"


@dataclass(frozen=True)
class Cell:
    """One model of the sweep.

    Attributes:
        epochs: How long it was trained.
        score: Its win rate on the validation set; higher is better.
        folder: The model.
    """

    epochs: int
    score: Score
    folder: Path

    @property
    def value(self) -> float:
        """The score's number; nothing judged ranks last."""
        return float("-inf") if self.score.value is None else self.score.value


Train = Callable[[Recipe, Path], Path]
Evaluate = Callable[[Path], Score]
"""Judges the model in a folder; returns at once what it has judged before."""


def select(recipe: Recipe, out: str | Path, evaluate: Evaluate, train: Train, epochs: Sequence[int] = EPOCHS) -> Cell:
    """Trains and judges every number of epochs and writes the choice to `<out>/selection.json`.

    What an earlier call finished is not done again. Of equal scores the fewest epochs are taken; that, and intervals
    that overlap the chosen one's, is said and recorded.

    Args:
        recipe: The resolved recipe; its own epochs do not matter.
        out: Folder of the sweep; each cell is `<out>/epochs-N`.
        evaluate: Judges a model.
        train: Trains a recipe into a folder.
        epochs: The sweep.

    Raises:
        UserError: If a model was not judged on every instruction, two were not judged in the same way, all scores are
            equal, or `train.max_steps` ends every run alike.
    """
    if recipe.train.max_steps is not None:
        raise UserError(
            f"train.max_steps is {recipe.train.max_steps}: it ends training whatever the epochs, so that all models of "
            f"the sweep would be equal. Remove it."
        )
    folder = Path(out)
    cells = []
    for count in sorted(set(epochs)):
        own = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": count})})
        model = train(own, folder / f"epochs-{count}")
        cells.append(Cell(count, evaluate(model), model))
        print(f"{count} epochs: {METRIC} {cells[-1].score.render()}", file=sys.stderr, flush=True)
    _check(cells, folder)
    best = max(cells, key=lambda cell: (cell.value, -cell.epochs))
    notes = list(_doubts(cells, best))
    write_json(folder / "selection.json", {**_record(recipe, cells, best), "notes": notes})
    print_table(cells, best)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return best


def _doubts(cells: Sequence[Cell], best: Cell) -> Iterator[str]:
    """Why the choice may be another one: scores equal to the best, and intervals that overlap its own."""
    others = [cell for cell in cells if cell is not best]
    if equal := [str(cell.epochs) for cell in others if cell.value == best.value]:
        yield f"{best.epochs} and {', '.join(equal)} epochs have equal scores; the fewest were taken, not the better"
    mine = best.score.interval
    overlapping = [
        str(cell.epochs) for cell in others if mine and cell.score.interval and cell.score.interval.high >= mine.low
    ]
    if overlapping:
        yield (
            f"the interval of {best.epochs} epochs overlaps those of {', '.join(overlapping)} epochs; other validation "
            f"instructions may choose another number"
        )


def command_trainer(launcher: Sequence[str]) -> Train:
    """Trains by the `tune` command in processes of their own: they free their memory, and may be several.

    Args:
        launcher: What starts them: a Python interpreter, `accelerate launch ...` or `torchrun ...`.
    """
    from implicit_if.harness.tuning.runner import StoppedError

    def train(recipe: Recipe, folder: Path) -> Path:
        path = folder.with_name(f"{folder.name}.yaml")
        save_recipe(path, recipe)
        command = [*launcher, "-m", "implicit_if.harness.cli", "tune", str(path), "--out", str(folder)]
        try:
            status, stopped = run_stoppable(command)
        except OSError as error:
            raise UserError(f"--launcher {shlex.join(launcher)}: cannot be started ({error}).") from error
        if stopped or status == STOPPED:  # a launcher that is stopped ends with another status
            raise StoppedError(f"{folder}: tuning was stopped. Run the same command to continue.")
        if status:
            raise UserError(f"{folder}: tuning ended with status {status}. Its messages stand above.")
        return folder

    return train


def lm_eval_evaluator(metadata: Mapping[str, str], extra: Sequence[str] = ()) -> Evaluate:
    """Evaluates by the `lm_eval` command in a process of its own, so that each model's memory is freed.

    Scores are kept in `<model>.validation-<hash>`, the hash being of all that they depend on.

    Args:
        metadata: The task's settings: instructions, reference (a name or a file), judge and template. All are loaded
            here, so that none is found wrong after hours of training.
        extra: More arguments for lm_eval, e.g. `--batch_size 8`.

    Raises:
        UserError: For a judge, reference, instruction set or template that cannot be used.
    """
    asked = {**_contents(metadata), "lm_eval": list(extra)}

    def evaluate(model: Path) -> Score:
        if not (model / PROVENANCE).is_file():
            raise UserError(f"{model}: no {PROVENANCE} of ours. Expected a model made by `tune`.")
        of_model = {**asked, "model": model_fingerprint(str(model))}
        folder = model.with_name(f"{model.name}.validation-{sha256_json(of_model)[:12]}")
        scores = folder / "scores.json"
        if not scores.exists():
            write_json(folder / "asked.json", of_model)
            settings = [f"{key}={value}" for key, value in {**metadata, "save": str(folder)}.items()]
            command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model}"]
            command += ["--tasks", TASK, "--metadata", *settings, "--output_path", str(folder), *extra]
            status = subprocess.run(command, check=False).returncode
            if status or not scores.exists():
                raise UserError(f"{model}: lm_eval ended with status {status}. Its messages stand above.")
        return read_score(scores)

    return evaluate


def _contents(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The task's settings, and hashes of what they stand for: a file may change under its name."""
    instructions, judge = load_instructions(metadata["instructions"]), get_judge(metadata["judge"])
    answers = load_reference(metadata["reference"], instructions)
    return {
        "settings": dict(metadata),
        "instructions": instructions.content_sha256,
        "reference": sha256_json([[o.instruction_id, o.output, o.generator] for o in answers]),
        "judge": [each.fingerprint for each in candidates(judge)],
        "template": load_template(metadata["template"]).sha256,
    }


def read_score(path: Path) -> Score:
    """The validation score in the `scores.json` that the task saves.

    Raises:
        UserError: If the file holds no such score.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[METRIC]
        score: Score = TypeAdapter(StoredScore).validate_python(found)
        return score
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no {METRIC} ({error}). Remove the file and run the command again.") from error


def print_table(cells: Sequence[Cell], best: Cell) -> None:
    """Prints the sweep with its choice and the signature of the numbers."""
    print(f"{'epochs':>6}  {METRIC}")
    for cell in cells:
        print(f"{cell.epochs:>6}  {cell.score.render()}{'  <- chosen' if cell is best else ''}")
    print(best.score.signature)


def _check(cells: Sequence[Cell], folder: Path) -> None:
    if len(cells) > 1 and len({cell.value for cell in cells}) == 1 and cells[0].score.complete:
        raise UserError(
            f"{folder}: all {len(cells)} models score {cells[0].score.render()}, so there is no choice. Judge on "
            f"more instructions, or try other numbers of epochs."
        )
    for cell in cells:
        if not cell.score.complete or cell.score.value is None:
            raise UserError(
                f"{cell.folder}: {cell.score.n_judged} of {cell.score.n_expected} validation instructions were judged, "
                f"expected all. Remove {cell.folder.name}.validation-* and run the command again."
            )
    if len({cell.score.signature for cell in cells}) > 1:
        listing = "; ".join(f"{cell.epochs} epochs: {cell.score.signature}" for cell in cells)
        raise UserError(
            f"{folder}: the models were judged differently ({listing}). Expected one way; "
            f"remove the validation folders and run the command again."
        )


def _record(recipe: Recipe, cells: Sequence[Cell], best: Cell) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "base": recipe.base,
        "profile": recipe.profile,
        "seed": recipe.train.seed,
        "metric": METRIC,
        "chosen_epochs": best.epochs,
        "cells": [{"epochs": c.epochs, "folder": c.folder.name, "score": c.score.model_dump()} for c in cells],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("recipe", help="a recipe's name, or a YAML file")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the sweep")
    parser.add_argument("--epochs", default=",".join(map(str, EPOCHS)), help="the sweep (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of every run (default: %(default)s)")
    parser.add_argument("--reference", required=True, help="outputs that every model is judged against")
    parser.add_argument("--instructions", default="validation", help="validation set (default: %(default)s)")
    parser.add_argument("--judge", default="embedded", help="judge (default: %(default)s)")
    parser.add_argument("--lm-eval-args", default="", help="more arguments for lm_eval, as one text")
    parser.add_argument("--launcher", help="what starts training, e.g. 'accelerate launch --config_file FILE'")
    add_recipe_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        UserError: See `select`; for epochs that are no numbers, and for all of the judging's settings that cannot be
            used, before anything trains.
    """
    epochs = numbers("--epochs", arguments.epochs, 1)
    for override in arguments.overrides:
        key = override.partition("=")[0]
        if key in ("train.seed", "train.epochs"):
            raise UserError(f"--set {override}: the sweep sets {key}. Give it with --{key.removeprefix('train.')}.")
    arguments.overrides.append(f"train.epochs={epochs[0]}")  # any: a recipe without chosen epochs is what this is for
    recipe = recipe_from(arguments, arguments.seed)
    instructions = load_instructions(arguments.instructions)
    metadata = {
        "instructions": instructions.name if arguments.instructions == "auto" else arguments.instructions,
        "reference": _reference(arguments.reference, instructions, recipe.base),
        "judge": arguments.judge,
        "template": prompt_template(recipe.encoding.template),
    }
    evaluate = lm_eval_evaluator(metadata, shlex.split(arguments.lm_eval_args))
    train = command_trainer(shlex.split(arguments.launcher) if arguments.launcher else [sys.executable])
    print(f"recipe {recipe.name}, base {recipe.base}, seed {recipe.train.seed}, epochs {epochs}", file=sys.stderr)
    from implicit_if.harness.tuning.runner import StoppedError

    try:
        select(recipe, arguments.out, evaluate, train, epochs)
    except StoppedError as stop:
        print(f"implicit-if: {stop}", file=sys.stderr)
        return STOPPED
    return 0


def _reference(spec: str, instructions: InstructionSet, base: str) -> str:
    """What the models of a sweep are judged against; "auto" is settled for all of them."""
    found, because = choose_reference(spec, instructions, base, answers_as_base=False)
    if found == BASE:
        raise UserError("--reference base: a tuned model cannot answer as its base. Give a name or an outputs file.")
    if because:
        print(f"reference: {found} ({because})", file=sys.stderr)
    return found
