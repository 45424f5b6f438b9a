"""Running one cell: `implicit-if replicate run MATRIX CELL`. It knows no launcher, and every launcher runs this."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.child_process import STOPPED, run_stoppable
from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.outputs import load_meta, load_outputs, save_outputs
from implicit_if.harness.references.recitation import TrainingTexts
from implicit_if.harness.replicate.cells import Cell, folder
from implicit_if.harness.replicate.held import held, own_gpus
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.matrix import Matrix
from implicit_if.harness.replicate.plan import TABLES, sibling_of
from implicit_if.harness.storage import read_yaml, yaml_bytes


def run_cell(place: Folder, cell: Cell, matrix: Matrix) -> int:
    """Makes a cell's artefact, unless it is whole; what an interrupted run left is continued.

    The cell is locked meanwhile: a second process waits, and then finds it whole. The kernel gives the lock back when
    the process ends, in whatever way.

    Returns:
        0 if the artefact is whole; else the command's exit status, 75 if it was stopped and can be continued.

    Raises:
        UserError: If an input is missing or damaged, or as the command does.
    """
    target = (place.path / folder(cell.name)).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with locked(target):
        place.forget()
        if place.unfinished(cell.name) is None:
            _say(f"{cell.name} is whole")
            return 0
        for need in cell.needs:
            _require(place, need)
        place.begin(cell)
        words = place.words(cell)
        _say(f"{cell.name}: {shlex.join(words)}")
        with own_gpus(cell.gpus), _inside(place.path):
            if cell.kind == TABLES:
                write_families(matrix)
            status = execute(words, target.with_name(f"{target.name}.command.lock"))
            if status == 0 and cell.kind == "answer":
                finish_answers(cell, place.rows(cell.recipe) if cell.withhold and cell.recipe else None)
        if status == 0:
            place.finish(cell)
            _say(f"{cell.name} is done")
        return status


def _require(place: Folder, need: str) -> None:
    why = place.unfinished(need)
    if why is None and (why := place.damaged(need)) is not None:  # seen only by reading every byte
        place.note_damage(need, why)
    if why is not None:
        raise UserError(f"the input {need} {why}. Run it first, in the way this cell was run.")


def execute(words: Sequence[str], lock: Path) -> int:
    """Runs a command in this process, so that its end is ours; what is none of ours runs in a process of its own.

    Such a process inherits a lock: if ours is killed, the next run waits until that one has ended, too.

    Args:
        words: The command.
        lock: File of that lock.

    Returns:
        Its exit status.
    """
    program, *arguments = words
    if program == "implicit-if":
        from implicit_if.harness.cli import main

        return main(arguments)
    if program == "lm_eval":
        return _lm_eval(arguments)
    with held(lock, "a command that outlived its cell") as descriptor:
        status, stopped = run_stoppable(words, (descriptor,))
    return STOPPED if stopped else status


def _lm_eval(arguments: Sequence[str]) -> int:
    import runpy

    before = sys.argv
    sys.argv = ["lm_eval", *arguments]
    try:
        runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0


def finish_answers(cell: Cell, rows: str | None = None) -> None:
    """Names the answers after their cell: all plain models call theirs alike, and a board tells references by name.

    Args:
        cell: The cell.
        rows: Training data, as analyses take them; what the answers recite of it is left out, and counted.
    """
    path = Path(cell.artefacts[0])
    name, meta = cell.name.removeprefix("answer-"), load_meta(path)
    outputs = [output.model_copy(update={"generator": name}) for output in load_outputs(path)]
    if rows is not None:
        from implicit_if.harness.analysis.training_rows import load_training_rows

        texts = TrainingTexts(text for row in load_training_rows(rows)[1] for text in row)
        outputs, passages = texts.withhold_from(outputs)
        if meta is not None:
            meta.model["recited_passages_withheld"] = passages
    save_outputs(path, outputs, meta and meta.model_copy(update={"generator": name}))


def write_families(matrix: Matrix) -> None:
    """Writes `tables/references.yaml`: the siblings of one recipe are seeds of one reference (docs/leaderboards.md)."""
    families: list[dict[str, Any]] = []
    for model in matrix.models:
        for recipe in dict.fromkeys(sibling_of(recipe) for recipe in model.recipes):
            name = f"{matrix.organisation}__{model.name}-{recipe}"
            seeds = {}
            for seed in matrix.seeds:
                path = Path(TABLES) / "submissions" / name / f"s{seed}" / "metadata.yaml"
                seeds[seed] = read_yaml(path, "a submission's metadata")["reference"]["sha256"]
            if len(set(seeds.values())) == len(seeds) > 1:  # siblings with equal answers share a table as it is
                families.append({"name": f"{model.name}-{recipe}", "seeds": seeds})
    path = Path(TABLES) / "references.yaml"
    path.unlink(missing_ok=True)
    if families:
        path.write_bytes(yaml_bytes({"families": families}))


@contextlib.contextmanager
def _inside(path: Path) -> Iterator[None]:
    """Commands name files of the matrix's folder by short paths, so that artefacts hold none of this machine's."""
    with contextlib.chdir(path):
        yield


def _say(text: str) -> None:
    print(f"implicit-if: {text}", file=sys.stderr, flush=True)
