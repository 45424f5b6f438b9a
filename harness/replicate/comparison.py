"""A replication beside the paper: each system's number, the published mean and sd, their difference, and a verdict.

The paper's judge is retired, so most comparisons are not of like with like. They are shown with the reason, and never
called agreement or difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from implicit_if.harness.errors import UserError
from implicit_if.harness.published_numbers import Published, PublishedRow, load_published
from implicit_if.harness.safe_text import markdown, markdown_code
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import read_json

Verdict = Literal["agrees", "differs", "not comparable"]

BASES = {
    "Llama-2-7B": ("meta-llama/Llama-2-7b-hf", "llama2-7b"),
    "OLMo-7B-Feb2024": ("allenai/OLMo-7B-hf", "allenai/OLMo-7B", "olmo-7b"),
}
"""Names under which the paper's base models are run."""
JUDGES = ("alpaca-eval-2", "weighted_alpaca_eval_gpt4_turbo")
"""Names of the paper's judge: the one here, and as published annotations have it."""
INSTRUCTIONS = "alpaca_eval"
_RECIPES = {"response tuning, A/B tags": "response_ab_tags", "response tuning, no rephrasing rows": "no_rephrasing"}
"""What tells variants of response tuning apart: part of the submission's name."""
_BOARDS = ("leaderboard.json", "rules.json")


@dataclass(frozen=True)
class Result:
    """One system of a replication.

    Attributes:
        base_model: Its name.
        system: What was done to the base model, as boards say it.
        kind: As of `system_kinds`.
        name: The submission's name.
        score: Length-controlled win rate.
        sd: Standard deviation over seeds in percentage points; None for one seed.
        n_seeds: Seeds behind it.
    """

    base_model: str
    system: str
    kind: str
    name: str
    score: Score
    sd: float | None
    n_seeds: int


@dataclass(frozen=True)
class Comparison:
    """One system here beside the same system in the paper.

    Attributes:
        result: The system here.
        published: The paper's row.
        difference: Ours minus the paper's, in percentage points.
        interval: Its interval; None where ours has none.
        verdict: "agrees" if the interval holds 0, "differs" if not; "not comparable" says neither.
        reasons: Why it is not comparable; empty where it is.
    """

    result: Result
    published: PublishedRow
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PaperComparison:
    """A replication beside one paper.

    Attributes:
        source: The paper's numbers.
        rows: In the paper's order.
        orders: By the paper's base model: Spearman's correlation between our numbers and the paper's over the systems
            that both have, None where all have one value, and how many these are. It can be read where levels cannot.
        absent: The paper's rows that the replication lacks, of base models that it has.
    """

    source: Published
    rows: tuple[Comparison, ...]
    orders: dict[str, tuple[float | None, int]]
    absent: tuple[PublishedRow, ...]


def read_results(path: Path) -> list[Result]:
    """The systems of a replication.

    Args:
        path: `leaderboard.json`, or the folder with it and `rules.json`, as `implicit-if leaderboard` writes them.

    Raises:
        UserError: If there is no such file, or it is no board.
    """
    files = [path / name for name in _BOARDS if (path / name).is_file()] if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path}: no leaderboard.json there. Make it: implicit-if leaderboard --root {path}")
    found: dict[tuple[str, str, str], Result] = {}
    for file in files:
        content = read_json(file, "a board of implicit-if leaderboard")
        try:
            for board in content["boards"]:
                for row in board["rows"]:
                    if row["kind"] != "control" and row["lc"] is not None:
                        result = _result(row)
                        found.setdefault((result.base_model, result.name, str(result.score.signature)), result)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: not a board of implicit-if leaderboard ({type(error).__name__}: {error})."
            ) from error
    return list(found.values())


def compare_with_paper(results: Sequence[Result], source: Published | None = None) -> PaperComparison:
    """Each system beside the paper's.

    A system of a base model that the paper has stands beside that model's row; one of another base model beside the
    rows of both, which says nothing about levels.

    Args:
        results: See `read_results`.
        source: The paper's numbers; None takes those that ship.
    """
    source = source or load_published()[0]
    rows, absent = [], []
    for row in source.rows:
        same = [r for r in results if _same_system(r, row) and _same_base(r, row)]
        others = [r for r in results if _same_system(r, row) and _paper_base(r) is None]
        rows += [_compared(result, row, source) for result in same or others]
        if not same and not others:
            absent.append(row)
    orders: dict[str, tuple[float | None, int]] = {}
    for base in dict.fromkeys(row.base_model for row in source.rows):
        pairs = [(c.result.score.value or 0.0, c.published.mean) for c in rows if c.published.base_model == base]
        if len(pairs) > 2:
            orders[base] = (_spearman(pairs), len(pairs))
    return PaperComparison(source, tuple(rows), orders, tuple(absent))


def difference_interval(result: Result, row: PublishedRow, seeds: int) -> tuple[float, float] | None:
    """The 95 % interval of ours minus the paper's, by the method of variance estimates recovery (MOVER).

    Ours has its own interval, over instructions and, where there are several, seeds. The paper's has mean ± t sd / √s
    over its s seeds: it tells no spread over instructions. Where both answer the same instructions a part of ours
    cancels out, so the interval is rather too wide than too narrow. Zou and Donner 2008, Statistics in Medicine 27.

    Returns:
        In percentage points; None where ours has no interval.
    """
    if result.score.interval is None or result.score.value is None:
        return None
    from scipy.stats import t

    low, high = result.score.interval.ends
    value, half = result.score.value, float(t.ppf(0.975, seeds - 1)) * row.sd / math.sqrt(seeds) if seeds > 1 else 0.0
    difference = value - row.mean
    return difference - math.hypot(value - low, half), difference + math.hypot(high - value, half)


