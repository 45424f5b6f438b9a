"""What a judge is. Everything else about judging (orders, cache, resume, totals) is the runner's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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
        remedy: Given where the judge did answer, but without a verdict: which of its options may mend that. A judge
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
        cost: US dollars, an upper estimate; None if the judge's prices are not known.
    """

    calls: int
    cost: float | None = field(default=None)


class JudgeError(UserError):
    """A fault that asking again would not mend (a wrong key, an unknown model): judging stops, verdicts are kept."""


class Judge(Protocol):
    """A judge.

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

        Raises:
            JudgeError: On a permanent fault; verdicts yielded before remain valid.
        """
        ...

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """Calls and cost of judging these comparisons, without judging."""
        ...


@runtime_checkable
class Rereading(Protocol):
    """A judge, not `ordered`, whose verdicts may change where it reads them: each run checks the stored ones.

    A changed verdict replaces the stored one, one that is gone is stored as taken back, and no failure is stored.
    """

    def stands(self, comparison: Comparison, prefers_first: float) -> bool:
        """Whether a stored verdict is what this judge would say now, or it can say nothing about the comparison."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A judge that is one of several, which only its server can tell; it is asked if a verdict is missing.

    Attributes:
        candidates: The judges it may be, of which none asks the server anything on its own; one once that is settled.
    """

    @property
    def candidates(self) -> tuple[Judge, ...]: ...

    def settle(self, candidate: Judge) -> None:
        """Makes it this one without asking, because every verdict wanted is stored under its fingerprint."""
        ...

    def probe(self) -> float | None:
        """Asks the server, settles, and returns what that cost in US dollars, if known.

        Raises:
            JudgeError: If the server can do nothing that is needed, or does not answer.
        """
        ...


@runtime_checkable
class Rationed(Protocol):
    """Comparisons that should not be read as fast as possible; a judge with several in flight heeds it."""

    def hold(self) -> bool:
        """Whether a verdict in flight should be awaited before another comparison is read."""
        ...
