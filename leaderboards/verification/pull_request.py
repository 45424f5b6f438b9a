r"""What CI checks of a pull request that brings submissions. Its files are data here: the code is the base branch's.

git -C DATA diff --name-only -z --no-renames HEAD^1 HEAD \
        | python -m implicit_if.leaderboards.verification.pull_request DATA
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.safe_text import one_line
from implicit_if.leaderboards.submission.read import REFERENCE, REFERENCES
from implicit_if.leaderboards.verification.result import summary
from implicit_if.leaderboards.verification.verify import verify
from implicit_if.leaderboards.verification.verify_all import verify_all

SUBMISSIONS = "leaderboards/submissions/"
MAX_CHANGED = 2_000
_REFERENCE = re.compile(rf"{REFERENCES}/([0-9a-f]{{64}})\.jsonl")


def changed_submissions(names: Sequence[bytes]) -> list[str]:
    """The ids of the submissions that a pull request touches, sorted; it may bring references, too.

    Args:
        names: The changed paths, as git gives them.

    Raises:
        UserError: If it touches anything else, or there are none or too many.
    """
    if not names:  # the check runs where submissions change, so their list did not arrive
        raise UserError("found no changed file on stdin. Expected what `git diff --name-only -z` prints.")
    if len(names) > MAX_CHANGED:
        raise UserError(f"the pull request changes {len(names)} files, expected at most {MAX_CHANGED}. Split it.")
    found = set()
    for name in names:
        text = name.decode("utf-8", "replace")
        parts = text.removeprefix(SUBMISSIONS).split("/")
        if text.startswith(SUBMISSIONS) and _REFERENCE.fullmatch("/".join(parts)):
            continue
        if not text.startswith(SUBMISSIONS) or len(parts) != 3 or "" in parts or ".." in parts:
            raise UserError(
                f"the pull request changes {one_line(text, 150)!r}. Expected files of submissions only, "
                f"{SUBMISSIONS}<org>__<model>/<revision>/...: code and generated tables go into another pull request."
            )
        found.add("/".join(parts[:2]))
    return sorted(found)


def check(root: Path, names: Sequence[bytes]) -> list[str]:
    """Verifies what changed, then everything together.

    Args:
        root: A checkout of the pull request merged into its base.
        names: The changed paths.

    Returns:
        What to print, a block for each submission.

    Raises:
        UserError: If anything is not accepted.
    """
    submissions = root / SUBMISSIONS
    blocks, changed = [], changed_submissions(names)
    for key in changed:
        folder = submissions / key
        if not folder.exists() and not folder.is_symlink():
            blocks.append(f"{one_line(key)}: removed")
            continue
        blocks.append(summary(verify(folder, contributed=True)))
    verified = verify_all(submissions, processes=2, newcomers=changed)
    used = {one.metadata.files.get(REFERENCE) for one in verified}
    for path in (submissions / REFERENCES).glob("*"):
        match = _REFERENCE.fullmatch(f"{REFERENCES}/{path.name}")
        if match is None or match[1] not in used:
            raise UserError(f"{REFERENCES}/{one_line(path.name, 80)}: no submission names it. Leave it out.")
    blocks += [f"{one.id}: {note}" for one in verified for note in one.notes]
    return blocks


def main(arguments: Sequence[str]) -> int:
    """Reads NUL-separated paths from stdin, checks, prints.

    Returns:
        0; 2 if the pull request is not accepted.
    """
    names = [name for name in sys.stdin.buffer.read().split(b"\0") if name]
    try:
        blocks = check(Path(arguments[0]), names)
    except UserError as error:
        print(f"not accepted: {error}", file=sys.stderr)
        return 2
    print("\n".join(blocks))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
