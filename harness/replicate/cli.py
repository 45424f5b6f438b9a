"""`implicit-if replicate`: the paper's tables from base models, on a laptop, a GPU server or a cluster."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from implicit_if.harness.cli import positive
from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate import comparison_cli
from implicit_if.harness.replicate.cells import API_JOBS, Cell, find
from implicit_if.harness.replicate.launch import Launch, count_gpus, run_in_order
from implicit_if.harness.replicate.matrix import Matrix, load_matrix
from implicit_if.harness.replicate.plan import plan
from implicit_if.harness.storage import atomic_write

ENGINES = ("auto", "snakemake", "local")
HELP = "plan and run a whole replication: tune, answer, judge, submit, tables"
SECTION = "tune"
EXAMPLES = (
    "implicit-if replicate plan embedded",
    "implicit-if replicate run embedded --out replication",
    "implicit-if replicate status embedded",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    matrix = argparse.ArgumentParser(add_help=False)
    matrix.add_argument("matrix", metavar="MATRIX", help="embedded, single_gpu, paper, or a YAML file")
    add = actions.add_parser("plan", parents=[matrix], help="cells, what they need, hours, memory, disk, judge cost")
    add.add_argument("--json", action="store_true", help="JSON Lines, a cell a line, with its command")
    add.add_argument("--figure", type=Path, metavar="FILE", help="draw the graph of the cells as SVG")
    places = argparse.ArgumentParser(add_help=False, parents=[matrix])
    places.add_argument("--out", type=Path, default=Path("replication"), metavar="DIR", help="DIR/MATRIX (replication)")
    places.add_argument(
        "--data", type=Path, metavar="DIR", help="local data: DIR/gsm.jsonl, DIR/lima.jsonl, ... (from the hub)"
    )
    add = actions.add_parser("run", parents=[places], help="run a matrix, or one of its cells; continues what there is")
    add.add_argument("cell", nargs="?", metavar="CELL", help="one cell; without it, all of them")
    add.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="auto: snakemake where it is installed, else local (one by one)",
    )
    add.add_argument("--cores", type=positive, metavar="N", help="CPU cores (all), or jobs at once on a cluster")
    add.add_argument("--gpus", type=positive, metavar="N", help="GPUs (all of this machine)")
    asking = f"cells that ask an API at once ({API_JOBS})"
    add.add_argument("--api", type=positive, default=API_JOBS, metavar="N", help=asking)
    add.add_argument("--snakemake-args", default="", metavar="TEXT", help="more arguments, e.g. '--profile slurm'")
    add.add_argument("--sbatch", action="store_true", help="submit to SLURM: one array a level and kind of machine")
    add.add_argument("--sbatch-args", default="", metavar="TEXT", help="more arguments, e.g. '--partition=gpu'")
    add.add_argument("--skypilot", action="store_true", help="print a SkyPilot task for `sky jobs launch`")
    add.add_argument("--accelerators", metavar="NAME:N", help="of the SkyPilot machine (H100:1, or 8)")
    actions.add_parser("snakefile", parents=[places], help="print the Snakefile that `run` uses")
    actions.add_parser("status", parents=[places], help="which cells are whole, and why the others are not")
    actions.add_parser("clean", parents=[places], help="remove tuned models that have answered; keep all else")
    compare = actions.add_parser("compare", help="a replication's boards beside the paper's numbers, as Markdown")
    comparison_cli.add_arguments(compare)


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Returns:
        0; 1 if a cell is not whole; 75 if it was stopped and can be continued; else a cell's own exit status.

    Raises:
        UserError: For an unknown matrix or cell, a folder that is none, or as the cell's command does.
    """
    if args.action == "compare":
        return comparison_cli.run(args)
    matrix = load_matrix(args.matrix)
    cells = plan(matrix)
    if args.action == "plan":
        if args.figure is not None:
            from implicit_if.harness.replicate.graph import graph

            with atomic_write(args.figure) as file:
                file.write(graph(cells))
        elif args.json:
            print("\n".join(json.dumps(cell.as_dict()) for cell in cells))
        else:
            print(f"{matrix.name}: {matrix.summary}\n\n{plan_table(cells)}")
        return 0
    return _run(args, matrix, cells)


