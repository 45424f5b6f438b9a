"""What a judge's card holds of measurements: agreement with labels, position bias, control rows, time and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.sheet import SheetJudge
from implicit_if.harness.judging.cards.pairs import control_pairs, read_labelled
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.outputs import Output
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import sha256_file

Judging = Callable[[list[Pair]], Judgement]


class Measure(BaseModel):
    """A number with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float | None
    high: float | None
    n: int


class Agreement(BaseModel):
    """Against one labelled set.

    Attributes:
        labels: What the labels are, e.g. "AlpacaEval 1, GPT-4's verdicts".
        sha256: Of the file.
        accuracy: Percent of the pairs decided by label and judge on which they name the same answer.
        majority: Accuracy of always naming the side that these labels prefer more often; None in older measurements.
        kappa: Cohen's, over win, draw and loss; 0 for a judge that knows no more than that side.
        longest: Accuracy of "the longer answer is better" on the same pairs.
        spearman: Of the win rates of the systems in the set; None below three.
        n_systems: Systems in the set.
        position_bias: Points gained by being shown first; None for a judge that sees no order.
        unjudged: Pairs without a verdict.
        left_out: Rows of the file without a preference or a text.
        repeated: Rows of the file that repeat an earlier one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: str
    sha256: str
    accuracy: Measure | None
    kappa: float | None
    longest: float | None
    spearman: float | None
    n_systems: int
    position_bias: Measure | None
    unjudged: int
    majority: float | None = None
    left_out: int = 0
    repeated: int = 0


class Controls(BaseModel):
    """Win rates in percent of answers that deserve none, and of a real system, against a system's answers.

    Attributes:
        instructions: The instruction set's name.
        opponent: The system they are judged against.
        rows: By control; the other system's own win rate comes last.
        position_bias: As in `Agreement`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: str
    opponent: str
    rows: dict[str, Measure]
    position_bias: Measure | None


