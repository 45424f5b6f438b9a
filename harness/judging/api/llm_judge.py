"""The judge behind every API backend: asks through one client, reads verdicts, counts cost, knows when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from implicit_if.harness.judging.api.client import ApiClient, Limits
from implicit_if.harness.judging.api.endpoint import Endpoint
from implicit_if.harness.judging.api.event_loop import run_alone, stream
from implicit_if.harness.judging.api.faults import Malformed, Rejected, Unanswered
from implicit_if.harness.judging.api.options import Prices
from implicit_if.harness.judging.api.verdict_text import record, token_counts
from implicit_if.harness.judging.protocol import Comparison, Estimate, JudgeError, Verdict
from implicit_if.harness.storage import sha256_json

_HOPELESS = 8
_RAW_CHARS = 20_000


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        body: What is posted.
        text: The prompt's text, whose length the estimate counts.
        max_tokens: The most tokens the judge may write; None if that is not known.
        cut: Which texts were longer than the limit.
    """

    body: dict[str, Any]
    text: str
    max_tokens: int | None
    cut: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        prefers_first: Probability that the first answer is better; None if the answer holds no verdict.
        error: Why it holds none.
        raw: What the judge said, and what it said it with.
        hopeless: True if the next answer will lack the same thing (logprobs): no use asking on.
    """

    prefers_first: float | None
    error: str | None
    raw: dict[str, Any]
    hopeless: bool = False


class Dialect(Protocol):
    """What differs between APIs and protocols.

    Attributes:
        remedy: What may help where answers hold no verdict; see `Verdict`.
    """

    remedy: str

    def question(self, comparison: Comparison) -> Question:
        """The request that asks about a comparison."""
        ...

    def reading(self, content: dict[str, Any]) -> Reading:
        """What an answer says. Raises `Malformed` if it is not what the API promises."""
        ...


@dataclass
class LLMJudge:
    """A judge behind an HTTP API; see `Judge`.

    Attributes:
        name: Its name in tables.
        identity: All that shapes a verdict; JSON can hold it.
        endpoint: Where it is asked.
        limits: How it is asked.
        prices: What it costs.
        dialect: How it is asked and understood.
        pointwise: See `Judge`; such a judge sees no order.
    """

    name: str
    identity: Mapping[str, Any]
    endpoint: Endpoint
    limits: Limits
    prices: Prices
    dialect: Dialect
    ordered: bool = True
    pointwise: bool = False
    fingerprint: str = field(init=False)
    paid: bool = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = sha256_json(dict(self.identity))
        self.ordered = self.ordered and not self.pointwise
        self.paid = not (self.prices.per_million_in == 0 and self.prices.per_million_out == 0)

    def check_ready(self) -> None:
        """Raises `UserError` if a key is missing; nothing is asked."""
        self.endpoint.check_key()

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields verdicts as they come; at most `limits.concurrency` comparisons are read ahead.

        Raises:
            JudgeError: If the server refuses every request or was never reached; says what to change.
        """
        tally = _Tally(self.name)

        async def ask(client: ApiClient, comparison: Comparison) -> Verdict:
            return await self._ask(client, comparison, tally)

        yield from stream(comparisons, self._client, ask, self.limits.concurrency)
        tally.check_end()

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """One call a comparison; a token is taken as 4 bytes of prompt, and every answer as long as it may be.

        English prose has about that; digits, emoji and some scripts have more tokens, and an attempt that fails may be
        charged, so the cost can be higher. `--max-cost` counts what answers report. If the settings do not say how
        long an answer may be, the cost is not known.
        """
        calls, tokens_in = 0, 0.0
        tokens_out: int | None = 0
        for comparison in comparisons:
            question = self.dialect.question(comparison)
            calls += 1
            tokens_in += len(question.text.encode("utf-8", "replace")) / 4
            most = question.max_tokens
            tokens_out = None if tokens_out is None or most is None else tokens_out + most
        return Estimate(calls, self.prices.cost(tokens_in, tokens_out))

    def _client(self) -> ApiClient:
        return ApiClient(self.endpoint, self.limits)

    def _shown(self, text: str) -> str:
        """What a server said, fit for the record: without secrets, lone surrogates and endless text."""
        text = self.endpoint.redact(text).encode("utf-8", "replace").decode("utf-8")
        return text if len(text) <= _RAW_CHARS else text[:_RAW_CHARS] + "..."

    async def _ask(self, client: ApiClient, comparison: Comparison, tally: _Tally) -> Verdict:
        question = self.dialect.question(comparison)
        try:
            answer = await client.post(question.body, self._reading)
        except Rejected as error:
            tally.refused(error)
            return Verdict(comparison.key, None, error=self._shown(str(error)))
        except Unanswered as error:
            tally.unanswered(error, client, self.limits.concurrency)
            return Verdict(comparison.key, None, error=self._shown(str(error)))
        reading, cost = answer.content
        tally.answered(reading)
        raw = reading.raw | ({"cut": question.cut} if question.cut else {})
        return Verdict(
            comparison.key,
            reading.prefers_first,
            raw=self._shown(record(raw, _RAW_CHARS)),
            error=reading.error and self._shown(reading.error),
            latency=answer.latency,
            cost=cost,
            remedy=self.dialect.remedy if reading.prefers_first is None else None,
        )

    def _reading(self, content: dict[str, Any]) -> tuple[Reading, float | None]:
        """What an answer says and what it cost.

        One that is not what the API promises is asked again only if it was not charged.
        """
        tokens = token_counts(content)
        try:
            return self.dialect.reading(content), self.prices.cost(*tokens)
        except Malformed as error:
            if tokens == (None, None) or not self.paid:
                raise
            return Reading(None, f"a charged answer of the wrong form: {error}", {}), self.prices.cost(*tokens)


