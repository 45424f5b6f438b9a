"""The work folder of a run: who may use it, which checkpoints in it are whole, and whose run it is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.provenance import load_provenance
from implicit_if.harness.storage import write_json
from implicit_if.harness.tuning.recipe import save_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe

Identity = dict[str, str]
"""What makes two runs the same: hashes of recipe, data and base."""

_FORM = frozenset({"train.save_dtype", "train.lora.merge"})
"""Keys that change the finished model alone."""


def work_folder(target: Path) -> Path:
    """Where the checkpoints of a model in `target` are.

    Raises:
        UserError: If `target` does not end in a folder's name, so that it cannot be made by a rename, if something else
            is there, or if it lies where no folder can be made.
    """
    if target.name in ("", ".."):
        raise UserError(f"--out is {str(target)!r}, expected the name of a new folder at its end, e.g. tuned/mine.")
    if os.path.lexists(target) and load_provenance(target) is None:
        raise UserError(f"{target}: exists and is no tuned model of ours. Expected a new folder; choose another --out.")
    work = target.with_name(f"{target.name}.work")
    above = next(p for p in work.absolute().parents if p.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError(f"{work}: cannot be made in {above}. Choose an --out where you may write.")
    return work


@contextlib.contextmanager
def only_run(work: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes.

    Raises:
        UserError: If it cannot be made, or another process is tuning there.
    """
    from filelock import Timeout

    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be made ({error}). Choose an --out where you may write.") from error
    try:
        with locked(work / "run", timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{work}: another process is tuning there. Wait for it, or choose another --out.") from error


def saved_recipe(folder: Path) -> Recipe | None:
    """The recipe of an unfinished run or of a tuned model; None where there is none that can be read."""
    try:
        return Recipe.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def finished(target: Path, recipe: Recipe, identity: Identity) -> bool:
    """Whether the model is already there.

    Raises:
        UserError: If something else is.
    """
    found = load_provenance(target)
    if found is None:
        return False
    if other := _difference(target, found.identity, recipe, identity):
        raise UserError(f"{target}: holds a model of another {other}. Choose another --out, or remove it.")
    return True


def open_work(work: Path, recipe: Recipe, identity: Identity) -> None:
    """Takes up an unfinished run of the same identity, or marks the folder as this run's.

    Checkpoints that are not whole are removed, which is said.

    Raises:
        UserError: If the folder holds a run of another identity, or the disk is full.
    """
    marker = work / "run.json"
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if other := _difference(work, found, recipe, identity, _FORM):
            raise UserError(
                f"{work}: holds an unfinished run of another {other}. Choose another --out, or remove that folder to "
                f"start again."
            )
    for folder in work.glob("checkpoint-*"):
        if not _whole(folder):
            print(f"note: removing {folder}, which was not written to its end", file=sys.stderr)
            shutil.rmtree(folder)
    with clear_disk_errors(work):
        save_recipe(work / "recipe.yaml", recipe)
        write_json(marker, identity)


def last_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    return max(filter(_whole, work.glob("checkpoint-*")), key=_step, default=None)


def check_disk(work: Path, checkpoint: int, finished_model: int) -> str:
    """What a run takes on the disk and what is free there, as a sentence.

    While a checkpoint is written the one before it is still there; then the last one stays until the model is written.

    Args:
        work: The work folder; what stands in it already counts as free.
        checkpoint: Bytes of a checkpoint.
        finished_model: Bytes that are written after training.

    Raises:
        UserError: If it does not fit.
    """
    needed = checkpoint + max(checkpoint, finished_model)
    free = shutil.disk_usage(work).free + sum(p.stat().st_size for p in work.rglob("*") if p.is_file())
    takes = f"training takes up to {needed / 1e9:.2f} GB on the disk of {work}, where {free / 1e9:.2f} GB are free"
    if needed > free:
        raise UserError(f"{takes}. Make room, or choose another --out.")
    return takes


@contextlib.contextmanager
def clear_disk_errors(work: Path) -> Iterator[None]:
    """Says so where a disk is full: libraries below raise it as many things, whose text alone has it in common."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full and shutil.disk_usage(work).free > 1_000_000:
            raise
        kept = last_checkpoint(work)
        raise UserError(
            f"{work}: the disk is full ({error}). {f'{kept.name} is whole' if kept else 'No checkpoint is whole yet'}; "
            f"make room and run the same command to continue."
        ) from error


def _whole(checkpoint: Path) -> bool:
    """Whether it was written to its end: its last file, `trainer_state.json`, is complete and of this step.

    A kill leaves no such file, a full disk an empty one or the beginning of one.
    """
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
        return bool(state["global_step"] == _step(checkpoint))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _difference(
    folder: Path, found: Identity, recipe: Recipe, identity: Identity, ignored: frozenset[str] = frozenset()
) -> str:
    """In what the run that left `folder` differs from this one, naming the recipe's keys; empty if in nothing."""
    others = [key for key in identity if found.get(key) != identity[key]]
    before = saved_recipe(folder)
    if "recipe" in others and before:
        others.remove("recipe")
        old, new = before.choices(), recipe.choices()
        changed = sorted(key for key in {*old, *new} - ignored if old.get(key) != new.get(key))
        if changed:
            named = "; ".join(f"{key} was {old.get(key)}, is now {new.get(key)}" for key in changed)
            others.insert(0, f"recipe ({named})")
    return " and ".join(others)
