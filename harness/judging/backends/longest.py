"""The judge `longest`: more characters win. The baseline every other judge has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison, LocalJudge, Verdict
from implicit_if.harness.storage import sha256_json


class LongestJudge(LocalJudge):
    """Prefers the answer with more characters (Unicode code points); equal lengths are a tie, 0.5."""

    name = "longest"
    fingerprint = sha256_json({"judge": "longest", "unit": "code points", "version": 1})

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields one verdict per comparison, in order."""
        for c in comparisons:
            first, second = len(c.first), len(c.second)
            prefers_first = 0.5 if first == second else float(first > second)
            yield Verdict(c.key, prefers_first, raw=f"{first} against {second} characters", cost=0.0)


def fingerprint() -> str:
    """The judge's fingerprint."""
    return LongestJudge.fingerprint


def build(argument: str | None, options: Mapping[str, Any]) -> LongestJudge:
    """The judge; it takes neither argument nor options.

    Raises:
        UserError: If either is given.
    """
    if argument is not None or options:
        found = f"argument {argument!r}" if argument is not None else f"options {', '.join(sorted(options))}"
        raise UserError(f"judge 'longest' takes neither argument nor options, found {found}. Use just 'longest'.")
    return LongestJudge()
