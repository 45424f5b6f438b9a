"""`implicit-if compare`: which of several judged systems is better, and where they differ most."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.cli import level, not_negative
from implicit_if.harness.comparing.answers import most_different, render_answers
from implicit_if.harness.comparing.loading import load_seed, parse_system
from implicit_if.harness.comparing.preference_table import JudgedSystem, PreferenceTable, length_models, make_table
from implicit_if.harness.comparing.published import is_published, read_published
from implicit_if.harness.comparing.report import as_json, make_report, render
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.identify import identify_set
from implicit_if.harness.judging.attempts import EMBEDDED, NONE, Attempts, choose, single_answers
from implicit_if.harness.judging.judged_run import decide
from implicit_if.harness.judging.scoring import check_report, show_report, write_report
from implicit_if.harness.judging.system_answers import SystemAnswers, load_system
from implicit_if.harness.outputs import Output, join_instructions
from implicit_if.harness.stats.length_control.offline_model import LengthModel
from implicit_if.harness.stats.length_control.priors import parse_prior

HELP = "compare judged systems: paired differences, p-values, and where they differ most"
SECTION = "judge"
EXAMPLES = (
    "implicit-if compare base=runs/base rules=runs/rules",
    "implicit-if compare base=s1.annotations.jsonl,s2.annotations.jsonl tuned=tuned.annotations.jsonl",
    "implicit-if compare a.annotations.jsonl b.annotations.jsonl --show 5 --outputs a.json b.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "systems",
        nargs="+",
        metavar="[NAME=]PATH[,PATH...]",
        help="a system: its annotation files, one a seed, or a folder of them; also alpaca-eval's annotations.json",
    )
    add("--judge", metavar="NAME", help="the judge, if files hold several: name or first digits of its fingerprint")
    add("--level", type=level, default=0.95, help="coverage of the intervals (0.95)")
    add("--seed", type=int, default=0, help="seed of the permutation tests (0)")
    add("--reference", metavar="NAME", help="the reference's name in the signature, if not that in --reference-outputs")
    add("--show", type=not_negative, default=0, metavar="N", help="show the N instructions they differ most on")
    add(
        "--outputs",
        nargs="+",
        default=[],
        metavar="PATH[,PATH...]",
        help="each system's outputs, one file a seed, in the same order: a verdict on each answer is expected, "
        "and only those are taken; --show prints the first seed's",
    )
    add(
        "--reference-outputs",
        metavar="PATH[,PATH...]",
        help="the reference's outputs, one file or one a seed: only verdicts against these are taken; with --outputs, "
        "adds length-controlled differences",
    )
    add("--length-prior", metavar="PRIOR", help="another prior: gpt4-turbo, llm, weak, or --length-prior=MEAN,SD")
    add(
        "--judge-attempts",
        choices=(EMBEDDED, NONE),
        help="who decides which answers are attempts, where the answers are at hand (embedded where it is installed)",
    )
    add("--instructions", metavar="SPEC", help="the instruction set, for outputs that hold no texts")
    add("--out", type=Path, metavar="FILE", help="write the comparison as JSON")
    add("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Compares, prints the tables, and writes them if asked.

    Raises:
        UserError: On missing or malformed files, or systems that cannot be compared.
    """
    from implicit_if.harness.instructions import load_instructions

    if len(args.systems) < 2:
        raise UserError(f"found one system, {args.systems[0]!r}. Expected at least two to compare.")
    if args.show and not args.outputs:
        raise UserError("--show needs the answers: give each system's outputs with --outputs A.json B.json.")
    check_report(args.out, {"signature", "systems"})
    parsed = [parse_system(spec) for spec in args.systems]
    n_seeds = [len(paths) for _, paths in parsed]
    answers = _own_answers(args.outputs, n_seeds)
    outputs = [
        [None if one is None else {o.instruction_id: o for o in one.outputs} for one in seeds] for seeds in answers
    ]
    references, reference = _references(args.reference_outputs, n_seeds)
    own: Sequence[Sequence[dict[str, Output] | None]] = outputs
    others: Sequence[Sequence[dict[str, Output] | None]] = references
    if not args.outputs and reference is None and all(is_published(p) for _, paths in parsed for p in paths):
        found = [[read_published(path) for path in paths] for _, paths in parsed]  # these hold the answers, too
        own, others = ([[one.answers()[side] for one in seeds] for seeds in found] for side in (0, 1))
        reference = found[0][0].pairs[0].reference.generator
    settings = [[None if one is None else AnswerSettings.of_meta(one.meta) for one in seeds] for seeds in answers]
    systems = [
        JudgedSystem(name, [load_seed(p, args.judge, o, r, s) for p, o, r, s in zip(paths, *seeds, strict=True)])
        for (name, paths), seeds in zip(parsed, zip(outputs, references, settings, strict=True), strict=True)
    ]
    table = make_table(systems)
    if args.length_prior and not (own[0][0] and others[0][0]):
        raise UserError("--length-prior needs the answers: give --outputs and --reference-outputs.")
    models = _models(table, own, others, args.length_prior)
    given = None if args.instructions is None else load_instructions(args.instructions)
    first = Path(args.outputs[0].split(",")[0]) if args.outputs else None
    name = args.reference or reference
    report = make_report(
        table,
        models,
        level=args.level,
        seed=args.seed,
        reference=name or "reference",
        instructions=identify_set(table.expected_ids, given, first),
        attempts=_attempts([name for name, _ in parsed], own, given.texts() if given else {}, args.judge_attempts),
    )
    show_report(as_json(report), lambda: render(report), args.json)
    if name is None and not args.json:
        print(
            "The verdicts do not say what the reference is called. For the signature of `implicit-if judge`, give "
            "--reference-outputs FILE or --reference NAME."
        )
    if args.show and not args.json:
        print(_answers(table, [files[0] for files in outputs], args.show, given.texts() if given else {}))
    if args.out is not None:
        write_report(args.out, as_json(report))
    return 0


