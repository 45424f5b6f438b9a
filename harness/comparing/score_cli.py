"""`implicit-if score`: the scores of annotations that alpaca-eval wrote or published."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "score alpaca-eval's annotations.json: win rates with intervals, length control, signature"
SECTION = "judge"
EXAMPLES = (
    "implicit-if score annotations.json",
    "implicit-if score annotations.json --length-control alpaca_eval --out scores.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from implicit_if.harness.stats.length_control.estimator_choice import METHODS

    add = parser.add_argument
    add("annotations", type=Path, metavar="FILE", help="annotations.json as alpaca-eval writes and publishes it")
    add("--length-control", choices=METHODS, default="auto", help="see implicit-if judge --help (auto)")
    add("--length-prior", metavar="PRIOR", help="another prior: gpt4-turbo, llm, weak, or --length-prior=MEAN,SD")
    add("--instructions", metavar="SPEC", help="the instruction set, if it is not a known one")
    add(
        "--judge-attempts",
        choices=("embedded", "none"),
        help="who decides which answers are attempts (embedded where it is installed)",
    )
    add("--out", type=Path, metavar="FILE", help="write the scores as JSON")
    add("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Scores, prints and writes the scores.

    Returns:
        0; 1 if a verdict is missing.

    Raises:
        UserError: If the file is not alpaca-eval's annotations, or a length control cannot be applied.
    """
    from implicit_if.harness.comparing.published import missing_rows, read_published
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.instructions.identify import identify_set
    from implicit_if.harness.judging.attempts import choose
    from implicit_if.harness.judging.cli import render, report
    from implicit_if.harness.judging.judged_run import JudgedRun, with_attempts
    from implicit_if.harness.judging.scoring import check_report, show_report, write_report
    from implicit_if.harness.safe_text import one_line
    from implicit_if.harness.stats.length_control.estimator_choice import check_length_control
    from implicit_if.harness.stats.length_control.priors import parse_prior

    check_report(args.out, {"judge", "scores"})
    prior = None if args.length_prior is None else parse_prior(args.length_prior)
    found = read_published(args.annotations)
    ids = [pair.instruction_id for pair in found.pairs]
    given = None if args.instructions is None else load_instructions(args.instructions)
    instruction_set = identify_set(ids, given)
    check_length_control(args.length_control, ids, instruction_set[0], prior)
    first = found.pairs[0]
    names = one_line(first.system.generator), one_line(first.reference.generator)
    judged = JudgedRun(found.pairs, found.judgement, *instruction_set, names[1], args.length_control, prior)
    judged = with_attempts(judged, choose(args.judge_attempts))
    lines = missing_rows(found)
    told = report(judged, *names)
    show_report(told, lambda: "\n".join([render(judged, *names, retry=False), *lines]), args.json)
    if args.out is not None:
        write_report(args.out, told)
    return 1 if lines else 0