class _Tally:
    """Tells a fault of single comparisons from one of the whole run."""

    def __init__(self, judge: str) -> None:
        self._judge = judge
        self._accepted = self._refused = self._lost_in_a_row = 0
        self._last_refusal = ""
        self._all_for_settings = True

    def answered(self, reading: Reading) -> None:
        self._lost_in_a_row = 0
        if reading.hopeless:
            self._refuse(reading.error or "", of_content=False)
        else:
            self._accepted += 1

    def refused(self, error: Rejected) -> None:
        self._lost_in_a_row = 0
        self._refuse(str(error), of_content=error.of_content)

    def unanswered(self, error: Unanswered, client: ApiClient, concurrency: int) -> None:
        """Stops if nobody is at the address, or the server answers nobody, or no longer."""
        self._lost_in_a_row += 1
        if not client.contacted:
            raise JudgeError(f"judge {self._judge}: {error}. Check base_url and that the server runs.") from error
        if self._lost_in_a_row >= (max(concurrency, _HOPELESS) if self._accepted else _HOPELESS):
            raise JudgeError(
                f"judge {self._judge}: {self._lost_in_a_row} requests in a row failed, {error}. "
                f"Run again when the server is back."
            ) from error

    def check_end(self) -> None:
        """Raises `JudgeError` if nothing but refusals came, for reasons that lie in the settings."""
        if self._refused and not self._accepted and self._all_for_settings:
            self._give_up()

    def _refuse(self, said: str, *, of_content: bool) -> None:
        self._refused += 1
        self._last_refusal = said
        self._all_for_settings &= not of_content
        if not self._accepted and self._all_for_settings and self._refused >= _HOPELESS:
            self._give_up()

    def _give_up(self) -> None:
        raise JudgeError(
            f"judge {self._judge}: none of {self._refused} requests was accepted, the last one: {self._last_refusal}. "
            f"Change the judge's options."
        )


def try_one(judge: LLMJudge, comparison: Comparison) -> tuple[Reading, float | None] | Rejected:
    """The answer to one question as `judge` would read it, with its cost, or the refusal.

    Raises:
        JudgeError: If the server refuses every request or does not answer.
    """

    async def ask() -> tuple[Reading, float | None] | Rejected:
        async with ApiClient(judge.endpoint, judge.limits) as client:
            try:
                return (await client.post(judge.dialect.question(comparison).body, judge._reading)).content
            except Rejected as error:
                return error
            except Unanswered as error:
                raise JudgeError(f"judge {judge.name}: {error}. Check base_url and that the server runs.") from error

    return run_alone(ask())