def render(comparison: PaperComparison, agreement: Sequence[str] = ()) -> str:
    """The comparison as Markdown: a table, what the order of systems tells, and the question of the judge.

    Args:
        comparison: See `compare_with_paper`.
        agreement: What is measured of the judge's agreement; see `judge_agreement`.
    """
    from tabulate import tabulate

    source = comparison.source
    head = ["base model", "system", "here %", "paper", "published %", "difference", "verdict"]
    body = [
        [
            markdown_code(c.result.base_model),
            markdown(c.result.system),
            c.result.score.bracketed(c.result.sd),
            f"{markdown(c.published.base_model)}, {markdown(c.published.system)}",
            f"{c.published.mean} ± {c.published.sd}",
            f"{c.difference:+.1f}" + ("" if c.interval is None else f" [{c.interval[0]:+.1f}, {c.interval[1]:+.1f}]"),
            c.verdict + (f": {'; '.join(map(markdown, c.reasons))}" if c.reasons else ""),
        ]
        for c in comparison.rows
    ]
    lines = [
        f"Published: {markdown(source.title)} ({markdown(source.authors)}, <{source.url}>), {source.metric}, mean ± "
        f"standard deviation over {source.seeds} seeds.",
        str(tabulate(body, head, "pipe", disable_numparse=True))
        if body
        else "No system of the paper's is among these.",
    ]
    lines += [
        f"Order of the systems against {markdown(base)}'s: "
        + (f"none, all {n} systems have one value." if rho is None else f"Spearman {rho:.2f} over {n} systems.")
        for base, (rho, n) in comparison.orders.items()
    ]
    if comparison.absent:
        names = ", ".join(f"{row.base_model}: {row.system}" for row in comparison.absent)
        lines.append(f"Not run here: {markdown(names, 2_000)}.")
    signatures = dict.fromkeys(str(c.result.score.settings) for c in comparison.rows)
    lines += [f"Signature: {markdown_code(signature, 1_000, cell=False)}" for signature in signatures]
    lines.append(
        f"**The judge.** The paper's numbers are by {markdown(source.judge)} in gpt-4-1106-preview, which is retired: "
        f"nobody can ask it again. A number by another judge is not comparable with them, however near."
    )
    return "\n\n".join([*lines, *agreement]) + "\n"


def judge_agreement(judge: str, cards: Path) -> list[str]:
    """What a judge's card has measured about its agreement with others, a sentence each.

    Args:
        judge: Its name.
        cards: The folder of cards, `docs/judges` of a checkout.
    """
    file = cards / f"{judge.partition(':')[0]}.json"
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["agreement"] if file.is_file() else []
    lines = [
        f"{markdown_code(judge)} agrees with {markdown(str(one['labels']))} in {one['accuracy']['value']:.1f} % of "
        f"{one['accuracy']['n']} decided pairs [{one['accuracy']['low']:.1f}, {one['accuracy']['high']:.1f}]; always "
        f"naming the more frequent winner in {one['majority']:.1f} %."
        for one in found
    ]
    return lines or [
        f"How {markdown_code(judge)} agrees with other judges is on its card, docs/judges, as far as it is measured; "
        f"implicit-if judge-card measures it."
    ]


def _result(row: dict[str, Any]) -> Result:
    return Result(
        base_model=str(row["base_model"]),
        system=str(row["system"]),
        kind=str(row["kind"]),
        name=str(row["name"]),
        score=Score.model_validate(row["lc"]),
        sd=row["lc_sd"],
        n_seeds=len(row["seeds"]),
    )


def _same_system(result: Result, row: PublishedRow) -> bool:
    """Whether both did the same to their base models."""
    label = result.system.partition(" (the reference)")[0].partition(", ")[0]
    if row.kind == "ablation":
        return result.kind == "rules" and label == row.system
    if row.kind != result.kind:
        return False
    if row.kind == "single_task":
        return label == row.system
    if row.kind == "rules":
        return label.startswith("rules")
    if row.kind == "response":
        told = [variant for variant, part in _RECIPES.items() if part in result.name]
        return (told or ["response tuning"]) == [row.system]
    return True


def _paper_base(result: Result) -> str | None:
    return next((base for base, names in BASES.items() if result.base_model in names), None)


def _same_base(result: Result, row: PublishedRow) -> bool:
    return _paper_base(result) == row.base_model


def _compared(result: Result, row: PublishedRow, source: Published) -> Comparison:
    interval = difference_interval(result, row, source.seeds)
    reasons = tuple(_reasons(result, row))
    verdict: Verdict = "not comparable"
    if not reasons and interval is not None:
        verdict = "agrees" if interval[0] <= 0 <= interval[1] else "differs"
    difference = (result.score.value or 0.0) - row.mean
    return Comparison(result, row, difference, interval, verdict, reasons)


def _reasons(result: Result, row: PublishedRow) -> Iterable[str]:
    settings = result.score.settings
    if not _same_base(result, row):
        yield f"another base model than {row.base_model}"
    if settings.judge.removeprefix("alpaca_eval:") not in JUDGES:
        yield f"judged by {settings.judge}, the paper's judge is retired"
    if settings.instruction_set != INSTRUCTIONS:
        yield f"other instructions ({settings.instruction_set}, n {settings.n})"
    if not result.score.complete:
        yield f"{result.score.n_judged} of {result.score.n_expected} judged"
    if result.score.interval is None:
        yield "no interval"


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    if any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
