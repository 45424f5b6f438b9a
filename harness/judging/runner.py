"""The runner: asks a judge about pairs, in both orders, or about single answers, and keeps every verdict at once.

It serves the `implicit-if judge` command and the lm-eval task alike. Whatever stops it (Ctrl-C, kill -9, a judge's
permanent fault, the cost limit), the same call continues where it stopped.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.annotations import WITHDRAWN, AnnotationStore, Order, annotation_key
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.annotation_writer import AnnotationWriter, sigterm_as_exit
from implicit_if.harness.judging.cost_limit import CostLimitError, Source, announce, check_limit, show_dollars
from implicit_if.harness.judging.judgement import Judgement, Unjudged, latency_of
from implicit_if.harness.judging.pairs import EMPTY, IDENTICAL, Item, SingleAnswer, annotation_of
from implicit_if.harness.judging.protocol import (
    Comparison,
    Estimate,
    Judge,
    JudgeError,
    Verdict,
    candidates,
    is_pointwise,
)


def annotate(
    pairs: Iterable[Item],
    judge: Judge,
    store_path: str | Path,
    *,
    progress: bool = True,
    max_cost: float | None = None,
    spent: float = 0.0,
    more: float | None = 0.0,
    dry_run: bool = False,
    flush_every: int = 64,
    flush_seconds: float = 2.0,
    tell_reused: bool = True,
) -> Judgement:
    """Judges pairs, reusing the verdicts in a file and appending new ones to it.

    A judge whose verdict can depend on the order sees each pair twice. Identical answers are a tie without a call, an
    empty single answer is no attempt. Equal comparisons are asked once. A failed verdict is stored with its error (but
    see `Judge`) and asked again by the next call. Any number of processes may share the file. Memory holds no texts,
    about 400 bytes a pair.

    Args:
        pairs: The pairs, or single answers; a list, or anything that can be iterated more than once and yields the
            same.
        judge: The judge.
        store_path: JSON Lines file of annotations; created if missing, only ever appended to.
        progress: Shows a bar on stderr, in the process of rank 0 only (`RANK`, else `LOCAL_RANK`).
        max_cost: US dollars this call may spend. A paid judge does not start if the estimate is above, and is asked
            no more where the next verdict could take the reported cost above (see `Source`); what is in flight then
            is awaited and kept. Each process counts its own.
        spent: US dollars of the limit that another judge has used.
        more: US dollars that another judge, asked later under the same limit, is estimated to take; None if unknown.
        dry_run: Prints the estimate and judges nothing; no request is made.
        flush_every: Verdicts after which the file is written and synced.
        flush_seconds: Seconds after which verdicts are written, also while nothing more arrives.
        tell_reused: Says on stderr how many stored verdicts were reused, if any.

    Returns:
        The verdicts; with `dry_run`, those already stored.

    Raises:
        UserError: If the store is damaged or cannot be written, or the judge decides about the other kind of items.
        CostLimitError: See `max_cost`.
        JudgeError: On a permanent fault of the judge, or if it never gives a verdict; says how much is kept.
        TypeError: If `pairs` can be iterated only once.
    """
    if flush_every < 1:
        raise ValueError(f"flush_every is {flush_every}, expected at least 1")
    if isinstance(pairs, Iterator):
        raise TypeError("pairs can be iterated only once; give a list, or an object with its own __iter__")
    store = AnnotationStore(store_path)

    def planned(one: Judge, *, record: bool) -> _Run:
        run = _Run(pairs, one, AnnotationWriter(store, flush_every, flush_seconds))
        run.plan(record=record)
        return run

    left = None if max_cost is None else max_cost - spent
    judge, probing = _find_out(judge, planned, left, dry_run)
    run = planned(judge, record=not dry_run)
    run.spent += probing
    estimate = None
    if judge.paid or dry_run:
        estimate = run.estimate()
        also = f"; the judge of attempts about {show_dollars(more)} more" if more else ""
        announce(_label(judge), estimate, run.n_todo(), _rank(), also)
        if run.n_todo() and not dry_run:
            check_limit(judge.name, estimate, max_cost, run.spent + spent, more)
    if not dry_run and run.n_todo():
        try:
            with sigterm_as_exit(), run.writer, _bar(run, progress) as bar:
                run.ask(bar, max_cost, spent)
        except JudgeError as error:
            raise JudgeError(f"{error} {run.kept()}") from error
        except CostLimitError as error:
            raise CostLimitError(f"{error} {run.kept()}") from error
        except (KeyboardInterrupt, SystemExit):
            print(f"\ninterrupted. {run.kept()}", file=sys.stderr)
            raise
    if run.reused and tell_reused and not dry_run and _rank() == 0:
        print(
            f"judge {_label(judge)}: reused {run.reused} verdicts of {store.path}, asked {run.asked}", file=sys.stderr
        )
    return run.judgement(estimate)


def estimated_cost(pairs: Iterable[Item], judge: Judge, store_path: str | Path) -> float | None:
    """US dollars that the verdicts missing in a file would cost by the judge's costliest kind; None if unknown."""
    costs = []
    for one in candidates(judge):
        run = _Run(pairs, one, AnnotationWriter(AnnotationStore(store_path), 1, 1.0))
        run.plan(record=False)
        costs.append(run.estimate().cost if run.n_todo() else 0.0)
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _find_out(judge: Any, planned: Callable[..., _Run], max_cost: float | None, dry_run: bool) -> tuple[Judge, float]:
    """Which of its candidates a judge is, and what asking the server cost; it is asked only if verdicts are missing."""
    if len(found := candidates(judge)) == 1:
        return found[0], 0.0
    runs = [planned(candidate, record=False) for candidate in found]
    if complete := next((run for run in runs if not run.n_todo()), None):
        if complete.proven and not dry_run:
            judge.settle(complete.judge)
        return complete.judge, 0.0
    by_cost = sorted(
        ((run.estimate(), run) for run in runs), key=lambda e: math.inf if e[0].cost is None else e[0].cost
    )
    (least, _), (most, dearest) = by_cost[0], by_cost[-1]
    name = dearest.judge.name
    if dry_run:
        print(
            f"judge {name}: what the server can do is not asked now; this is for the kind that costs more",
            file=sys.stderr,
        )
        return dearest.judge, 0.0
    if dearest.judge.paid:
        announce(
            _label(dearest.judge),
            most,
            dearest.n_todo(),
            _rank(),
            "; what the server can do, which may be cheaper, is asked first",
        )
        check_limit(name, least, max_cost)
    dearest.writer.prepare()
    cost = judge.probe()
    return judge.candidates[0], cost or 0.0


