"""`implicit-if rerun`: a maintainer generates a submission's answers again and records whether its win rate holds."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from implicit_if.harness.cli import name_values

HELP = "generate a submission's answers again with lm_eval and record whether its win rate holds (maintainers)"
SECTION = "maintain"
EXAMPLES = (
    "implicit-if rerun leaderboards/submissions/ORG__MODEL/REVISION",
    "implicit-if rerun leaderboards/submissions/ORG__MODEL/REVISION --yes",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("submission", type=Path, metavar="PATH", help="leaderboards/submissions/<org>__<model>/<revision>")
    add("--yes", action="store_true", help="run it; without, the command is printed and nothing is run")
    add("--model-arg", action="append", default=[], metavar="K=V", help="a model argument that wins; may be repeated")
    add("--judge", metavar="SPEC", help="the judge, if its name alone does not build it")
    add("--instructions", metavar="SPEC", help="the instruction set, if it is a file")
    add("--template", metavar="FILE", help="the chat template, if it is a file")
    add("--device", metavar="NAME", help="as for lm_eval")
    add("--batch-size", metavar="N", help="as for lm_eval")
    add("--keep", type=Path, metavar="FOLDER", help="keep the rerun's answers and verdicts there")


def run(args: argparse.Namespace) -> int:
    """Verifies, prints the command, and with `--yes` runs it and writes `rerun.json`.

    Returns:
        0; 1 if the rerun's win rate is outside the submission's interval.

    Raises:
        UserError: If the submission does not verify, asks for anything that is not on the list, or the run fails.
    """
    from implicit_if.harness.errors import UserError
    from implicit_if.leaderboards import rerun
    from implicit_if.leaderboards.verification.verify import verify

    verified = verify(args.submission)
    if verified.badge == "self-reported":
        raise UserError(f"{verified.id}: is self-reported; there are no answers to compare a rerun with.")
    arguments = rerun.check_arguments(
        verified.metadata, name_values(args.model_arg, "--model-arg", "pretrained=org/model")
    )
    asked = {"judge": args.judge, "instructions": args.instructions, "template": args.template}
    options = {"device": args.device, "batch_size": args.batch_size}
    with tempfile.TemporaryDirectory(prefix="implicit-if-rerun-") as temporary:
        folder = Path(args.keep or temporary).resolve()
        task = rerun.task_arguments(verified.metadata, folder, asked)
        line = rerun.command_line(verified.metadata, arguments, task, options)
        print(shlex.join(line), flush=True)
        if not args.yes:
            print("nothing was run; --yes runs it", file=sys.stderr)
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        rerun.write_reference(verified, folder)
        rerun.execute(line)
        result = rerun.compare(verified, folder / "saved")
    again = rerun.record(verified, result)
    print(
        f"{again.id}: {again.badge}; submitted {result.submitted.render()}, rerun {result.win_rate.render()}, "
        f"{result.identical_answers:.0%} of the answers are the same"
    )
    return 0 if result.agrees else 1
