"""What a judge is. Everything else about judging (orders, cache, resume, totals) is the runner's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from implicit_if.harness.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """One question to a judge: which of two answers is better?

    Attributes:
        key: Handed back with the verdict.
        instruction: The instruction's text.
        first: The answer shown first.
        second: The answer shown second.
    """

    key: str
    instruction: str
    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """One answer of a judge.

    Attributes:
        key: The comparison's key.
        prefers_first: Probability in [0, 1] that the first answer is better; None if there is no verdict.
        raw: What the judge said.
        error: Why there is no verdict; such a comparison may be asked again.
        latency: Seconds, if measured.
        cost: US dollars, if known.
        remedy: Given where the judge did answer, but without a verdict: which of its options may help. A judge
            that never gives anything else is stopped with it.
    """

    key: str
    prefers_first: float | None
    raw: str = ""
    error: str | None = None
    latency: float | None = None
    cost: float | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What judging would take, before it starts.

    Attributes:
        calls: Requests to a model.
        cost: US dollars, an estimate and no bound (see `LLMJudge.estimate`); None if the judge's prices are not known.
    """

    calls: int
    cost: float | None = field(default=None)


class JudgeError(UserError):
    """A fault that asking again would not help (a wrong key, an unknown model): judging stops, verdicts are kept."""


class Judge(Protocol):
    """A judge.

    Some have more, which is found by name:

    - One that needs a key has `check_ready()`, which raises a `UserError` where it is missing.
    - One whose verdicts may change where it reads them has `stands(comparison, prefers_first) -> bool`: whether a
      stored verdict is what it would say now, or it can say nothing about the comparison. Each run checks the stored
      ones: a changed verdict replaces the stored one, one that is gone is stored as taken back, and no failure is.
    - One that is one of several, which only its server can tell, has `candidates`, the judges it may be;
      `settle(candidate)`, called where every verdict wanted is stored under that one's fingerprint; and `probe()`,
      which asks the server, settles, and returns what that cost in US dollars, if known.
    - One that decides about single answers has `pointwise = True`: it is asked whether a comparison's first answer
      attempts the instruction, `prefers_first` is the probability that it does, and there is no second answer.

    Attributes:
        name: Its name in tables, e.g. "longest" or "openai:gpt-4.1-mini".
        fingerprint: Hex sha256 over everything that shapes a verdict: model and revision, prompt, parser, sampling,
            limits. Equal fingerprints mean that a stored verdict may be reused.
        ordered: True if the presentation order can matter, so that both orders must be judged.
        paid: True if a verdict may cost money.
    """

    name: str
    fingerprint: str
    ordered: bool
    paid: bool

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields one verdict per comparison as they come, in any order; reads `comparisons` lazily.

        `comparisons` may have a method `hold() -> bool`, whether a verdict in flight should be awaited before another
        comparison is read; a judge with several in flight heeds it.

        Raises:
            JudgeError: On a permanent fault; verdicts yielded before remain valid.
        """
        ...

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """Calls and cost of judging these comparisons, without judging."""
        ...


class LocalJudge:
    """Base of judges that run here for nothing and see no presentation order; see `Judge`."""

    ordered = False
    paid = False

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """No calls and no cost."""
        return Estimate(calls=0, cost=0.0)


def candidates(judge: Judge) -> tuple[Judge, ...]:
    """The judges that this one may turn out to be, without asking any server; for most, itself."""
    found: tuple[Judge, ...] = getattr(judge, "candidates", (judge,))
    return found


def is_pointwise(judge: Judge) -> bool:
    """Whether a judge decides about single answers."""
    return bool(getattr(judge, "pointwise", False))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
