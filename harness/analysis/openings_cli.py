"""`implicit-if openings`: how alike the responses of training sets begin, beside what models tuned on them can do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.analysis.figures import Curve, curves
from implicit_if.harness.analysis.openings import POSITIONS, Openings, find_openings
from implicit_if.harness.analysis.training_rows import HELP_ROWS, load_training_rows
from implicit_if.harness.cli import name_values
from implicit_if.harness.errors import UserError
from implicit_if.harness.plain_text import plain_text
from implicit_if.harness.safe_text import markdown, markdown_code
from implicit_if.harness.storage import atomic_write, read_json, write_json

HELP = "how alike the responses of training sets begin, beside win rate and attempt rate of models tuned on them"
SECTION = "analyse"
EXAMPLES = ("implicit-if openings gsm poetry chess=games.jsonl",)
_SCORES = ("win_rate", "attempt_rate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "sets",
        nargs="+",
        metavar="SET",
        help=HELP_ROWS,
    )
    add(
        "--scores",
        action="append",
        default=[],
        metavar="SET=FILE",
        help="scores.json of a judged model that was tuned on the set; may be repeated",
    )
    add("--out", type=Path, default=Path("openings"), metavar="DIR", help="table, figure, JSON (openings)")


def run(args: argparse.Namespace) -> int:
    """Reads the sets, prints the table, and writes it with its JSON and the figure.

    Returns:
        0.

    Raises:
        UserError: On a set or file that cannot be read.
    """
    given = name_values(args.scores, "--scores", "gsm=scores.json")
    sets = [load_training_rows(spec) for spec in args.sets]
    found = [find_openings(name, [response for _, response in rows]) for name, rows in sets]
    if unknown := given.keys() - {each.name for each in found}:
        raise UserError(f"--scores {min(unknown)}=: no such set. Known: {', '.join(each.name for each in found)}.")
    scores = {name: _read_scores(Path(path)) for name, path in given.items()}
    table = openings_table(found, scores)
    write_json(args.out / "openings.json", [each.as_dict() | _as_dict(scores.get(each.name, {})) for each in found])
    for name, text in (("openings.md", table), ("openings.svg", openings_figure(found))):
        with atomic_write(args.out / name) as file:
            file.write(text)
    print(plain_text(table))
    print(f"written: {args.out / 'openings.md'} and {args.out / 'openings.svg'}")
    return 0


@dataclass(frozen=True)
class TunedScore:
    """A score of a model that was tuned on a set.

    Attributes:
        value: In percent; None if it was not judged.
        ends: Of its interval; None without one.
        signature: The settings behind it; None if the file does not tell.
    """

    value: float | None
    ends: tuple[float, float] | None = None
    signature: str | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.1f}" + ("" if self.ends is None else " [{:.1f}, {:.1f}]".format(*self.ends))


def openings_table(found: Sequence[Openings], scores: Mapping[str, Mapping[str, TunedScore]]) -> str:
    """A row a training set, and the signatures of the scores."""
    head = " | ".join(f"bits at {p}" for p in POSITIONS)
    lines = [
        f"| training set | rows | commonest opening | % of rows | {head} | win rate | attempt rate |",
        "|---|---|---|---|" + "---|" * (len(POSITIONS) + 2),
    ]
    for each in found:
        bits = " | ".join(f"{each.entropy[p - 1]:.1f}" for p in POSITIONS)
        told = scores.get(each.name, {})
        ends = " | ".join(str(told.get(name, TunedScore(None))) for name in _SCORES)
        start = f"{markdown(each.name)} | {each.rows} | {markdown_code(each.opening)} | {each.share:.1f}"
        lines.append(f"| {start} | {bits} | {ends} |")
    most = ", ".join(f"{markdown(each.name)} {each.most_bits:.1f}" for each in found)
    lines += ["", f"Bits of entropy of the word at a position; at most log2(rows): {most}.", ""]
    for name, told in scores.items():
        for metric, score in told.items():
            if score.value is not None:
                settings = markdown_code(score.signature or "not signed", 400, cell=False)
                lines.append(f"- {markdown(name)}, {metric.replace('_', ' ')}: {settings}")
    return "\n".join(lines)


def openings_figure(found: Sequence[Openings]) -> str:
    """Entropy by position, a line a training set."""
    n = min(len(each.entropy) for each in found)
    steps = [str(i + 1) if i in (0, 4, 9, 14, 19, 24, 29) else "" for i in range(n)]
    title = "Entropy of the responses' words by position"
    return curves(title, "word of the response", "bits", steps, [Curve(each.name, each.entropy[:n]) for each in found])


def _as_dict(scores: Mapping[str, TunedScore]) -> dict[str, Any]:
    values: dict[str, Any] = {name: score.value for name, score in scores.items()}
    return values | {f"{name}_signature": score.signature for name, score in scores.items()}


def _read_scores(path: Path) -> dict[str, TunedScore]:
    """Win rate and attempt rate of a `scores.json`, as far as they are in it."""
    found: Any = read_json(path, "scores of a judged system")
    found = found.get("scores", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not any(name in found for name in _SCORES):
        raise UserError(f"{path}: holds neither {' nor '.join(_SCORES)}. Expected the scores.json of a judged system.")
    return {name: _score(found.get(name)) for name in _SCORES}


def _score(found: Any) -> TunedScore:
    if not isinstance(found, dict) or not isinstance(found.get("value"), int | float):
        return TunedScore(None)
    ends = [end for name in ("low", "high") if isinstance(end := (found.get("interval") or {}).get(name), int | float)]
    signature = found.get("signature")
    return TunedScore(
        float(found["value"]),
        (float(ends[0]), float(ends[1])) if len(ends) == 2 else None,
        None if signature is None else str(signature),
    )
