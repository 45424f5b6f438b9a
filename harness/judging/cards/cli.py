"""`implicit-if judge-card`: measures a judge and writes its card."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from implicit_if.harness.cli import dollars, name_values
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.sheet import SheetJudge
from implicit_if.harness.judging.cards.measurements import (
    Clock,
    Measured,
    measure_agreement,
    measure_controls,
    measured_of,
)
from implicit_if.harness.judging.cards.page import render_card
from implicit_if.harness.judging.cards.pairs import control_pairs, read_labelled
from implicit_if.harness.judging.cli import SHEET_JUDGES, judge_spec, parse_options, write_sheet
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import check_judge_spec, get_judge
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.judging.sheets.export import sheet_exists
from implicit_if.harness.outputs import Output, join_instructions, load_outputs
from implicit_if.harness.storage import atomic_write, cache_dir, check_writable, read_json, sha256_text, write_json

HELP = "measure a judge (agreement, position bias, controls, time, cost) and write its card"
SECTION = "judge"
EXAMPLES = (
    "implicit-if judge-card longest --answers outputs.json reference.json",
    "implicit-if judge-card openai:gpt-4.1-mini --labelled people=annotations.json --dry-run",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("judge", metavar="JUDGE", help="a judge, as for `implicit-if judge`")
    add("--option", action="append", default=[], metavar="K=V", help="an option of the judge; may be repeated")
    add(
        "--labelled",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="verdicts to agree with, in the format of alpaca-eval's annotations; may be repeated",
    )
    add(
        "--answers",
        nargs=2,
        type=Path,
        metavar="OUTPUTS",
        help="answers of two systems to the same instructions: controls are judged against the first's",
    )
    add("--instructions", metavar="SPEC", default="builtin", help="the set --answers answers (builtin)")
    add("--sheet", type=Path, metavar="FOLDER", help="with the judge sheet: write the sheet there, or read it back")
    add(
        "--annotations", type=Path, metavar="FILE", help="verdicts, kept and reused (in the user's cache; by the sheet)"
    )
    add("--machine", metavar="TEXT", help="what it ran on, for the card")
    add("--max-cost", type=dollars, metavar="USD", help="stop a paid judge at this cost, for each part")
    add("--dry-run", action="store_true", help="print calls and estimated cost of each part, judge nothing")
    add(
        "--out", type=Path, metavar="PAGE.md", help="the card; measurements go beside it as PAGE.json (standard output)"
    )


def run(args: argparse.Namespace) -> int:
    """Measures what labels and answers were given for, and writes the card.

    Without either, the card is made of the configuration and of the measurements already beside it. For a sheet, the
    first call writes the sheet of all pairs, and the next measures what was filled in.

    Raises:
        UserError: On wrong arguments or files, a permanent fault of the judge, or the cost limit.
    """
    measuring = bool(args.labelled or args.answers)
    if args.out is not None and os.path.isfile(args.out) and not args.out.read_bytes().startswith(b"# Judge card"):
        raise UserError(f"--out {args.out}: holds no card, and would be replaced. Give another name.")
    if args.out is not None:
        check_writable(args.out)
        check_writable(args.out.with_suffix(".json"))
    if (args.dry_run or args.sheet) and not measuring:
        raise UserError(
            f"{'--dry-run' if args.dry_run else '--sheet'}: nothing to judge. Give what is to be measured: "
            f"--labelled NAME=FILE, --answers A B."
        )
    if measuring:
        measured = _measure(args, judge_spec(args))
        if measured is None:  # a dry run, or a sheet to be filled in
            return 0
    else:
        measured = load_measured(args.out.with_suffix(".json")) if args.out is not None else None
    page = render_card(_card_name(args.judge, measured), measured)
    if args.out is None:
        print(page, end="")
        return 0
    try:
        if measured is not None:
            write_json(args.out.with_suffix(".json"), measured.model_dump())
        with atomic_write(args.out) as file:
            file.write(page)
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be written ({error}). Give a file you may write to.") from error
    return 0


def load_measured(path: Path) -> Measured | None:
    """Stored measurements, or None if there are none.

    Raises:
        UserError: If the file is malformed.
    """
    if not path.exists():
        return None
    try:
        return Measured.model_validate(read_json(path, "measurements of a judge"))
    except ValidationError as error:
        raise UserError(f"{path}: no measurements of a judge ({error}). Delete it and measure again.") from error


def _card_name(judge: str, measured: Measured | None) -> str:
    """Whose card it is: a sheet's is the rater's, wherever it lies."""
    if judge.partition(":")[0] not in SHEET_JUDGES:
        return judge
    return "sheet" if measured is None else measured.judge


def _measure(args: argparse.Namespace, spec: str) -> Measured | None:
    check_judge_spec(spec)
    named = name_values(args.labelled, "--labelled", "people=annotations.json")
    labelled = {name: Path(file) for name, file in named.items()}
    answers = None if args.answers is None else _load_answers(args.answers, args.instructions)
    parts: dict[str, list[Pair]] = {}
    for name, path in labelled.items():
        found = read_labelled(path)
        parts[name] = found.pairs
        for note in found.notes():
            print(f"{path}: {note}", file=sys.stderr)
    parts |= control_pairs(*answers) if answers is not None else {}
    if args.sheet is not None and not sheet_exists(args.sheet):
        if args.dry_run:
            raise UserError(f"--dry-run: {args.sheet} holds no sheet yet. Raters make no calls; leave --dry-run out.")
        print(write_sheet([pair for pairs in parts.values() for pair in pairs], args.sheet))
        return None
    judge = get_judge(spec, dry_run=args.dry_run, **parse_options(args.option))
    if args.dry_run:
        for name, pairs in parts.items():
            print(f"{name}:")
            annotate(pairs, judge, _store(args, judge), dry_run=True)
        return None
    store = _store(args, judge)

    def under_runner(pairs: list[Pair]) -> Judgement:
        return annotate(pairs, judge, store, max_cost=args.max_cost)

    clock = Clock(under_runner)
    agreement = [measure_agreement(clock, name, path) for name, path in labelled.items()]
    controls = None if answers is None else measure_controls(clock, *answers, args.instructions)
    return measured_of(judge, clock, args.machine, agreement=agreement, controls=controls)


def _store(args: argparse.Namespace, judge: Judge) -> Path:
    if args.annotations is None and isinstance(judge, SheetJudge):
        return judge.folder / "card.annotations.jsonl"
    return args.annotations or cache_dir() / "cards" / f"{sha256_text(judge.name)[:16]}.jsonl"


def _load_answers(paths: list[Path], instructions: str) -> tuple[list[Output], list[Output]]:
    from implicit_if.harness.instructions import load_instructions

    texts = load_instructions(instructions).texts()
    first, second = (join_instructions(load_outputs(path), texts) for path in paths)
    strange = sorted({o.instruction_id for o in first} - texts.keys())
    if strange:
        raise UserError(
            f"{paths[0]}: {len(strange)} answers are to no instruction of {instructions!r}. Name their set: "
            f"--instructions {paths[0]}, if that file holds the texts."
        )
    return first, second