class _Known(NamedTuple):
    """What is kept of a verdict: some 350 bytes with its key, however long the answers are."""

    preference: float
    latency: float | None
    cost: float | None


class _Run:
    """The state of one call of `annotate`."""

    def __init__(self, pairs: Iterable[Item], judge: Judge, writer: AnnotationWriter) -> None:
        self.pairs, self.judge, self.writer = pairs, judge, writer
        self.orders: tuple[Order, ...] = ("system_first", "reference_first") if judge.ordered else ("none",)
        self.known: dict[str, _Known] = {}
        self.errors: dict[str, str] = {}
        self.ids: list[str] = []
        self.keys: list[str] = []  # [n * orders]
        self.spent = 0.0
        self.reused = self.asked = 0
        self.proven = False  # whether the judge is known to give verdicts
        self._stands: Callable[[Comparison, float], bool] | None = getattr(judge, "stands", None)
        self._reopened: set[str] = set()
        self._in_flight: dict[str, tuple[Item, Order]] = {}

    def plan(self, *, record: bool) -> None:
        """Reads the store, names every comparison, and enters the ties of identical answers."""
        stored: dict[str, _Known] = {}
        for annotation in self.writer.store:
            if annotation.fingerprint == self.judge.fingerprint:
                if annotation.preference is not None:
                    self.proven |= annotation.raw not in (IDENTICAL, EMPTY)
                    stored[annotation.key] = _Known(annotation.preference, annotation.latency, annotation.cost)
                elif annotation.error == WITHDRAWN:
                    stored.pop(annotation.key, None)
        for pair in self.pairs:
            if isinstance(pair, SingleAnswer) != is_pointwise(self.judge):
                one, two = ("single answers", "pairs")[:: -1 if isinstance(pair, SingleAnswer) else 1]
                raise UserError(f"judge {self.judge.name}: decides about {one}, found {two}. Give another judge.")
            self.ids.append(pair.instruction_id)
            system, reference = pair.hashes
            for order in self.orders:
                key = annotation_key(self.judge.fingerprint, pair.instruction_id, system, reference, order)
                self.keys.append(key)
                known = stored.pop(key, None)
                if known is not None:
                    self.known[key] = known
                    self.reused += 1
                    if self._stands and not self._stands(pair.comparison(key, order), known.preference):
                        del self.known[key]
                        self.reused -= 1
                        self._reopened.add(key)
                if pair.settled is not None and key not in self.known:
                    value, reason = pair.settled
                    self._settle(pair, order, Verdict(key, value, raw=reason, cost=0.0), store=record)
        if record:
            self.writer.flush()

    def todo(self) -> Iterator[tuple[Comparison, Item, Order]]:
        """The comparisons without a verdict, each once, made as they are read."""
        seen: set[str] = set()
        shown = ((pair, order) for pair in self.pairs for order in self.orders)
        for (pair, order), key in zip(shown, self.keys, strict=True):
            if key not in self.known and key not in seen:
                seen.add(key)
                yield pair.comparison(key, order), pair, order

    def n_todo(self) -> int:
        """Comparisons without a verdict."""
        return len(set(self.keys) - self.known.keys())

    def estimate(self) -> Estimate:
        """What the missing verdicts would take."""
        return self.judge.estimate(comparison for comparison, _, _ in self.todo())

    def ask(self, bar: Any, max_cost: float | None, before: float = 0.0) -> None:
        """Asks for every missing verdict, as far as the limit permits, of which `before` is used."""
        comparisons = self._sent()
        source = Source(comparisons, self.judge, max_cost, spent=self.spent + before, proven=self.proven)
        verdicts = self.judge.judge(source)
        try:
            for verdict in verdicts:
                asked = self._in_flight.pop(verdict.key, None)
                if asked is None:
                    raise JudgeError(f"judge {self.judge.name}: a verdict on {verdict.key!r}, which was not asked.")
                source.hear(verdict)
                self.asked += 1
                self._settle(*asked, verdict)
                bar.set_postfix_str(self._status(), refresh=False)
                bar.update()
        finally:
            if isinstance(verdicts, Generator):  # it may hold connections or threads
                verdicts.close()
        source.check()
        for _ in comparisons:  # what a judge leaves unread is missing too
            pass
        for key, asked in self._in_flight.items():
            self._settle(*asked, Verdict(key, None, error="the judge returned no verdict"))

    def kept(self) -> str:
        """What an interruption leaves, for its message."""
        done = sum(key in self.known for key in self.keys)
        return (
            f"{done} of {len(self.keys)} verdicts are kept in {self.writer.store.path}; "
            f"run the same command again to judge the rest."
        )

    def judgement(self, estimate: Estimate | None) -> Judgement:
        """The verdicts in the pairs' order."""
        known, k = self.known, len(self.orders)
        used = [known[key] for key in dict.fromkeys(self.keys) if key in known]
        costs = [one.cost for one in used if one.cost is not None]
        return Judgement(
            judge=self.judge.name,
            fingerprint=self.judge.fingerprint,
            orders=self.orders,
            instruction_ids=self.ids,
            by_order={
                order: array("d", (known[key].preference if key in known else math.nan for key in self.keys[i::k]))
                for i, order in enumerate(self.orders)
            },
            unjudged=[
                Unjudged(self.ids[i // k], self.orders[i % k], self.errors.get(key, "not judged yet"))
                for i, key in enumerate(self.keys)
                if key not in known
            ],
            cost=math.fsum(costs) if costs else None,
            spent=self.spent,
            asked=self.asked,
            latency=latency_of([one.latency for one in used if one.latency is not None]),
            estimate=estimate,
        )

    def _sent(self) -> Iterator[Comparison]:
        for comparison, pair, order in self.todo():
            self._in_flight[comparison.key] = pair, order
            yield comparison

    def _settle(self, pair: Item, order: Order, verdict: Verdict, *, store: bool = True) -> None:
        """Keeps a verdict and hands it to the writer."""
        annotation = annotation_of(pair, self.judge.name, self.judge.fingerprint, order, verdict)
        self.spent += annotation.cost or 0.0
        if annotation.preference is None:
            self.errors[verdict.key] = annotation.error or ""
            if self._stands:
                store &= verdict.key in self._reopened
                annotation = annotation.model_copy(update={"error": WITHDRAWN})
        else:
            self.errors.pop(verdict.key, None)
            self.known[verdict.key] = _Known(annotation.preference, annotation.latency, annotation.cost)
        if store:
            self.writer.add(annotation)

    def _status(self) -> str:
        failed = f"{len(self.errors)} failed" if self.errors else ""
        return ", ".join(filter(None, (show_dollars(self.spent) if self.judge.paid else "", failed)))


def _label(judge: Judge) -> str:
    return f"of attempts {judge.name}" if is_pointwise(judge) else judge.name


def _rank() -> int:
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def _bar(run: _Run, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=run.n_todo(),
        desc=f"judging with {run.judge.name}" if not is_pointwise(run.judge) else f"attempts by {run.judge.name}",
        unit="verdict",
        file=sys.stderr,
        disable=not progress or _rank() > 0,
    )
