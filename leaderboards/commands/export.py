"""`implicit-if export`: verified submissions in the forms other tools read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "write a submission for a model's repo on the hub, Every Eval Ever or alpaca-eval"
SECTION = "publish"
EXAMPLES = (
    "implicit-if export leaderboards/submissions/ORG__MODEL/REVISION --format model-index",
    "implicit-if export leaderboards/submissions/ORG__MODEL/REVISION --format hf-eval-results --dataset ORG/DATA",
)

FORMATS = ("model-index", "hf-eval-results", "every-eval-ever", "alpaca-eval")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("paths", type=Path, nargs="+", metavar="PATH", help="submissions; several for alpaca-eval only")
    add("--format", required=True, choices=FORMATS, help="what to write")
    add("--dataset", metavar="ORG/NAME", help="hf-eval-results: the hub's data set (AlpacaEval's for its instructions)")
    add("--task-id", metavar="ID", help="hf-eval-results: the task by the data set's eval.yaml (the metric's name)")
    add("--timestamp", type=int, metavar="SECONDS", help="time since 1970 that an every-eval-ever record must hold")
    add("--out", type=Path, metavar="FILE", help="write there instead of printing")


def run(args: argparse.Namespace) -> int:
    """Verifies and exports.

    Raises:
        UserError: If a submission does not verify, or does not fit the format.
    """
    from implicit_if.harness.errors import UserError
    from implicit_if.harness.storage import atomic_write
    from implicit_if.leaderboards import exports
    from implicit_if.leaderboards.verification.verify import verify

    submissions = [verify(path) for path in args.paths]
    if args.format == "alpaca-eval":
        data = exports.alpaca_eval_csv(submissions)
    elif len(submissions) > 1:
        raise UserError(f"--format {args.format}: found {len(submissions)} submissions, expected one.")
    elif args.format == "model-index":
        data = exports.model_index(submissions[0])
    elif args.format == "hf-eval-results":
        data = exports.hub_eval_results(submissions[0], args.dataset, args.task_id)
    elif args.timestamp is None:
        raise UserError("--format every-eval-ever: the record needs its time. Give --timestamp $(date +%s).")
    else:
        data = exports.every_eval_ever(submissions[0], args.timestamp)
    if args.out is None:
        sys.stdout.write(data.decode("utf-8"))
    else:
        with atomic_write(args.out, "wb") as file:
            file.write(data)
    return 0
