"""`implicit-if agreement`: how raters agree, people's and models' sheets and any judge's annotations alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from implicit_if.harness.judging.scoring import check_report, show_report, write_report
from implicit_if.harness.judging.sheets.agreement import RaterAgreement, Share, rater_agreement
from implicit_if.harness.safe_text import one_line

HELP = "agreement between raters: sheets filled in outside, and any judge's annotations"
SECTION = "judge"
EXAMPLES = (
    "implicit-if agreement rating/sheet-anna.csv rating/sheet-ben.csv",
    "implicit-if agreement people=rating/sheet.csv judge=outputs.annotations.jsonl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("files", nargs="+", metavar="[NAME=]FILE", help="sheets (CSV, JSON Lines) and annotations; one name, one rater")
    add("--out", type=Path, metavar="FILE", help="write the table as JSON")
    add("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Compares the raters, prints a table and writes it.

    Raises:
        UserError: On malformed files, or raters without a pair in common.
    """
    check_report(args.out, {"agreement"})
    found = rater_agreement(args.files)
    report = {"agreement": [_as_dict(one) for one in found]}
    show_report(report, lambda: render(found), args.json)
    if args.out is not None:
        write_report(args.out, report)
    return 0


def render(found: Sequence[RaterAgreement]) -> str:
    """The table people read."""
    from tabulate import tabulate

    head = ["raters", "pairs", "same verdict", "kappa", "correlation", "same winner, both decided"]
    head += ["same on attempts", "kappa of attempts"]
    rows = [
        [
            f"{one_line(one.first)}, in both orders"
            if one.first == one.second
            else f"{one_line(one.first)} / {one_line(one.second)}",
            str(one.same.of),
            _percent(one.same),
            _number(one.kappa),
            _number(one.correlation),
            _share(one.winner),
            _share(one.attempts),
            _number(one.attempts_kappa),
        ]
        for one in found
    ]
    note = "same verdict: the one answer, the other or neither; several verdicts of a rater on a pair are their mean"
    return f"{tabulate(rows, headers=head, disable_numparse=True)}\n{note}"


def _percent(share: Share) -> str:
    return "-" if share.percent is None else f"{share.percent:.1f} %"


def _share(share: Share) -> str:
    return "-" if share.percent is None else f"{share.n} of {share.of} ({share.percent:.1f} %)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _as_dict(one: RaterAgreement) -> dict[str, object]:
    return asdict(one) | {name: getattr(one, name)._asdict() for name in ("same", "winner", "attempts")}
