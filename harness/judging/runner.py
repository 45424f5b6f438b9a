"""The runner: asks a judge about pairs, in both orders, and keeps every verdict in a file at once.

It serves the `implicit-if judge` command and the lm-eval task alike. Whatever stops it (Ctrl-C, kill -9, a judge's
permanent fault, the cost limit), the same call continues where it stopped.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.annotations import Annotation, AnnotationStore, Order, annotation_key
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.judgement import Judgement, Unjudged, latency_of
from implicit_if.harness.judging.ledger import Ledger, Writer
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Comparison, Estimate, Judge, JudgeError, Probing, Verdict

IDENTICAL = "identical answers"


class CostLimitError(UserError):
    """Judging would cost, or has cost, more than the user allowed; verdicts obtained are kept."""


def annotate(
    pairs: Iterable[Pair],
    judge: Judge,
    store_path: str | Path,
    *,
    progress: bool = True,
    max_cost: float | None = None,
    dry_run: bool = False,
    flush_every: int = 64,
    flush_seconds: float = 2.0,
) -> Judgement:
    """Judges pairs, reusing the verdicts in a file and appending new ones to it.

    A judge whose verdict can depend on the order sees each pair twice. Identical answers are a tie without a
    call. Equal comparisons are asked once. A failed verdict is stored with its error and asked again by the next
    call. Any number of processes may share the file. Memory holds no texts, about 400 bytes a pair.

    Args:
        pairs: The pairs; a list, or anything that can be iterated more than once and yields the same.
        judge: The judge.
        store_path: JSON Lines file of annotations; created if missing, only ever appended to.
        progress: Shows a bar on stderr, in the process of rank 0 only (`RANK`, else `LOCAL_RANK`).
        max_cost: US dollars this call may spend. A paid judge does not start if the estimate is above, and is
            stopped once the reported cost is; requests then in flight may still be charged. Each process counts
            its own.
        dry_run: Prints the estimate and judges nothing; no request is made.
        flush_every: Verdicts after which the file is written and synced.
        flush_seconds: Seconds after which the next verdict is written with those before it.

    Returns:
        The verdicts; with `dry_run`, those already stored.

    Raises:
        UserError: If the store is damaged or cannot be written.
        CostLimitError: See `max_cost`.
        JudgeError: On a permanent fault of the judge; says how much is kept.
        TypeError: If `pairs` can be iterated only once.
    """
    if flush_every < 1:
        raise ValueError(f"flush_every is {flush_every}, expected at least 1")
    if isinstance(pairs, Iterator):
        raise TypeError("pairs can be iterated only once; give a list, or an object with its own __iter__")
    if dry_run and isinstance(judge, Probing):
        judge = judge.without_asking()
    run = _Run(pairs, judge, AnnotationStore(store_path), flush_every, flush_seconds)
    run.plan(record=not dry_run)
    estimate = _estimate(run, max_cost, dry_run) if judge.paid or dry_run else None
    if not dry_run and run.n_todo():
        try:
            with run.writer, _bar(run, progress) as bar:
                run.ask(bar, max_cost)
        except JudgeError as error:
            raise JudgeError(f"{error} {run.kept()}") from error
        except CostLimitError as error:
            raise CostLimitError(f"{error} {run.kept()}") from error
        except KeyboardInterrupt:
            print(f"\ninterrupted. {run.kept()}", file=sys.stderr)
            raise
    return run.judgement(estimate)


def _estimate(run: _Run, max_cost: float | None, dry_run: bool) -> Estimate:
    """Prints calls and cost; refuses to start above the limit."""
    name = run.judge.name
    estimate = run.judge.estimate(comparison for comparison, _ in run.todo())
    cost = "cost unknown" if estimate.cost is None else f"estimated cost at most ${estimate.cost:.2f}"
    rank = f"rank {_rank()}: " if _rank() else ""
    print(f"{rank}judge {name}: {run.n_todo()} verdicts to obtain, {estimate.calls} calls, {cost}", file=sys.stderr)
    if max_cost is None or dry_run or not run.n_todo():
        return estimate
    if estimate.cost is None:
        raise CostLimitError(
            f"judge {name}: its prices are not known, so a limit of ${max_cost:.2f} cannot be kept. "
            f"Give the prices as options of the judge, or leave out --max-cost."
        )
    if estimate.cost > max_cost:
        raise CostLimitError(
            f"judge {name}: the estimated cost ${estimate.cost:.2f} is above the limit ${max_cost:.2f}; nothing was "
            f"asked. Raise --max-cost, or judge fewer pairs with --limit."
        )
    return estimate


class _Asked(NamedTuple):
    """What makes an annotation of a verdict."""

    row: int
    instruction_id: str
    order: Order
    system_sha256: str
    reference_sha256: str


class _Run:
    """The state of one call of `annotate`."""

    def __init__(
        self, pairs: Iterable[Pair], judge: Judge, store: AnnotationStore, flush_every: int, flush_seconds: float
    ) -> None:
        self.pairs, self.judge = pairs, judge
        self.orders: tuple[Order, ...] = ("system_first", "reference_first") if judge.ordered else ("none",)
        self.writer = Writer(store, flush_every, flush_seconds)
        self.ledger = Ledger()
        self.ids: list[str] = []
        self.slots = array("q")  # [n * orders] rows of the ledger
        self.spent = 0.0
        self._in_flight: dict[str, _Asked] = {}

    def plan(self, *, record: bool) -> None:
        """Reads the store, gives every comparison its row, and enters the ties of identical answers."""
        for annotation in self.writer.store:
            if annotation.fingerprint == self.judge.fingerprint and annotation.preference is not None:
                self.ledger.enter(self.ledger.row(annotation.key), annotation)
        for pair in self.pairs:
            self.ids.append(pair.instruction_id)
            for key, asked in self._keys(pair):
                self.slots.append(asked.row)
                if pair.system.output == pair.reference.output and self.ledger.is_open(asked.row):
                    self._settle(asked, Verdict(key, 0.5, raw=IDENTICAL, cost=0.0), store=record)
        if record:
            self.writer.flush()

    def todo(self) -> Iterator[tuple[Comparison, _Asked]]:
        """The comparisons without a verdict, each once, made as they are read."""
        seen = bytearray(len(self.ledger))
        for pair in self.pairs:
            for key, asked in self._keys(pair):
                if self.ledger.is_open(asked.row) and not seen[asked.row]:
                    seen[asked.row] = 1
                    yield _comparison(key, pair, asked.order), asked

    def n_todo(self) -> int:
        """Comparisons without a verdict."""
        return sum(self.ledger.is_open(row) for row in set(self.slots))

    def ask(self, bar: Any, max_cost: float | None) -> None:
        """Asks for every missing verdict."""
        comparisons = self._sent()
        verdicts = self.judge.judge(comparisons)
        try:
            for verdict in verdicts:
                asked = self._in_flight.pop(verdict.key, None)
                if asked is None:
                    raise JudgeError(f"judge {self.judge.name}: a verdict on {verdict.key!r}, which was not asked.")
                self._settle(asked, verdict)
                bar.set_postfix_str(self._status(), refresh=False)
                bar.update()
                self._check_cost(max_cost)
        finally:
            if isinstance(verdicts, Generator):  # it may hold connections or threads
                verdicts.close()
        for _ in comparisons:  # what a judge leaves unread is missing too
            pass
        for key, asked in self._in_flight.items():
            self._settle(asked, Verdict(key, None, error="the judge returned no verdict"))

    def kept(self) -> str:
        """What an interruption leaves, for its message."""
        done = sum(not self.ledger.is_open(row) for row in self.slots)
        return (
            f"{done} of {len(self.slots)} verdicts are kept in {self.writer.store.path}; "
            f"run the same command again to judge the rest."
        )

    def judgement(self, estimate: Estimate | None) -> Judgement:
        """The verdicts in the pairs' order."""
        ledger, k = self.ledger, len(self.orders)
        used = sorted(set(self.slots))
        costs = [ledger.cost[row] for row in used if not math.isnan(ledger.cost[row])]
        return Judgement(
            judge=self.judge.name,
            fingerprint=self.judge.fingerprint,
            orders=self.orders,
            instruction_ids=self.ids,
            by_order={
                order: array("d", (ledger.preference[row] for row in self.slots[i::k]))
                for i, order in enumerate(self.orders)
            },
            unjudged=[
                Unjudged(self.ids[i // k], self.orders[i % k], ledger.errors.get(row, "not judged yet"))
                for i, row in enumerate(self.slots)
                if ledger.is_open(row)
            ],
            cost=math.fsum(costs) if costs else None,
            spent=self.spent,
            latency=latency_of(array("d", (ledger.latency[row] for row in used))),
            estimate=estimate,
        )

    def _keys(self, pair: Pair) -> Iterator[tuple[str, _Asked]]:
        system, reference = pair.system.sha256, pair.reference.sha256
        for order in self.orders:
            key = annotation_key(self.judge.fingerprint, pair.instruction_id, system, reference, order)
            yield key, _Asked(self.ledger.row(key), pair.instruction_id, order, system, reference)

    def _sent(self) -> Iterator[Comparison]:
        for comparison, asked in self.todo():
            self._in_flight[comparison.key] = asked
            yield comparison

    def _settle(self, asked: _Asked, verdict: Verdict, *, store: bool = True) -> None:
        """Enters a verdict and hands it to the writer."""
        annotation = _annotation(self.judge, asked, verdict)
        self.ledger.enter(asked.row, annotation)
        self.spent += annotation.cost or 0.0
        if store:
            self.writer.add(annotation)

    def _status(self) -> str:
        failed = f"{len(self.ledger.errors)} failed" if self.ledger.errors else ""
        return ", ".join(filter(None, (f"${self.spent:.2f}" if self.judge.paid else "", failed)))

    def _check_cost(self, max_cost: float | None) -> None:
        if max_cost is not None and self.spent > max_cost:
            raise CostLimitError(
                f"judge {self.judge.name}: stopped, the cost of this run reached ${self.spent:.2f}, above the limit "
                f"${max_cost:.2f}."
            )


def _comparison(key: str, pair: Pair, order: Order) -> Comparison:
    answers = (pair.system.output, pair.reference.output)
    first, second = answers[::-1] if order == "reference_first" else answers
    return Comparison(key, pair.instruction, first, second)


def _annotation(judge: Judge, asked: _Asked, verdict: Verdict) -> Annotation:
    """The verdict as it is stored: for the system, whichever answer was first."""
    first, error = verdict.prefers_first, verdict.error
    if first is None or error is not None:
        first, error = None, error or "the judge gave no reason"
    elif not 0 <= first <= 1:
        first, error = None, f"the judge's preference is {first!r}, expected a probability in [0, 1]"
    preference = 1 - first if first is not None and asked.order == "reference_first" else first
    return Annotation(
        instruction_id=asked.instruction_id,
        order=asked.order,
        preference=preference,
        raw=verdict.raw,
        error=error,
        judge=judge.name,
        fingerprint=judge.fingerprint,
        system_sha256=asked.system_sha256,
        reference_sha256=asked.reference_sha256,
        latency=_finite(verdict.latency),
        cost=_finite(verdict.cost),
    )


def _finite(value: float | None) -> float | None:
    """JSON holds no NaN; a judge that measured none must not cost the batch."""
    return value if value is not None and math.isfinite(value) else None


def _rank() -> int:
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def _bar(run: _Run, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=run.n_todo(),
        desc=f"judging with {run.judge.name}",
        unit="verdict",
        file=sys.stderr,
        disable=not progress or _rank() > 0,
    )
