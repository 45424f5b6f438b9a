"""`implicit-if judge`: judges stored outputs against a reference's, on any machine, without the models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.cli import dollars, json_or_text, name_values, positive
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.identify import identify_set, system_name
from implicit_if.harness.judging.attempts import EMBEDDED, choose
from implicit_if.harness.judging.cost_limit import show_dollars
from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE, JudgedRun, default_store, judge_pairs
from implicit_if.harness.judging.judgement import Judgement, Unjudged
from implicit_if.harness.judging.pairs import Pair, make_pairs, unanswered
from implicit_if.harness.judging.registry import check_judge_spec, get_judge, known_judges
from implicit_if.harness.judging.scoring import check_report, read_with, show_report, write_report
from implicit_if.harness.judging.sheets.export import SHEET, export_sheet, sheet_exists
from implicit_if.harness.judging.system_answers import HELP_OUTPUTS, load_system
from implicit_if.harness.outputs import join_instructions
from implicit_if.harness.references import stored_answers
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.side_by_side import side_by_side
from implicit_if.harness.stats.length_control.estimator_choice import METHODS, check_length_control
from implicit_if.harness.stats.length_control.priors import parse_prior

if TYPE_CHECKING:
    from implicit_if.harness.instructions import InstructionSet

HELP = "judge stored outputs against a reference's and print win rates"
SECTION = "judge"
EXAMPLES = (
    "implicit-if judge outputs.json --reference gemma-3-270m/instruction --judge embedded",
    "implicit-if judge outputs.json --reference reference.json --judge openai:gpt-4.1-mini --dry-run",
    "implicit-if judge outputs.json --reference reference.json --judge openai:MODEL --option base_url=http://localhost:8000/v1",
    "implicit-if judge outputs.json --reference reference.json --judge sheet --sheet rating",
)

SHEET_JUDGES = ("sheet", "human")
"""Judges that read a sheet, and write it with `--sheet`; the second name is the first one's earlier one."""

_SHOWN_ERRORS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("outputs", type=Path, metavar="OUTPUTS", help=HELP_OUTPUTS)
    add(
        "--reference",
        required=True,
        metavar="OUTPUTS",
        help="the outputs they are judged against, or a named reference, e.g. gemma-3-270m/instruction-full-s1",
    )
    add(
        "--judge",
        default="embedded",
        metavar="NAME",
        help=f"a judge, NAME or NAME:ARGUMENT ({', '.join(known_judges())}), or a YAML (embedded)",
    )
    add("--option", action="append", default=[], metavar="K=V", help="an option of the judge; may be repeated")
    add(
        "--judge-attempts",
        metavar="NAME",
        help="judge of attempts, which needs no reference: embedded, openai:MODEL, anthropic:MODEL, or none "
        "(embedded where it is installed)",
    )
    add("--attempts-option", action="append", default=[], metavar="K=V", help="an option of it; may be repeated")
    add("--annotations", type=Path, metavar="FILE", help="verdicts, kept and reused (OUTPUTS' stem.annotations.jsonl)")
    add("--instructions", metavar="SPEC", help="the instruction set, for outputs that hold no texts")
    add("--out", type=Path, metavar="FILE", help="write the scores as JSON")
    add("--limit", type=positive, metavar="N", help="judge the first N outputs only")
    add("--allow-missing", action="store_true", help="the reference may answer more instructions than OUTPUTS")
    add(
        "--length-control",
        choices=METHODS,
        default="auto",
        help="auto: alpaca-eval's own for language models' verdicts on AlpacaEval if its hub file is cached, else ours",
    )
    add(
        "--length-prior",
        metavar="PRIOR",
        help="another prior for ours: gpt4-turbo, llm or weak; numbers as --length-prior=MEAN,SD",
    )
    add("--sheet", type=Path, metavar="FOLDER", help="with --judge sheet: write the sheet there, or read it back")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--show", type=positive, metavar="N", help="also print the N pairs with the clearest verdicts, side by side")
    add("--max-cost", type=dollars, metavar="USD", help="stop a paid judge before it costs more; verdicts are kept")
    add("--dry-run", action="store_true", help="print calls and estimated cost; judge and write nothing")


