"""`implicit-if verify`: recomputes submissions' numbers from their answers and verdicts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.storage import write_json

if TYPE_CHECKING:
    from implicit_if.leaderboards.verification.result import Verified

HELP = "recompute a submission's numbers from its answers and verdicts, and check everything else about it"
SECTION = "publish"
EXAMPLES = (
    "implicit-if verify leaderboards/submissions/ORG__MODEL/REVISION",
    "implicit-if verify leaderboards/submissions",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="submissions: <org>__<model>/<revision>, a model's folder of them, or submissions/",
    )
    add("--contributed", action="store_true", help="as a pull request may bring it: without a maintainer's rerun.json")
    add(
        "--rejudge",
        action="store_true",
        help="say that an offline judge judged again",
    )
    add(
        "--instructions",
        metavar="SPEC",
        help="with --rejudge: the set, where its texts are not shipped",
    )
    add("--json", action="store_true", help="print JSON instead of lines")
    add("--update", action="store_true", help="write metadata and scores again as this version does (maintainers)")


def run(args: argparse.Namespace) -> int:
    """Verifies and prints a summary of each.

    Raises:
        SubmissionError: Lists what is wrong.
    """
    from implicit_if.leaderboards.submitting.write import update
    from implicit_if.leaderboards.verification import rejudge
    from implicit_if.leaderboards.verification.result import summary
    from implicit_if.leaderboards.verification.verify import verify
    from implicit_if.leaderboards.verification.verify_all import submission_folders, verify_all

    found = []
    for path in args.paths:
        together = _is_root(path)
        folders = list(submission_folders(path).values()) if together else _revisions(path)
        for folder in folders:
            if args.update:
                for line in update(folder):
                    print(f"changed: {folder.parent.name}/{folder.name}: {line}")
            if not together or args.contributed or args.rejudge:
                verified = verify(folder, contributed=args.contributed)
                again = rejudge.rejudge(verified, args.instructions) if args.rejudge else None
                found.append(_as_dict(verified) | ({} if again is None else {"rejudged": again}))
                if not args.json:
                    print("\n".join(filter(None, (summary(verified), again))))
        if together:
            for verified in verify_all(path, processes=os.cpu_count() or 1):
                found.append(_as_dict(verified))
                if not args.json:
                    print(summary(verified))
    if args.json:
        write_json("-", found)
    return 0


def _as_dict(verified: Verified) -> dict[str, Any]:
    return {
        "id": verified.id,
        "badge": verified.badge,
        "scores": {name: score.model_dump() for name, score in sorted(verified.scores.items())},
        "notes": list(verified.notes),
    }


def _is_root(path: Path) -> bool:
    """Whether a path is a folder of submissions rather than one."""
    from implicit_if.leaderboards.submission.read import METADATA

    if not path.is_dir() or (path / METADATA).exists():
        return False
    return path.name == "submissions" or any((path / name).is_dir() and "__" in name for name in os.listdir(path))


def _revisions(path: Path) -> list[Path]:
    """The submissions in a model's folder; the path itself where it is none."""
    from implicit_if.leaderboards.submission.read import METADATA

    if not path.is_dir() or (path / METADATA).exists():
        return [path]
    return sorted(folder for folder in path.iterdir() if (folder / METADATA).is_file()) or [path]