class Measured(BaseModel):
    """All that was measured of one judge.

    Attributes:
        judge: Its name.
        fingerprint: Its fingerprint.
        agreement: One a labelled set.
        controls: Control rows, if answers were given.
        seconds: Wall-clock seconds a comparison (both orders where the order matters), as the runner asks.
        dollars: US dollars a comparison, as charged; None if not known.
        machine: Where, in the measurer's words.
        shown_first: Percent of a sheet's verdicts for the answer shown first, ties as half; None for other judges.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge: str
    fingerprint: str
    agreement: list[Agreement] = []
    controls: Controls | None = None
    seconds: float | None = None
    dollars: float | None = None
    machine: str | None = None
    shown_first: Measure | None = None


class Clock:
    """Judges through the runner and counts what that took."""

    def __init__(self, annotate: Judging) -> None:
        self._annotate = annotate
        self.seconds, self.comparisons, self.spent, self.charged = 0.0, 0.0, 0.0, False

    def __call__(self, pairs: list[Pair]) -> Judgement:
        start = time.perf_counter()
        judgement = self._annotate(pairs)
        self.seconds += time.perf_counter() - start
        self.comparisons += judgement.asked / len(judgement.orders)
        self.spent += judgement.spent
        self.charged |= judgement.cost is not None
        return judgement

    @property
    def per_comparison(self) -> tuple[float | None, float | None]:
        """Seconds and dollars; None where nothing new was judged, or no cost is known."""
        if not self.comparisons:
            return None, None
        return self.seconds / self.comparisons, self.spent / self.comparisons if self.charged else None


def measure_agreement(judge: Judging, labels: str, path: Path) -> Agreement:
    """Agreement with a labelled set, orders averaged.

    Raises:
        UserError: If the file is no labelled set, or no pair got a verdict.
    """
    from implicit_if.harness import stats

    pairs, wanted, left_out, repeated = read_labelled(path)
    judgement = _judged(judge, labels, pairs)
    keep = judgement.judged
    said, truth = judgement.preferences[keep], [w for w, kept in zip(wanted, keep, strict=True) if kept]
    kept = [pair for pair, k in zip(pairs, keep, strict=True) if k]
    found = stats.agreement(said, truth)
    decided = [(_longer(p), t) for p, s, t in zip(kept, said, truth, strict=True) if s != 0.5 and t != 0.5]
    share = _mean([float(t > 0.5) for _, t in decided]) if decided else 0.0
    longest = stats.agreement([a for a, _ in decided], [t for _, t in decided])
    systems = sorted({pair.system.generator for pair in kept})
    rates = [
        [100 * _mean([v for v, pair in zip(values, kept, strict=True) if pair.system.generator == s]) for s in systems]
        for values in (said, truth)
    ]
    return Agreement(
        labels=labels,
        sha256=sha256_file(path),
        accuracy=as_measure(found.accuracy),
        kappa=_rounded(found.kappa, 3),
        longest=_rounded(longest.accuracy.value, 2),
        spearman=_rounded(stats.spearman(*rates), 2) if len(systems) > 2 else None,
        n_systems=len(systems),
        position_bias=_position_bias(judgement),
        unjudged=len(pairs) - int(keep.sum()),
        majority=round(100 * max(share, 1 - share), 2) if decided else None,
        left_out=len(left_out),
        repeated=len(repeated),
    )


def measure_controls(
    judge: Judging, answers: Sequence[Output], others: Sequence[Output], instructions: str
) -> Controls:
    """Control rows against a system's answers, and the longer of two systems' answers.

    Args:
        judge: The judge under the runner.
        answers: The opponent's, with their instructions' texts.
        others: Another system's, to the same instructions.
        instructions: The instruction set's name.

    Raises:
        UserError: If the two do not answer the same instructions, or no pair of a row got a verdict.
    """
    from implicit_if.harness import stats

    rows: dict[str, Measure] = {}
    bias = None
    for name, pairs in control_pairs(answers, others).items():
        judgement = _judged(judge, name, pairs)
        found = as_measure(stats.win_rate(judgement.preferences[judgement.judged], n_expected=len(pairs)))
        if found is not None:
            rows[name] = found
        bias = _position_bias(judgement) if name == others[0].generator else bias
    return Controls(instructions=instructions, opponent=answers[0].generator, rows=rows, position_bias=bias)


def _judged(judge: Judging, name: str, pairs: list[Pair]) -> Judgement:
    judgement = judge(pairs)
    if not judgement.n_judged:
        sheet = judgement.judge.partition(":")[0] in ("human", "sheet")
        raise UserError(
            f"{name}: none of its {len(pairs)} pairs has a verdict by {judgement.judge} (the first: "
            f"{judgement.unjudged[0].error}). "
            + (
                "Fill in the sheet of these pairs; the judge sheet with --sheet FOLDER, a new one, writes it."
                if sheet
                else "Fix that and run the same command again."
            )
        )
    return judgement


def _longer(pair: Pair) -> float:
    system, reference = map(len, pair.shown)
    return 0.5 if system == reference else float(system > reference)


def _position_bias(judgement: Judgement) -> Measure | None:
    from implicit_if.harness import stats

    if len(judgement.orders) < 2:
        return None
    orders = (judgement.in_order(order)[judgement.judged] for order in ("system_first", "reference_first"))
    return as_measure(stats.position_bias(*orders))


def _shown_first(judge: SheetJudge) -> Measure | None:
    import numpy as np

    from implicit_if.harness import stats

    return as_measure(stats.win_rate(np.array(judge.for_answer_1)))


def as_measure(estimate: Score) -> Measure | None:
    """An estimate to two decimals; None without a value."""
    if estimate.value is None:
        return None
    low, high = (None, None) if estimate.interval is None else estimate.interval.ends
    return Measure(value=round(estimate.value, 2), low=_rounded(low, 2), high=_rounded(high, 2), n=estimate.n_judged)


def measured_of(judge: Judge, clock: Clock, machine: str | None, **found: Any) -> Measured:
    """What was found, with what it took; reading a sheet says nothing of the raters' time and pay."""
    on_sheet = isinstance(judge, SheetJudge)
    seconds, dollars = (None, None) if on_sheet else clock.per_comparison
    return Measured(
        judge=judge.name,
        fingerprint=judge.fingerprint,
        seconds=None if seconds is None else float(f"{seconds:.2g}"),
        dollars=None if dollars is None else float(f"{dollars:.2g}"),
        machine=machine,
        shown_first=_shown_first(judge) if isinstance(judge, SheetJudge) else None,
        **found,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