def _own_answers(specs: Sequence[str], n_seeds: Sequence[int]) -> list[list[SystemAnswers | None]]:
    """`[system][seed]` the answers of `--outputs`, or None everywhere if none are given."""
    if not specs:
        return [[None] * n for n in n_seeds]
    if len(specs) != len(n_seeds):
        raise UserError(f"--outputs: found {len(specs)}, expected {len(n_seeds)}, one for each system.")
    loaded: list[list[SystemAnswers | None]] = []
    for spec, n in zip(specs, n_seeds, strict=True):
        paths = spec.split(",")
        if len(paths) != n:
            raise UserError(f"--outputs {spec!r}: found {len(paths)} files, expected {n}, one for each seed.")
        loaded.append([load_system(Path(path), None) for path in paths])
    return loaded


def _references(spec: str | None, n_seeds: Sequence[int]) -> tuple[list[list[dict[str, Output] | None]], str | None]:
    """`[system][seed]` the reference's answers by instruction id, or None everywhere, and its name."""
    if spec is None:
        return [[None] * n for n in n_seeds], None
    files = [load_system(Path(path), None) for path in spec.split(",")]
    names = {answers.name for answers in files}
    by_file: list[dict[str, Output] | None] = [{o.instruction_id: o for o in answers.outputs} for answers in files]
    loaded: list[list[dict[str, Output] | None]] = []
    for n in n_seeds:
        if len(by_file) not in (1, n):
            raise UserError(
                f"--reference-outputs: found {len(by_file)} files, expected 1 or {n}, one for each seed of a system."
            )
        loaded.append(by_file if len(by_file) == n else by_file * n)
    return loaded, ",".join(sorted(names))


def _models(
    table: PreferenceTable,
    outputs: Sequence[Sequence[dict[str, Output] | None]],
    references: Sequence[Sequence[dict[str, Output] | None]],
    prior: str | None,
) -> dict[str, list[LengthModel]] | None:
    """Each system's length regressions; None if lengths are not known."""
    systems, reference = (
        [[by_id for by_id in seeds if by_id is not None] for seeds in side] for side in (outputs, references)
    )
    if not systems[0] or not reference[0]:
        return None
    return length_models(table, systems, reference, None if prior is None else parse_prior(prior))


def _attempts(
    names: Sequence[str],
    outputs: Sequence[Sequence[dict[str, Output] | None]],
    texts: dict[str, str],
    spec: str | None,
) -> dict[str, list[Attempts]] | None:
    """By system, which answers of its seeds are attempts; None if answers or texts are not known, or nobody decides."""
    known = [[list(by_id.values()) for by_id in seeds if by_id is not None] for seeds in outputs]
    answers = [output for seeds in known for seed in seeds for output in seed]
    if not answers or any(o.instruction is None and o.instruction_id not in texts for o in answers):
        return None
    judge = choose(spec)
    if judge is None:
        return None
    return {
        name: [decide(single_answers(seed, texts), judge) for seed in seeds]
        for name, seeds in zip(names, known, strict=True)
    }


def _answers(
    table: PreferenceTable, outputs: Sequence[dict[str, Output] | None], count: int, texts: dict[str, str]
) -> str:
    parts = []
    for instruction_id in most_different(table, count):
        answers = [by_id[instruction_id] for by_id in outputs if by_id is not None]
        parts.append(render_answers(table, instruction_id, join_instructions(answers, texts) if texts else answers))
    return "\n" + "\n\n".join(parts)
