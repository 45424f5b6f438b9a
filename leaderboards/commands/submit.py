"""`implicit-if submit`: makes a submission's folder from what lm_eval or `implicit-if judge` left behind."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from implicit_if.harness.cli import json_or_text, name_values
from implicit_if.harness.controls import CONTROLS
from implicit_if.harness.system_kinds import SYSTEM_KINDS

HELP = "make a leaderboard submission from lm_eval's results, a save= folder or judged outputs"
SECTION = "publish"
EXAMPLES = (
    "implicit-if submit out --name my-org/my-model --licence CC-BY-4.0 --system base",
    "implicit-if submit outputs.json --reference reference.json --name my-org/my-model --licence CC-BY-4.0",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "source",
        type=Path,
        metavar="SOURCE",
        help="lm_eval's --output_path or results_*.json, save= folder, or outputs",
    )
    add("--name", required=True, metavar="ORG/MODEL", help="the system's name on the board")
    add("--licence", required=True, metavar="SPDX", help="licence of the answers, e.g. CC-BY-4.0")
    add("--revision", metavar="R", help="the system's revision (its commit, else a hash over the answers)")
    add(
        "--root",
        type=Path,
        default=Path("leaderboards/submissions"),
        metavar="DIR",
        help="submissions/ of the checkout",
    )
    _system_arguments(parser)
    files = parser.add_argument_group("files")
    files.add_argument("--reference", type=Path, metavar="FILE", help="outputs judged against, if SOURCE is a file")
    files.add_argument("--annotations", type=Path, metavar="FILE", help="the verdicts, if they are elsewhere")
    files.add_argument("--judge", metavar="NAME", help="which judge's verdicts, if the file holds several")
    files.add_argument(
        "--judge-attempts", metavar="NAME", help="which judge's verdicts on attempts, if there are several"
    )
    files.add_argument("--instructions", metavar="SPEC", help="the instruction set, for outputs that hold no texts")
    files.add_argument("--texts", action="store_true", help="ship instruction texts too: only if you may")
    files.add_argument("--template", metavar="NAME", help="the chat template, if it is not recorded")
    rest = parser.add_argument_group("the rest")
    rest.add_argument("--run-model", metavar="CLASS", help="lm_eval's model class, if it is not recorded")
    rest.add_argument("--run-arg", action="append", default=[], metavar="K=V", help="an argument for reruns")
    rest.add_argument("--contact", metavar="TEXT", help="how to reach you, if you want to be reached")
    rest.add_argument("--link", action="append", metavar="URL", help="paper, code, weights; may be repeated")
    rest.add_argument("--replace", action="store_true", help="replace a submission of the same name and revision")
    rest.add_argument("--pr", action="store_true", help="commit it on a branch and open the pull request through gh")
    rest.add_argument("--scores-only", action="store_true", help="leave out answers and verdicts (self-reported)")


def run(args: argparse.Namespace) -> int:
    """Writes the submission, verified, and prints what to do next.

    Raises:
        UserError: Names the option for whatever is missing.
        SubmissionError: If the submission would not verify.
    """
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.leaderboards.submission.read import REFERENCE
    from implicit_if.leaderboards.submitting import metadata, pull_request
    from implicit_if.leaderboards.submitting.sources import find_annotations, find_attempts, read_source
    from implicit_if.leaderboards.submitting.write import write_submission
    from implicit_if.leaderboards.verification.result import summary
    from implicit_if.leaderboards.verification.verify import verify

    checkout = pull_request.check_ready(args.root) if args.pr else None
    source = read_source(args.source, args.reference, args.annotations)
    instructions = load_instructions(args.instructions) if args.instructions else None
    system, reference = metadata.align(source, instructions)
    annotations = find_annotations(source.stores, system, reference, args.judge or source.judge)
    builtin = load_instructions("builtin").texts()
    shipped = args.texts or all(output.instruction_id in builtin for output in system)
    attempts = find_attempts(source, system, args.judge_attempts, shipped)
    run_arguments = name_values(args.run_arg, "--run-arg", "pretrained=org/model")
    given = {**vars(args), "run_arg": {k: _value(v) for k, v in run_arguments.items()}}
    draft = metadata.draft(source, system, reference, annotations, given)
    folder = write_submission(
        args.root,
        draft.metadata,
        system,
        reference,
        annotations,
        attempts=attempts,
        self_reported=args.scores_only,
        replace=args.replace,
    )
    for note in draft.notes:
        print(f"implicit-if: note: {note}", file=sys.stderr)
    verified = verify(folder)
    print(summary(verified))
    print(f"\nwritten: {folder}\nRead {folder / 'metadata.yaml'}: all of it becomes public.")
    if checkout is not None:
        told = None if args.scores_only else verified.metadata.files.get(REFERENCE)
        steps = pull_request.commands(checkout, folder, args.name, told)
        print(f"opening a pull request with gh, in {checkout.root}:\n{pull_request.shown(steps)}", flush=True)
        print(pull_request.open_pull_request(checkout, steps))
        return 0
    print(
        f"Then check it again and open a pull request, as --pr does where gh is installed:\n"
        f"  implicit-if verify {folder}\n"
        f"  git checkout -b submit-{folder.parent.name} && git add {folder} && git commit -m 'Submit {args.name}'\n"
        f"The tables are rebuilt by the maintainers; see docs/submitting.md."
    )
    return 0


def _system_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what SOURCE does not say about the system").add_argument
    add("--system", choices=tuple(SYSTEM_KINDS), help="what was done to the base model")
    add("--task", metavar="NAME", help="the task of a single_task system, e.g. gsm")
    add("--preset", metavar="NAME", help="the rules' preset")
    add("--without", action="append", metavar="RULE", help="a rule that was left out; may be repeated")
    add("--only", action="append", metavar="RULE", help="a rule that alone was kept; may be repeated")
    add("--control", choices=tuple(CONTROLS), help="which control")
    add("--seed", type=int, metavar="N", help="seed of the tuning")
    add("--description", metavar="TEXT", help="one line about it")
    add("--base-model", metavar="NAME", help="the pretrained model, e.g. meta-llama/Llama-2-7b-hf")
    add("--base-revision", metavar="R", help="its revision")
    add("--base-licence", metavar="SPDX", help="its licence")
    add("--recipe", metavar="NAME", help="the tuning recipe")
    add("--data", action="append", metavar="NAME[=LICENCE[,URL]]", help="a data set it was tuned on; may be repeated")


def _value(text: str) -> object:
    """A number, true or false as such, everything else as text."""
    value = json_or_text(text)
    return value if isinstance(value, int | float) else text