def run(args: argparse.Namespace) -> int:
    """Judges, prints the scores and writes them.

    Returns:
        0, also after writing a sheet; 1 if a verdict is missing.

    Raises:
        UserError: On wrong arguments or files, a permanent fault of the judge, or the cost limit.
    """
    spec = judge_spec(args)
    check_judge_spec(spec)
    check_report(args.out, {"judge", "scores"})
    prior = None if args.length_prior is None else parse_prior(args.length_prior)
    options = parse_options(args.option)
    given = _load_set(args.instructions)
    answers = load_system(args.outputs, given)
    system = answers.outputs[: args.limit]
    reference = stored_answers(args.reference, {output.instruction_id: output.instruction for output in system})
    if given is not None:
        reference = join_instructions(reference, given.texts())
    names = answers.name, system_name(reference, Path(args.reference))
    pairs = make_pairs(system, reference, allow_missing=args.allow_missing or args.limit is not None)
    if args.allow_missing and (note := unanswered(system, reference)):
        print(f"implicit-if: note: {note}", file=sys.stderr)
    instruction_set = identify_set({pair.instruction_id for pair in pairs}, given, args.outputs)
    check_length_control(args.length_control, [pair.instruction_id for pair in pairs], instruction_set[0], prior)
    if args.sheet is not None and not sheet_exists(args.sheet):
        n = sum(pair.system.output != pair.reference.output for pair in pairs)
        print(f"a sheet of {n} rows would be in {args.sheet}" if args.dry_run else write_sheet(pairs, args.sheet))
        return 0
    judge = get_judge(spec, dry_run=args.dry_run, **options)
    attempts = choose(
        args.judge_attempts, parse_options(args.attempts_option, "--attempts-option"), dry_run=args.dry_run
    )
    store = args.annotations or answers.beside("annotations.jsonl") or default_store(judge)
    judged = judge_pairs(
        pairs,
        judge,
        store,
        *instruction_set,
        reference_name=names[1],
        method=args.length_control,
        prior=prior,
        answers=AnswerSettings.of_meta(answers.meta),
        n_expected=len(reference) if args.allow_missing else None,
        attempts=attempts,
        attempts_store=answers.beside(ATTEMPTS_FILE),
        max_cost=args.max_cost,
        dry_run=args.dry_run,
    )
    if args.dry_run:
        return 0
    told = report(judged, *names)
    show_report(told, lambda: render(judged, *names), args.json)
    if args.show is not None and not args.json:
        print(render_pairs(judged, *names, args.show))
    if answers.path is not None and args.annotations is None and args.limit is None and not args.json:
        print(read_with(args.outputs, *_to_read(args, judge.name)))
    if args.out is not None:
        write_report(args.out, told)
    return 0 if judged.complete else 1


def _to_read(args: argparse.Namespace, judge: str) -> list[str]:
    """The options by which `implicit-if view` finds what was judged."""
    told = ["--reference", str(args.reference)]
    told += [] if args.instructions is None else ["--instructions", str(args.instructions)]
    return told + ([] if args.judge == EMBEDDED else ["--judge", judge])


def render_pairs(run: JudgedRun, system: str, reference: str, count: int) -> str:
    """The pairs with the clearest verdicts, side by side, each answer with its preference."""
    found = [
        (pair, verdict.preference)
        for pair, verdict in zip(run.pairs, run.judgement, strict=True)
        if verdict.preference is not None
    ]
    found.sort(key=lambda one: (-abs(one[1] - 0.5), one[0].instruction_id))
    return "\n\n".join(
        side_by_side(
            pair.instruction,
            [
                (f"{system}: {preference:.2f}", pair.system.output),
                (f"{reference}: {1 - preference:.2f}", pair.reference.output),
            ],
        )
        for pair, preference in found[:count]
    )


def parse_options(pairs: Sequence[str], flag: str = "--option") -> dict[str, Any]:
    """`NAME=VALUE` texts as a judge's options; values that are JSON are taken as such.

    A name may have the prefix that it has in lm_eval's `--metadata`: `judge_base_url` for `base_url`.
    """
    prefix = "judge_" if flag == "--option" else "judge_attempts_"
    plain = [pair.removeprefix(prefix) for pair in pairs]
    return {name: json_or_text(value) for name, value in name_values(plain, flag, "temperature=0").items()}


