"""`implicit-if attempts`: how many of a system's answers try to do what they are asked; no reference is needed."""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.harness.cli import dollars, positive
from implicit_if.harness.judging.system_answers import HELP_OUTPUTS, load_system

HELP = "print the share of answers that attempt their instructions, without a reference"
SECTION = "judge"
EXAMPLES = (
    "implicit-if attempts gemma-3-270m/instruction",
    "implicit-if attempts outputs.json --instructions builtin --out attempts.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("outputs", type=Path, metavar="OUTPUTS", help=HELP_OUTPUTS)
    add("--judge", default="embedded", metavar="NAME", help="embedded, openai:MODEL or anthropic:MODEL (embedded)")
    add("--option", action="append", default=[], metavar="K=V", help="an option of the judge; may be repeated")
    add("--instructions", metavar="SPEC", help="the instruction set, for outputs that hold no texts")
    add("--annotations", type=Path, metavar="FILE", help="verdicts, kept and reused (OUTPUTS' stem.attempts.jsonl)")
    add("--limit", type=positive, metavar="N", help="the first N outputs only")
    add("--out", type=Path, metavar="FILE", help="write the score and every answer's probability as JSON")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--max-cost", type=dollars, metavar="USD", help="stop a paid judge before it costs more; verdicts are kept")
    add("--dry-run", action="store_true", help="print calls and estimated cost; judge and write nothing")


def run(args: argparse.Namespace) -> int:
    """Judges, prints the attempt rate and writes it.

    Returns:
        0; 1 if a verdict is missing.

    Raises:
        UserError: On wrong arguments or files, a permanent fault of the judge, or the cost limit.
    """
    from implicit_if.harness.answer_settings import AnswerSettings
    from implicit_if.harness.columns import ATTEMPTS
    from implicit_if.harness.errors import UserError
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.instructions.identify import identify_set
    from implicit_if.harness.judging.attempts import EMBEDDED, NONE, choose, single_answers
    from implicit_if.harness.judging.cli import cost_of_attempts, missing_verdicts, parse_options
    from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE, decide
    from implicit_if.harness.judging.scoring import check_report, read_with, show_report, write_report

    check_report(args.out, {"judge", ATTEMPTS})
    given = None if args.instructions is None else load_instructions(args.instructions)
    system = load_system(args.outputs, given)
    outputs, given = system.outputs[: args.limit], system.instructions
    answers = single_answers(outputs, given.texts() if given is not None else {})
    if args.judge == NONE:
        raise UserError("--judge none: found no judge. Expected e.g. embedded or openai:MODEL.")
    judge = choose(args.judge, parse_options(args.option), dry_run=args.dry_run)
    assert judge is not None, "a judge was named"
    store = args.annotations or system.beside(ATTEMPTS_FILE)
    attempts = decide(answers, judge, store, max_cost=args.max_cost, dry_run=args.dry_run)
    if args.dry_run:
        return 0
    told = AnswerSettings.of_meta(system.meta)
    judgement = attempts.judgement
    score = attempts.score(*identify_set(set(judgement.instruction_ids), given, args.outputs), told)
    lines = [f"{system.name}: attempt rate {score.render()}", f"signature: {score.signature}"]
    lines += cost_of_attempts([judgement]) + missing_verdicts(judgement.unjudged)
    found = zip(judgement.instruction_ids, attempts.probabilities, strict=True)
    report = {
        "judge": {"name": judgement.judge, "fingerprint": judgement.fingerprint},
        ATTEMPTS: score.model_dump(),
        "answers": [{"instruction_id": key, "probability": probability} for key, probability in found],
    }
    if args.judge == EMBEDDED and args.limit is None:
        more = () if args.instructions is None else ("--instructions", args.instructions)
        lines.append(read_with(args.outputs, *more))
    show_report(report, lambda: "\n".join(lines), args.json)
    if args.out is not None:
        write_report(args.out, report)
    return 0 if judgement.complete else 1
