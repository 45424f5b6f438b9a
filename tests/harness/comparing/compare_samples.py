"""Judged systems for the tests of `implicit-if compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from implicit_if.harness.annotations import Annotation, AnnotationStore, Order
from implicit_if.harness.comparing import cli
from implicit_if.harness.outputs import Output, instruction_id
from implicit_if.harness.storage import sha256_text

TEXTS = [f"Name something that begins with the letter number {i}." for i in range(30)]
IDS = [instruction_id(text) for text in TEXTS]
TWO_ORDERS: tuple[Order, ...] = ("system_first", "reference_first")


def answers(name: str) -> list[Output]:
    return [
        Output(instruction_id=i, instruction=text, output=f"{name} says\n{k}", generator=name)
        for k, (i, text) in enumerate(zip(IDS, TEXTS, strict=True))
    ]


def annotate(
    path: Path,
    preferences: Sequence[float | None],
    *,
    name: str = "a",
    orders: Sequence[Order] = TWO_ORDERS,
    judge: str = "longest",
    reference: str = "reference",
) -> Path:
    lines = []
    for output, preference in zip(answers(name), preferences, strict=False):
        for order in orders:
            bias = {"system_first": 0.1, "reference_first": -0.1, "none": 0.0}[order]
            lines.append(
                Annotation(
                    instruction_id=output.instruction_id,
                    order=order,
                    preference=None if preference is None else preference + bias,
                    error="timeout" if preference is None else None,
                    judge=judge,
                    fingerprint=sha256_text(judge),
                    system_sha256=output.sha256,
                    reference_sha256=sha256_text(reference + output.instruction_id),
                )
            )
    AnnotationStore(path).append(lines)
    return path


def run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(a) for a in argv]))


RNG = np.random.default_rng(0)
GOOD = RNG.uniform(0.5, 0.9, 30).round(2).tolist()
POOR = RNG.uniform(0.1, 0.5, 30).round(2).tolist()


def reference_answers(reference: str) -> list[Output]:
    """The answers that `annotate` judges against."""
    return [
        Output(instruction_id=i, instruction=text, output=reference + i, generator=reference)
        for i, text in zip(IDS, TEXTS, strict=True)
    ]
