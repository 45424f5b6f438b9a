"""`implicit-if adherence`: near its task and far from it, how much of a single-task model's answers is the task?"""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.harness.analysis.adherence import Adherence, AdherencePoint, embedder, task_adherence
from implicit_if.harness.analysis.figures import scatter
from implicit_if.harness.analysis.training_rows import HELP_ROWS, load_training_rows
from implicit_if.harness.cli import positive
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.system_answers import load_system
from implicit_if.harness.plain_text import plain_text
from implicit_if.harness.safe_text import markdown
from implicit_if.harness.storage import atomic_write, write_json

HELP = "how much a single-task model's answers keep to its task, near the task and far from it"
SECTION = "analyse"
EXAMPLES = ("implicit-if adherence outputs.json --task-data train.jsonl",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "answers",
        metavar="OUTPUTS",
        help="the model's answers to test instructions: a file, or a named reference, e.g. gemma-3-270m/gsm",
    )
    add("--task-data", required=True, metavar="SET", help=f"what it was tuned on: {HELP_ROWS}")
    add("--instructions", default="builtin", metavar="SPEC", help="set whose texts answers stored by id get (builtin)")
    add("--embedder", metavar="NAME", help="a model of sentence-transformers (the embedded MiniLM)")
    add("--neighbours", type=positive, default=5, metavar="K", help="nearest training rows of a similarity (5)")
    add("--out", type=Path, default=Path("adherence"), metavar="DIR", help="table, figure, JSON (adherence)")


def run(args: argparse.Namespace) -> int:
    """Compares, prints the table, and writes it with its JSON and the figure.

    Returns:
        0.

    Raises:
        UserError: On wrong arguments or files, before an embedding model is loaded.
    """
    _, train = load_training_rows(args.task_data)
    outputs = load_system(Path(args.answers), load_instructions(args.instructions)).outputs
    tests = [(str(output.instruction), output.output) for output in outputs]
    found = task_adherence(train, tests, embedder(args.embedder), neighbours=args.neighbours)
    report = adherence_table(found)
    write_json(args.out / "adherence.json", found.as_dict())
    for name, text in (("adherence.md", report), ("adherence.svg", adherence_figure(found))):
        with atomic_write(args.out / name) as file:
            file.write(text)
    print(plain_text(report))
    print(f"written: {args.out / 'adherence.md'} and {args.out / 'adherence.svg'}")
    return 0


def adherence_table(found: Adherence, n: int = 5) -> str:
    """The correlation, and the nearest and the middle instructions with their answers."""
    if found.correlation is None or found.interval is None:
        told = "One of the two similarities does not vary: no correlation."
    else:
        told = (
            f"Spearman's correlation {found.correlation:.2f} {found.interval.show(2)}, "
            f"{len(found.points)} instructions."
        )
    ends = [f"{kind} {group} ({group.n})" for kind, group in (("near", found.near()), ("far", found.far()))]
    told += f" Mean similarity of answers to the training responses: {', '.join(ends)}."
    lines = [told, "", "| | to the task | answer to its responses | instruction | answer |", "|---|---|---|---|---|"]
    lines += [_row("nearest", point) for point in found.nearest(n)] + [_row("middle", p) for p in found.middle(n)]
    return "\n".join([*lines, ""])


def adherence_figure(found: Adherence) -> str:
    """A point a test instruction, with the smoothed curve and its interval."""
    return scatter(
        "Task adherence: answers against instructions",
        "similarity of the instruction to the training instructions",
        "similarity of the answer to the training responses",
        [(point.near, point.kept) for point in found.points],
        found.smooth,
    )


def _row(kind: str, point: AdherencePoint) -> str:
    texts = " | ".join(markdown(text, 160) for text in (point.instruction, point.answer))
    return f"| {kind} | {point.near:.2f} | {point.kept:.2f} | {texts} |"
