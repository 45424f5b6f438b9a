"""`implicit-if table`: the scores of any runs as one table for a paper, in LaTeX, Markdown or CSV."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from implicit_if.leaderboards.runs.run import Run
    from implicit_if.leaderboards.runs.table import Table

HELP = "the scores of any runs as a table for a paper: LaTeX, Markdown or CSV"
SECTION = "publish"
EXAMPLES = (
    "implicit-if table leaderboards/submissions/ORG__MODEL --format markdown",
    "implicit-if table base=out/base rules=out/rules --format latex --out table.tex",
    "implicit-if table response=s1,s2,s3 --format csv --columns attempt_rate,win_rate",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--format", choices=("latex", "markdown", "csv"), default="markdown", help="(markdown)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which runs, how they are read, and which columns are wanted."""
    add_reading_arguments(parser)
    columns = "the columns, e.g. attempt_rate,win_rate,lc,avg_length,n (all)"
    parser.add_argument("--columns", metavar="NAME,...", help=columns)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which runs, and how they are read."""
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN[,RUN...]",
        help="a submission or a folder of them, lm_eval's --output_path or results_*.json, a save= folder, a folder "
        "of implicit-if ablate, outputs with annotations beside them, alpaca-eval's annotations.json, or a named "
        "reference; several RUNs under one NAME are seeds",
    )
    add("--reference", metavar="SPEC", help="a named reference or outputs: what files of outputs were judged against")
    add("--judge", metavar="NAME", help="which judge's verdicts, where files hold several")
    add(
        "--judge-attempts",
        choices=("embedded", "none"),
        help="judge of attempts, for answers without a verdict on them",
    )
    add("--instructions", metavar="SPEC", help="the instruction set, for answers that hold no texts (builtin)")


def run(args: argparse.Namespace) -> int:
    """Reads the runs and prints or writes the table.

    Raises:
        UserError: If a run cannot be read, or numbers may not share a table.
    """
    from implicit_if.harness.storage import check_writable, print_or_write
    from implicit_if.leaderboards.runs.table import render

    if args.out is not None:
        check_writable(args.out)
    print_or_write(render(table_of(args), args.format), args.out)
    return 0


def table_of(args: argparse.Namespace) -> Table:
    """The table that the arguments ask for.

    Raises:
        UserError: As of `run`.
    """
    from implicit_if.leaderboards.runs.table import make_table

    return make_table(read_runs(args), args.columns.split(",") if args.columns else ())


def read_runs(args: argparse.Namespace) -> list[tuple[str | None, list[Run]]]:
    """The runs that the arguments name: a name, if one was given, and the runs of its seeds.

    Raises:
        UserError: If a run cannot be read.
    """
    from implicit_if.harness.errors import UserError
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.judging.attempts import choose
    from implicit_if.leaderboards.runs.loading import load_runs
    from implicit_if.leaderboards.runs.run import Reading

    instructions = None if args.instructions is None else load_instructions(args.instructions)
    reading = Reading(args.reference, args.judge, choose(args.judge_attempts), instructions)
    systems: list[tuple[str | None, list[Run]]] = []
    for spec in args.runs:
        name, equals, rest = spec.partition("=")
        if not equals or Path(spec).exists():
            systems += [(None, [run]) for run in load_runs(spec, reading)]
            continue
        runs = [load_runs(part, reading) for part in rest.split(",")]
        if any(len(found) != 1 for found in runs) or not name:
            raise UserError(f"{spec!r}: expected NAME=RUN, or NAME=RUN,RUN for seeds, each of one system.")
        systems.append((name, [found[0] for found in runs]))
    return systems
