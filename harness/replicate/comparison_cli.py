"""`implicit-if replicate compare`: a replication's boards beside the paper's numbers."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's arguments."""
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="leaderboard.json, or the folder with it, e.g. MATRIX/tables")
    add("--cards", type=Path, default=Path("docs/judges"), metavar="DIR", help="judge cards, for measured agreement")
    add("--out", type=Path, metavar="FILE", help="write the Markdown there instead of printing")


def run(args: argparse.Namespace) -> int:
    """Compares, and prints or writes Markdown.

    Raises:
        UserError: If there are no boards.
    """
    from implicit_if.harness.replicate.comparison import compare_with_paper, judge_agreement, read_results, render
    from implicit_if.harness.storage import check_writable, print_or_write

    if args.out is not None:
        check_writable(args.out)
    comparison = compare_with_paper(read_results(args.results))
    judges = dict.fromkeys(row.result.score.settings.judge for row in comparison.rows)
    text = render(comparison, [line for judge in judges for line in judge_agreement(judge, args.cards)])
    print_or_write(text, args.out)
    return 0