def render(run: JudgedRun, system: str, reference: str, *, retry: bool = True) -> str:
    """The table people read, the signatures, and what is missing, which may be asked again (`retry`) or not."""
    from tabulate import tabulate

    judgement, scores, control = run.judgement, run.scores, run.control
    rows = [(metric.replace("_", " "), score.render()) for metric, score in scores.items()]
    if run.reference_attempt_rate is not None:
        rows.insert(1, ("attempt rate of the reference", run.reference_attempt_rate.render()))
    level = next((s.interval.level for s in scores.values() if s.interval is not None), None)
    head = "score" if level is None else f"score, {level:.0%} interval"
    lines = [
        f"{system} against {reference}, judged by {one_line(judgement.judge)}",
        tabulate(rows, headers=["metric", head], disable_numparse=True),
        f"judged: {judgement.n_judged} of {judgement.n_expected}",
        control.render(),
        *(f"signature: {signature}" for signature in dict.fromkeys(s.signature for s in scores.values())),
    ]
    if judgement.cost or judgement.spent:
        verdicts = show_dollars(judgement.cost or 0.0)
        lines.append(f"cost: {verdicts} for these verdicts; this run spent {show_dollars(judgement.spent)}")
    if run.attempts is not None:
        lines += cost_of_attempts([part.judgement for part in (run.attempts, run.reference_attempts) if part])
    unjudged = [one for each in run.judgements for one in each.unjudged]
    return "\n".join(lines + missing_verdicts(unjudged, retry=retry))


def cost_of_attempts(judgements: Sequence[Judgement]) -> list[str]:
    """What verdicts on attempts cost, if anything."""
    cost = sum(judgement.cost or 0.0 for judgement in judgements)
    return [f"cost: {show_dollars(cost)} for the verdicts on attempts"] if cost else []


def missing_verdicts(unjudged: Sequence[Unjudged], *, retry: bool = True) -> list[str]:
    """The first missing verdicts with their reasons, and how many there are; a line each."""
    lines = [f"not judged: {one_line(u.instruction_id)} ({u.order}): {one_line(u.error, 1_000)}" for u in unjudged]
    lines = lines[:_SHOWN_ERRORS]
    if retry and unjudged:
        lines.append(f"{len(unjudged)} verdicts are missing; run the same command again to retry them.")
    return lines


def report(run: JudgedRun, system: str, reference: str) -> dict[str, Any]:
    """What `--out` writes; the same verdicts give the same bytes."""
    judgement, scores, control = run.judgement, run.scores, run.control
    return {
        "system": system,
        "reference": reference,
        "judge": {"name": judgement.judge, "fingerprint": judgement.fingerprint},
        "scores": {metric: score.model_dump() for metric, score in scores.items()},
        "length_control": control.as_dict(),
        "unjudged": [{**u._asdict(), "error": one_line(u.error, 1_000)} for u in judgement.unjudged],
        "attempts": None if run.attempts is None else _attempts_report(run),
        "cost": judgement.cost,
        "latency": None if judgement.latency is None else judgement.latency._asdict(),
    }


def _attempts_report(run: JudgedRun) -> dict[str, Any]:
    assert run.attempts is not None
    judgement, rate = run.attempts.judgement, run.reference_attempt_rate
    return {
        "judge": {"name": judgement.judge, "fingerprint": judgement.fingerprint},
        "reference_attempt_rate": None if rate is None else rate.model_dump(),
        "unjudged": [u._asdict() | {"error": one_line(u.error, 1_000)} for j in run.judgements[1:] for u in j.unjudged],
    }


def judge_spec(args: argparse.Namespace) -> str:
    """The judge; with `--sheet`, that sheet.

    Raises:
        UserError: If raters are to judge without a sheet, or a sheet is given with another judge.
    """
    if args.sheet is None and args.judge not in SHEET_JUDGES:
        return str(args.judge)
    if args.sheet is None:
        raise UserError(
            f"judge {args.judge!r}: found no sheet. Expected --sheet FOLDER, where it is written and read back, or "
            f"--judge {args.judge}:FILE."
        )
    if args.judge not in SHEET_JUDGES:
        raise UserError(f"--sheet {args.sheet}: found --judge {args.judge}. Sheets are for raters: --judge sheet.")
    return f"{args.judge}:{args.sheet}"


def write_sheet(pairs: Sequence[Pair], folder: Path) -> str:
    """Writes the sheet of the pairs, and says what to do with it."""
    comparisons = (p.comparison(p.instruction_id, "none") for p in pairs)
    rows = export_sheet(comparisons, folder / SHEET, seed=0)
    page = (folder / SHEET).with_suffix(".html")
    return (
        f"{rows} rows are in {folder / SHEET} (column verdict: 1, 2 or tie), {page} (a page for the browser) and "
        f"{page.with_suffix('.jsonl').name} (for programs). Fill in one of them; what the page saves goes into "
        f"{folder}. Then run the same command again, with --option rater=NAME and --option kind=person, "
        f"language-model or other, unless the sheet says who judged."
    )


def _load_set(spec: str | None) -> InstructionSet | None:
    if spec is None:
        return None
    from implicit_if.harness.instructions import load_instructions

    return load_instructions(spec)
