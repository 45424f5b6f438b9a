"""`implicit-if compare`: which of several judged systems is better, and where they differ most."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.scoring import write_report
from implicit_if.harness.outputs import Output, join_instructions, load_outputs
from implicit_if.harness.stats.length import LengthModel
from implicit_if.harness.stats.loading import System, Table, length_models, load_seed, make_table, parse_system
from implicit_if.harness.stats.priors import parse_prior
from implicit_if.harness.stats.report import as_json, make_report, most_different, render, render_answers

HELP = "compare judged systems: paired differences, p-values, and where they differ most"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "systems",
        nargs="+",
        metavar="[NAME=]PATH[,PATH...]",
        help="a system: its annotation files, one a seed, or a folder of them",
    )
    add("--judge", metavar="NAME", help="the judge, if files hold several: name or first digits of its fingerprint")
    add("--level", type=_level, default=0.95, help="coverage of the intervals (0.95)")
    add("--seed", type=int, default=0, help="seed of the permutation tests (0)")
    add("--reference", metavar="NAME", default="reference", help="the reference's name in the signature")
    add("--show", type=_not_negative, default=0, metavar="N", help="show the N instructions they differ most on")
    add(
        "--outputs",
        nargs="+",
        default=[],
        metavar="PATH[,PATH...]",
        help="each system's outputs, one file a seed, in the same order; --show prints the first seed's answers",
    )
    add(
        "--reference-outputs",
        metavar="PATH[,PATH...]",
        help="the reference's outputs, one file or one a seed: with --outputs, adds length-controlled differences",
    )
    add("--length-prior", metavar="PRIOR", help="another prior for length control: gpt4-turbo, llm, weak, or =MEAN,SD")
    add("--instructions", metavar="SPEC", help="the instruction set, for outputs that hold no texts")
    add("--out", type=Path, metavar="FILE", help="write the comparison as JSON")


def run(args: argparse.Namespace) -> int:
    """Compares, prints the tables, and writes them if asked.

    Raises:
        UserError: On missing or malformed files, or systems that cannot be compared.
    """
    if len(args.systems) < 2:
        raise UserError(f"found one system, {args.systems[0]!r}. Expected at least two to compare.")
    if args.show and not args.outputs:
        raise UserError("--show needs the answers: give each system's outputs with --outputs A.json B.json.")
    if args.reference_outputs and not args.outputs:
        raise UserError("--reference-outputs needs the systems' answers too: give them with --outputs A.json B.json.")
    if args.length_prior and not args.reference_outputs:
        raise UserError("--length-prior needs the answers: give --outputs and --reference-outputs.")
    parsed = [parse_system(spec) for spec in args.systems]
    outputs = _outputs(args.outputs, [len(paths) for _, paths in parsed])
    systems = [
        System(name, [load_seed(p, args.judge, o) for p, o in zip(paths, files, strict=True)])
        for (name, paths), files in zip(parsed, outputs, strict=True)
    ]
    table = make_table(systems)
    models = _models(table, outputs, args)
    report = make_report(table, models, level=args.level, seed=args.seed, reference=args.reference)
    print(render(report))
    if args.show:
        print(_answers(table, [files[0] for files in outputs], args.show, args.instructions))
    if args.out is not None:
        write_report(args.out, as_json(report))
    return 0


def _outputs(specs: Sequence[str], n_seeds: Sequence[int]) -> list[list[dict[str, Output] | None]]:
    """`[system][seed]` answers by instruction id, or None everywhere if none are given."""
    if not specs:
        return [[None] * n for n in n_seeds]
    if len(specs) != len(n_seeds):
        raise UserError(f"--outputs: found {len(specs)}, expected {len(n_seeds)}, one for each system.")
    loaded: list[list[dict[str, Output] | None]] = []
    for spec, n in zip(specs, n_seeds, strict=True):
        paths = spec.split(",")
        if len(paths) != n:
            raise UserError(f"--outputs {spec!r}: found {len(paths)} files, expected {n}, one for each seed.")
        loaded.append([{o.instruction_id: o for o in load_outputs(path)} for path in paths])
    return loaded


def _models(
    table: Table, outputs: Sequence[Sequence[dict[str, Output] | None]], args: argparse.Namespace
) -> dict[str, list[LengthModel]] | None:
    """Each system's length regressions; None if lengths are not known."""
    if not args.reference_outputs:
        return None
    references = [{o.instruction_id: o for o in load_outputs(p)} for p in args.reference_outputs.split(",")]
    prior = None if args.length_prior is None else parse_prior(args.length_prior)
    known = [[by_id for by_id in seeds if by_id is not None] for seeds in outputs]
    return length_models(table, known, references, prior)


def _answers(table: Table, outputs: Sequence[dict[str, Output] | None], count: int, instructions: str | None) -> str:
    texts: dict[str, str] = {}
    if instructions is not None:
        from implicit_if.harness.instructions import load_instructions

        texts = load_instructions(instructions).texts()
    parts = []
    for instruction_id in most_different(table, count):
        answers = [by_id[instruction_id] for by_id in outputs if by_id is not None]
        parts.append(render_answers(table, instruction_id, join_instructions(answers, texts) if texts else answers))
    return "\n" + "\n\n".join(parts)


def _level(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected between 0 and 1, e.g. 0.95")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value}: expected 0 or more")
    return value
