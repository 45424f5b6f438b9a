"""`implicit-if figure`: the scores of any runs as one figure for a paper, as SVG, PNG or PDF."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.leaderboards.commands.table import add_run_arguments, table_of

HELP = "the scores of any runs as a figure for a paper: SVG, PNG or PDF"
SECTION = "publish"
EXAMPLES = (
    "implicit-if figure leaderboards/submissions/ORG__MODEL --out systems.svg",
    "implicit-if figure base=out/base rules=out/rules --columns attempt_rate,win_rate --out systems.pdf",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="FILE.svg, FILE.png or FILE.pdf")


def run(args: argparse.Namespace) -> int:
    """Reads the runs and writes the figure.

    Raises:
        UserError: If a run cannot be read, numbers may not share a figure, or the file's ending is another.
    """
    from implicit_if.harness.storage import check_writable
    from implicit_if.leaderboards.runs.figure import check_ending, draw, write

    check_ending(args.out)
    check_writable(args.out)
    write(draw(table_of(args)), args.out)
    print(f"written: {args.out}")
    return 0
