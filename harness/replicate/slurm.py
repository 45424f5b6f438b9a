"""SLURM as a launcher: a script that submits the cells that are not whole, one array a level and kind of machine."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from implicit_if.harness.child_process import STOPPED
from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cells import API_JOBS, Cell, levels
from implicit_if.harness.replicate.launch import Launch
from implicit_if.harness.storage import atomic_write, sha256_text

FOLDER = "slurm"
_TASK = """#!/bin/sh
# One cell: the line of the list $1 that SLURM_ARRAY_TASK_ID counts, from 0. A batch script runs once, whatever GPUs its
# job has; srun, which starts a process a task, is not used. SIGTERM comes before the time is over: a tuning then writes
# a checkpoint and ends with {stopped}, and the job is queued again.
cell=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$1")
pid=
trap '[ -n "$pid" ] && kill -TERM "$pid"' TERM
{program} replicate run {matrix} "$cell" {options} >>{logs}/"$cell".log 2>&1 &
pid=$!
wait "$pid"
status=$?
while kill -0 "$pid" 2>/dev/null; do  # wait returns when the signal comes
  wait "$pid"
  status=$?
done
if [ "$status" -eq {stopped} ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"""


def submission_script(launch: Launch, extra: Sequence[str] = (), api: int = API_JOBS) -> str:
    """The script that submits what is not whole; it names files that `write` puts beside it.

    A level starts when all jobs before it have ended, in whatever way: a cell whose input is missing ends at once and
    says so, and the others go on. (With `afterok` one failed cell would keep all later levels waiting for ever.)

    Args:
        launch: The matrix.
        extra: More arguments for each sbatch, e.g. `--partition=gpu`.
        api: Cells that may ask a judge over a network at once.
    """
    lines = [
        "#!/bin/sh",
        "# Made from the plan by `implicit-if replicate`: submits what was not whole then. Submit again what fails.",
        "set -eu",
        f"cd {shlex.quote(str(launch.place.path))}",
        "after=",
    ]
    for level, groups in _levels(launch):
        lines += ["", f"# level {level}", "ids="]
        for name, cells in groups:
            words = [
                *_resources(cells, api),
                *map(shlex.quote, extra),
                f"{FOLDER}/task.sh",
                f"{FOLDER}/{_list(name, cells)[0]}",
            ]
            job = f"--job-name={launch.place.path.name}-{name} --output={FOLDER}/%A_%a.out"
            lines.append(f"ids=$ids:$(sbatch --parsable $after {job} {' '.join(words)})")
        lines.append('after="--dependency=afterany$ids"')
    program = " ".join(shlex.quote(word) for word in launch.program)
    lines += ["", "# says which cells are not whole, and why"]
    lines.append(
        f"sbatch --parsable $after --job-name={launch.place.path.name}-status --output={FOLDER}/status.out "
        f"{' '.join(map(shlex.quote, extra))} --wrap "
        + shlex.quote(f"{program} replicate status {shlex.quote(launch.matrix)} {_options(launch)}")
    )
    return "\n".join(lines) + "\n"


def write(launch: Launch, extra: Sequence[str] = (), api: int = API_JOBS) -> Path:
    """Writes the script, the job's script and the lists of cells into the matrix's folder.

    Returns:
        The script.

    Raises:
        UserError: If every cell is whole.
    """
    if not launch.todo():
        raise UserError(f"{launch.place.path}: every cell is whole, there is nothing to submit.")
    folder = launch.place.path / FOLDER
    (launch.place.path / "logs").mkdir(parents=True, exist_ok=True)
    task = _TASK.format(
        program=shlex.join(launch.program),
        matrix=shlex.quote(launch.matrix),
        options=_options(launch),
        logs=shlex.quote(str(launch.place.path / "logs")),
        stopped=STOPPED,
    )
    files = {"task.sh": task, "submit.sh": submission_script(launch, extra, api)}
    for _, groups in _levels(launch):
        files |= dict(_list(name, cells) for name, cells in groups)
    for name, text in files.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    return folder / "submit.sh"


def _list(name: str, cells: Sequence[Cell]) -> tuple[str, str]:
    """The list of an array's cells, named by its content: jobs that are queued still read that of their submission."""
    text = "".join(f"{cell.name}\n" for cell in cells)
    return f"{name}-{sha256_text(text)[:8]}.txt", text


def _options(launch: Launch) -> str:
    return shlex.join(launch.command("CELL")[len(launch.program) + 4 :])


def _levels(launch: Launch) -> Iterator[tuple[int, list[tuple[str, list[Cell]]]]]:
    """Per level what is not whole, by the machine it needs."""
    todo = {cell.name for cell in launch.todo()}
    for number, level in enumerate(levels(launch.cells), start=1):
        groups: dict[str, list[Cell]] = {}
        for cell in level:
            if cell.name in todo:
                kind = f"gpu{cell.gpus}" if cell.gpus else "api" if cell.api else "cpu"
                groups.setdefault(f"level-{number}-{kind}", []).append(cell)
        if groups:
            yield number, sorted(groups.items())


def _resources(cells: Sequence[Cell], api: int) -> list[str]:
    """What the jobs of an array ask for: the most that one of its cells needs, and twice its hours."""
    gpus = cells[0].gpus
    minutes = max(30, math.ceil(120 * max(cell.costs.hours for cell in cells)))
    most = f"%{api}" if any(cell.api for cell in cells) else ""
    words = [f"--array=0-{len(cells) - 1}{most}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={max(4, 8 * gpus)}"]
    words += [f"--mem={math.ceil(max(cell.costs.memory_gb for cell in cells))}G", f"--time={minutes}"]
    return [*words, *([f"--gres=gpu:{gpus}"] if gpus else []), "--requeue", "--signal=B:TERM@300"]
