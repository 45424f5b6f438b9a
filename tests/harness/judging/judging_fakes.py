"""Judges and pairs made for these tests; also run as a program by the tests that need a second process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from implicit_if.harness.judging import Comparison, Estimate, Pair, Verdict, annotate
from implicit_if.harness.outputs import Output, instruction_id
from implicit_if.harness.storage import sha256_text


def make_pair(number: int, system: str | None = None, reference: str | None = None) -> Pair:
    """A pair about a made-up instruction; the answers differ unless given."""
    text = f"Tell me about the number {number}."
    return Pair(
        instruction_id(text),
        text,
        Output(instruction=text, output=f"system says {number}" if system is None else system, generator="sys"),
        Output(
            instruction=text, output=f"reference says {number}" if reference is None else reference, generator="ref"
        ),
    )


class FakeJudge:
    """Answers by a function and remembers what it was asked."""

    def __init__(
        self,
        prefers_first: Callable[[Comparison], float | Verdict],
        *,
        version: str = "1",
        ordered: bool = True,
        paid: bool = False,
        price: float | None = None,
        delay: float = 0.0,
    ) -> None:
        self.name = "fake"
        self.fingerprint = sha256_text(f"fake {version}")
        self.ordered, self.paid, self.price, self.delay = ordered, paid, price, delay
        self.prefers_first = prefers_first
        self.asked: list[Comparison] = []

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for comparison in comparisons:
            self.asked.append(comparison)
            time.sleep(self.delay)
            found = self.prefers_first(comparison)
            yield found if isinstance(found, Verdict) else Verdict(comparison.key, found, cost=self.price, latency=0.25)

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        calls = sum(1 for _ in comparisons)
        return Estimate(calls, None if self.price is None else calls * self.price)


def main(store: str, first: str, last: str, delay: str) -> None:
    """Judges the pairs first..last slowly; `tests` kill this process, or run several at once."""
    pairs = [make_pair(number) for number in range(int(first), int(last))]
    judge = FakeJudge(lambda c: 0.75, delay=float(delay))
    Path(f"{store}.started.{first}").touch()
    annotate(pairs, judge, store, progress=False, flush_every=4, flush_seconds=60)


if __name__ == "__main__":
    main(*sys.argv[1:])
