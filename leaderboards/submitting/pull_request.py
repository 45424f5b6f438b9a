"""Opens a submission's pull request with `git` and `gh`, GitHub's command line, under the user's own login.

It knows nothing of tokens: `gh` keeps them, and nothing of its output about them is shown.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.safe_text import one_line
from implicit_if.leaderboards.submission import read

_MAY_PUSH = ("ADMIN", "MAINTAIN", "WRITE")
_FORK = "fork"


@dataclass(frozen=True)
class Checkout:
    """A clone of the repository that pull requests go to.

    Attributes:
        root: Its folder.
        remote: Where the branch is pushed: `origin`, or a fork where the user may not push there.
    """

    root: Path
    remote: str


def check_ready(submissions: Path) -> Checkout:
    """Makes sure, before anything is written, that a pull request can be opened.

    Args:
        submissions: The `submissions/` of a clone; need not be there yet.

    Raises:
        UserError: If `git` or `gh` is missing, `gh` is not logged in, the folder is in no clone, or the clone's branch
            holds commits that its origin does not have, which would come with the submission.
    """
    for program, where in (("git", "https://git-scm.com"), ("gh", "https://cli.github.com")):
        if shutil.which(program) is None:
            raise UserError(
                f"--pr needs the program {program}, which is not installed. Install it ({where}), or leave --pr out "
                f"and open the pull request by hand: docs/submitting.md."
            )
    folder = next(parent for parent in (submissions.absolute(), *submissions.absolute().parents) if parent.is_dir())
    found = _run(["git", "rev-parse", "--show-toplevel"], folder)
    if found.returncode:
        raise UserError(f"--pr: {submissions} is in no git clone. Run it in a clone of the repository, or give --root.")
    root = Path(found.stdout.strip())
    if _run(["gh", "auth", "status"], root).returncode:
        raise UserError("--pr: gh is not logged in. Run: gh auth login")
    ahead = _run(["git", "rev-list", "--count", "origin/HEAD..HEAD"], root)
    if not ahead.returncode and ahead.stdout.strip() != "0":
        raise UserError(
            f"--pr: this branch has {ahead.stdout.strip()} commits that origin does not have, and they would come with "
            f"the submission. Go to the main branch first: git switch main"
        )
    told = _run(["gh", "repo", "view", "--json", "viewerPermission", "--jq", ".viewerPermission"], root)
    if told.returncode:
        raise UserError(f"--pr: gh knows no repository of {root}: {one_line(told.stderr.strip(), 300)}")
    return Checkout(root, "origin" if told.stdout.strip() in _MAY_PUSH else _FORK)


def commands(checkout: Checkout, submission: Path, name: str, reference: str | None) -> list[list[str]]:
    """What opens the pull request, in order.

    Args:
        checkout: See `check_ready`.
        submission: The submission's folder.
        name: The system's name.
        reference: Hash of the file of the reference's answers; None if there is none.
    """
    branch = f"submit-{submission.parent.name}-{submission.name}"
    paths = [str(submission.absolute())]
    shared = submission.absolute().parents[1] / read.REFERENCES / f"{reference}.jsonl"
    if reference is not None and shared.is_file():
        paths.append(str(shared))
    fork = [["gh", "repo", "fork", "--remote", "--remote-name", _FORK]] if checkout.remote == _FORK else []
    title = f"Submit {name}"
    body = "A leaderboard submission, made by `implicit-if submit`. Nothing but its folder is changed."
    return [
        ["git", "switch", "-c", branch],
        ["git", "add", "--", *paths],
        ["git", "commit", "-m", title, "--", *paths],
        *fork,
        ["git", "push", "-u", checkout.remote, branch],
        ["gh", "pr", "create", "--title", title, "--body", body],
    ]


def shown(steps: Sequence[Sequence[str]]) -> str:
    """The commands as they would be typed, a line each."""
    return "\n".join(f"  {shlex.join(step)}" for step in steps)


def open_pull_request(checkout: Checkout, steps: Sequence[Sequence[str]]) -> str:
    """Runs the commands and returns what the last one printed: the pull request's address.

    Raises:
        UserError: If one fails; says which, why, and which are left.
    """
    printed = ""
    for number, step in enumerate(steps):
        done = _run(step, checkout.root)
        if done.returncode:
            raise UserError(
                f"--pr: {shlex.join(step[:3])} failed: {one_line((done.stderr or done.stdout).strip(), 500)}. The "
                f"submission is written; correct that and run the rest yourself:\n{shown(steps[number:])}"
            )
        printed = done.stdout.strip()
    return one_line(printed.splitlines()[-1] if printed else "opened", 300)


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GH_PROMPT_DISABLED": "1", "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
