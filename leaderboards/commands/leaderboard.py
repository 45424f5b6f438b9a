"""`implicit-if leaderboard`: rebuilds tables, figures and page from the submissions, or checks that they are fresh."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from implicit_if.harness.cli import positive

HELP = "rebuild the leaderboards' tables, figures and page from leaderboards/submissions, or check them"
SECTION = "maintain"
EXAMPLES = (
    "implicit-if leaderboard",
    "implicit-if leaderboard --check",
)

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `implicit-if leaderboard`."""
    parser.add_argument("--root", type=Path, default=Path("leaderboards"), help="folder with submissions/ in it")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is not up to date")
    parser.add_argument(
        "--processes", type=positive, default=min(os.cpu_count() or 1, 8), metavar="N", help="processes to verify with"
    )


def run(args: argparse.Namespace) -> int:
    """Builds or checks.

    Returns:
        0; 1 if a submission is not accepted, which leaves it out of what is built, or `--check` finds a difference.

    Raises:
        UserError: See `build.build`.
    """
    from implicit_if.leaderboards.boards import build

    built = build.build(args.root, processes=args.processes)
    for warning in dict.fromkeys(w for board in built.boards for w in board.warnings):
        print(f"implicit-if: note: {warning}", file=sys.stderr)
    for problem in built.problems:
        print(f"implicit-if: not accepted: {problem}", file=sys.stderr)
    failed = int(bool(built.problems))
    if args.check:
        return _report_check(args.root, build.differing(args.root, built, processes=args.processes)) or failed
    changed = build.write(args.root, built, processes=args.processes)
    systems = sum(len(board.rows) for board in built.boards)
    print(
        f"{args.root}: {built.n_submissions} submissions, {len(built.boards)} tables, {systems} rows; "
        f"{len(changed)} files changed{_listing(changed)}"
    )
    return failed


def _report_check(root: Path, wrong: list[str]) -> int:
    if not wrong:
        print(f"{root}: everything is up to date")
        return 0
    print(
        f"{root}: not up to date{_listing(wrong)}\nRebuild it: implicit-if leaderboard --root {root}", file=sys.stderr
    )
    return 1


def _listing(paths: list[str]) -> str:
    if not paths:
        return ""
    more = f"\n  and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ":\n  " + "\n  ".join(paths[:_SHOWN]) + more
