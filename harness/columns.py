"""The columns of every table of results, once: boards, page, the task's summary and the ablation read them.

Of the scores the attempt rate is first: it needs no reference.

A measure of form is a function in `answer_form.MEASURES` and a column here; nothing else names it. A column of text or
counts also has its cell in `leaderboards/boards/tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from implicit_if.harness.scores import Score

Kind = Literal["text", "score", "form", "count"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its key in CSV, JSON and the page's data.
        label: Its heading.
        kind: "score" (with interval), "form" (a mean over answers), "count", or "text".
        digits: Decimals shown, of scores and measures of form.
        higher_is_better: Whether more is better, where that can be said.
        note: What a reader must know of it, a sentence; may be empty.
        metric: Its key among a run's metrics, where that is not `name`.
        highest: The largest value possible, of measures of form.
    """

    name: str
    label: str
    kind: Kind
    digits: int = 1
    higher_is_better: bool | None = None
    note: str = ""
    metric: str = ""
    highest: float = 100

    def show(self, value: float | None) -> str:
        """A measure of form as tables show it; "-" where there is none."""
        return "-" if value is None else f"{value:.{self.digits}f}"


ATTEMPTS = "attempt_rate"
"""The metric that needs no reference."""

COLUMNS: tuple[Column, ...] = (
    Column("system", "system", "text"),
    Column("name", "submission", "text"),
    Column("seeds", "seeds", "text"),
    Column("attempt_rate", "attempts %", "score", 1, True, "Attempts: answers that try to do what is asked.", ATTEMPTS),
    Column("win_rate", "win rate %", "score", 1, True, metric="win_rate"),
    Column("lc", "LC win rate %", "score", 1, True, "LC: length-controlled.", "length_controlled_win_rate"),
    Column("finish_rate", "finish %", "form", 1, True, "Finish: answers ended by the model itself."),
    Column("format_leak_rate", "leak %", "form", 1, False, "Leak: a role tag in the answer."),
    Column("repetition", "repetition %", "form", 1, False, "Repetition: repeated 4-grams."),
    Column("avg_length", "length", "form", 0, None, "Length: mean characters.", highest=200_000),
    Column("n", "n", "count"),
    Column("judge", "judge", "text"),
    Column("badge", "badge", "text"),
    Column("tie_group", "tie group", "count"),
)
"""In the order of tables."""

SCORES = tuple(column for column in COLUMNS if column.kind == "score")
FORM = tuple(column for column in COLUMNS if column.kind == "form")


def score_cells(scores: Mapping[str, Score], otherwise: str = "-") -> list[str]:
    """The scores of one system as tables show them, in the order of `SCORES`.

    Args:
        scores: By metric.
        otherwise: What stands for a win rate that is not there; an attempt rate that is not there is "-".
    """
    cells = []
    for column in SCORES:
        score = scores.get(column.metric)
        if score is None:
            cells.append("-" if column.metric == ATTEMPTS else otherwise)
        else:
            judged = "" if score.complete or column.metric != ATTEMPTS else f" ({score.n_judged} of {score.n_expected})"
            cells.append(score.bracketed() + judged)
    return cells


def form_cells(form: Mapping[str, float | None]) -> list[str]:
    """The measures of form of one system as tables show them, in the order of `FORM`."""
    return [column.show(form.get(column.name)) for column in FORM]


def notes() -> str:
    """What a reader must know of the scores and measures, in one line."""
    return " ".join(column.note for column in (*SCORES, *FORM) if column.note)
