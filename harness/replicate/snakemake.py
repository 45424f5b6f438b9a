"""Snakemake as a launcher: a Snakefile from the plan, and how Snakemake is started.

Rules leave stamps, not artefacts: Snakemake deletes the outputs of jobs that it starts, and keeps those of killed ones.
Which stamps are there follows from the cells' own markers before each start.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence

from implicit_if.harness.child_process import STOPPED, run_stoppable
from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cells import Cell
from implicit_if.harness.replicate.held import held
from implicit_if.harness.replicate.launch import Launch, logged, shared_gpus

ALL_CORES = 1024
"""Threads of a cell that computes on the CPU; Snakemake lowers them to the cores it has."""
_COMPUTES = ("select", "tune", "answer", "ranking")


def snakefile(launch: Launch) -> str:
    """A Snakefile in which each cell is a rule with a stamp as its output."""
    head = (
        "# Made from the plan by `implicit-if replicate`. The cells do the work, lock themselves and know what is\n"
        "# whole: a stamp says no more than that a cell's command ended with 0.\n\n"
        f"rule everything:\n    input: {_stamps(cell.name for cell in launch.cells)}\n"
    )
    return head + "".join(_rule(launch, cell, number) for number, cell in enumerate(launch.cells, start=1))


def _rule(launch: Launch, cell: Cell, number: int) -> str:
    costs = cell.costs
    threads = ALL_CORES if cell.kind in _COMPUTES and not cell.gpus else 1
    resources = {
        "gpu": cell.gpus,
        "tasks": 1,  # one process a cell: it starts its own on several GPUs; see tasks_per_gpu
        "tasks_per_gpu": -1,
        "api": int(cell.api),
        "mem_mb": int(costs.memory_gb * 1000),
        "disk_mb": int(costs.disk_gb * 1000),
        "runtime": max(10, int(costs.hours * 120)),  # minutes; twice the estimate
    }
    said = shlex.quote(f"{cell.name} begins; log: {launch.log(cell.name)}")
    command = logged(launch, cell.name)[-1].removeprefix("exec ")
    shell = f"echo {said}; {command}".replace("{", "{{").replace("}", "}}")
    lines = [
        f"\nrule {re.sub(r'[^A-Za-z0-9_]', '_', cell.name)}_{number}:",
        f"    input: {', '.join(f'ancient({json.dumps(_stamp(need))})' for need in cell.needs)}",
        f"    output: touch({json.dumps(_stamp(cell.name))})",
        f"    threads: {threads}",
        f"    resources: {', '.join(f'{key}={value}' for key, value in resources.items())}",
        f"    shell: {json.dumps(shell)}",
    ]
    return "\n".join(line for line in lines if not line.endswith("input: ")) + "\n"


def run_snakemake(launch: Launch, cores: int, gpus: int, api: int, extra: Sequence[str] = ()) -> int:
    """Runs a matrix by Snakemake.

    A second launcher in the same folder waits for the first, and for a Snakemake that outlived its launcher. A lock
    that a killed Snakemake left is therefore nobody's, and is removed.

    Args:
        launch: The matrix.
        cores: Processor cores here; with an executor for a cluster, the most jobs at once.
        gpus: GPUs here.
        api: Cells that may ask a judge over a network at once.
        extra: More arguments for Snakemake, e.g. `--profile`.

    Returns:
        0 if all cells are whole at the end, 1 if not, 75 if it was stopped.

    Raises:
        UserError: If Snakemake cannot start.
    """
    folder = launch.place.path / "snakemake"
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "launcher.lock", "another launcher") as lock:
        (folder / "Snakefile").write_text(snakefile(launch), encoding="utf-8")
        (folder / "stamps").mkdir(exist_ok=True)
        todo = {cell.name for cell in launch.todo()}
        for cell in launch.cells:
            launch.log(cell.name).parent.mkdir(exist_ok=True)
            stamp = folder / _stamp(cell.name)
            stamp.unlink(missing_ok=True) if cell.name in todo else stamp.touch()
        words = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(folder / "Snakefile"),
            "--directory",
            str(folder),
        ]
        if any((folder / ".snakemake" / "locks").glob("*")):
            print("an earlier Snakemake was killed: its lock is removed", file=sys.stderr, flush=True)
            run_stoppable([*words, "--cores", "1", "--unlock", "--quiet", "all"])
        words += ["--cores", str(cores), "--rerun-incomplete", "--keep-going", "--rerun-triggers", "mtime"]
        words += ["--resources", f"gpu={gpus}", f"api={api}", "--quiet", "rules", "host", *extra]
        if todo:
            with shared_gpus(gpus if not extra else 0):
                status, stopped = run_stoppable(words, (lock,))
            if stopped:
                print("stopped; run the same command to continue", flush=True)
                return STOPPED
            if status and len(launch.todo()) == len(todo):
                raise UserError(
                    f"no cell was finished; Snakemake ended with status {status}: {shlex.join(words)}\n"
                    + "\n".join(f"{cell.name}: {launch.reason(cell.name)}" for cell in launch.failed()[:5])
                )
    return launch.report()


def _stamp(cell: str) -> str:
    return f"stamps/{cell}"


def _stamps(names: Iterable[str]) -> str:
    return ", ".join(json.dumps(_stamp(name)) for name in names)
