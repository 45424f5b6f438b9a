"""`implicit-if audit-verdicts`: a maintainer has a random sample of a submission's pairs judged again."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.harness.cli import dollars, positive

HELP = "judge a random sample of a submission's pairs again and record whether its verdicts hold (maintainers)"
SECTION = "maintain"
EXAMPLES = ("implicit-if audit-verdicts leaderboards/submissions/ORG__MODEL/REVISION --seed 4711",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("submission", type=Path, metavar="PATH", help="leaderboards/submissions/<org>__<model>/<revision>")
    add("--seed", type=int, required=True, metavar="N", help="of the sample; choose it after the files are fixed")
    add("--sample", type=positive, default=60, metavar="N", help="pairs to judge again, each twice (60)")
    add("--judge", metavar="SPEC", help="the judge, if its name alone does not build it")
    add("--instructions", metavar="SPEC", help="the instruction set, if its texts are not at hand")
    add("--max-cost", type=dollars, metavar="USD", help="what each of the two rounds may cost")


def run(args: argparse.Namespace) -> int:
    """Verifies, judges the sample, writes `audit.json` and prints the badge.

    Returns:
        0; 1 if more verdicts are off than the judge itself changes its mind on.

    Raises:
        UserError: If the submission does not verify, or cannot be judged again.
    """
    from implicit_if.harness.errors import UserError
    from implicit_if.harness.judging.registry import get_judge
    from implicit_if.harness.safe_text import one_line
    from implicit_if.leaderboards.verification.checks import built_by_name
    from implicit_if.leaderboards.verification.rejudge import audit
    from implicit_if.leaderboards.verification.verify import verify

    verified = verify(args.submission)
    name = verified.metadata.judge.name
    if args.judge is None and not built_by_name(name):
        raise UserError(f"judge {one_line(name, 60)!r}: not one that is built by name; give --judge SPEC")
    judge = get_judge(args.judge or name)
    found = audit(verified, judge, args.sample, args.seed, args.instructions, args.max_cost)
    print(
        f"{verified.id}: {verify(args.submission).badge}; {found.off} verdicts are off in {found.n} of "
        f"{found.n_expected} pairs, the judge itself changed {found.changing}"
    )
    return 0 if found.agrees else 1
