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
    """

    key: str
    prefers_first: float | None
    raw: str = ""
    error: str | None = None
    latency: float | None = None
    cost: float | None = None


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
class Probing(Protocol):
    """A judge that asks its server something before it can be used; a dry run must not."""

    def without_asking(self) -> Judge:
        """A judge whose estimate is at least as high, which asks nothing."""
        ...