def _run(args: argparse.Namespace, matrix: Matrix, cells: list[Cell]) -> int:
    from implicit_if.harness.replicate.markers import Folder

    if args.data is not None and not args.data.is_dir():
        raise UserError(f"--data {args.data}: no such folder. Expected one with files such as gsm.jsonl.")
    place = Folder((args.out / matrix.name).resolve(), cells, args.data and args.data.resolve())
    launch = Launch(args.matrix, cells, args.out, place)
    if args.action == "status":
        return launch.report()
    if args.action == "clean":
        print("\n".join(f"removed: the model of {name}" for name in place.remove_models()) or "nothing to remove")
        return 0
    if args.action == "run" and args.skypilot:
        from implicit_if.harness.replicate.skypilot import skypilot_yaml

        print(skypilot_yaml(args.matrix, cells, args.accelerators), end="")
        return 0
    if args.action == "run" and args.cell is not None:
        from implicit_if.harness.replicate.cell_run import run_cell

        return run_cell(place, find(cells, args.cell), matrix)
    if args.action == "snakefile":
        from implicit_if.harness.replicate.snakemake import snakefile

        print(snakefile(launch), end="")
        return 0
    if args.sbatch:
        return _submit(launch, shlex.split(args.sbatch_args), args.api)
    installed = importlib.util.find_spec("snakemake") is not None
    if args.engine == "snakemake" and not installed:
        raise UserError(
            "--engine snakemake: it is not installed. Run pip install 'implicit-if[replicate]', or --engine local."
        )
    if args.engine == "local" or not installed:
        if args.engine == "auto":
            print("Snakemake is not installed (the extra `replicate`): one cell after the other", file=sys.stderr)
        return run_in_order(launch)
    from implicit_if.harness.replicate.snakemake import run_snakemake

    gpus = max(1, args.gpus or count_gpus())
    cores = args.cores or len(os.sched_getaffinity(0))
    return run_snakemake(launch, cores, gpus, args.api, shlex.split(args.snakemake_args))


def _submit(launch: Launch, extra: Sequence[str], api: int) -> int:
    from implicit_if.harness.replicate.slurm import write

    if shutil.which("sbatch") is None:
        raise UserError("--sbatch: no sbatch here. Run this on a machine that submits to SLURM.")
    script = write(launch, extra, api)
    print(f"submitting by {script}; `implicit-if replicate status` says what is whole", flush=True)
    status = subprocess.run(["sh", str(script)], check=False).returncode
    if status:
        raise UserError(f"sbatch ended with status {status}; its message stands above. --sbatch-args gives it more.")
    return 0


def plan_table(cells: Sequence[Cell]) -> str:
    """A row a cell, and their sum."""
    from tabulate import tabulate

    heads = ("cell", "after", "GPUs", "hours", "memory GB", "disk GB", "judge calls", "judge USD")
    rows: list[tuple[object, ...]] = []
    for cell in cells:
        after = ", ".join(cell.needs[:2]) + (f" and {len(cell.needs) - 2} more" if len(cell.needs) > 2 else "")
        c = cell.costs
        cost = "unknown" if c.judge_cost is None else f"{c.judge_cost:.2f}"
        rows.append((cell.name, after, cell.gpus, f"{c.hours:.2f}", c.memory_gb, c.disk_gb, c.judge_calls, cost))
    known = [cell.costs.judge_cost for cell in cells]
    total = "unknown" if None in known else f"{sum(cost or 0 for cost in known):.2f}"
    hours = sum(cell.costs.hours for cell in cells)
    gpu_hours = sum(cell.costs.hours * cell.gpus for cell in cells)
    most = max(cell.costs.memory_gb for cell in cells)
    disk, calls = sum(cell.costs.disk_gb for cell in cells), sum(cell.costs.judge_calls for cell in cells)
    rows.append((f"{len(cells)} cells", "", "", f"{hours:.1f}", most, f"{disk:.1f}", calls, total))
    table = tabulate(rows, headers=heads, disable_numparse=True, colalign=("left", "left", *["right"] * 6))
    return f"{table}\n\nGPU-hours: {gpu_hours:.1f}. How these are computed: docs/replicate.md."
