"""One HTTP client for every API judge: shared connections, pacing, retries, and faults told apart.

A fault is one of three: transient (it is asked again), this request's own (`Rejected`, `Unanswered`: no verdict on
one comparison), or everyone's (`JudgeError`: asking on would not help).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from implicit_if.harness.judging.api.endpoint import Endpoint, proxy_for
from implicit_if.harness.judging.api.faults import Transient, Unanswered, check_answer, parse_json
from implicit_if.harness.judging.protocol import JudgeError
from implicit_if.harness.safe_text import one_line

if TYPE_CHECKING:
    import aiohttp

_MAX_WAIT = 60.0
_MAX_BODY = 16 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How hard and how long to ask.

    Attributes:
        concurrency: Requests in flight.
        timeout: Seconds one request may take.
        retries: How often a request is sent again after a transient fault.
        backoff: Seconds before the first repetition; it doubles up to a minute, with random jitter of half.
        deadline: Seconds one comparison may take in all, repetitions and waits included; each attempt has at least one.
        rpm: Requests a minute; None for no limit.
    """

    concurrency: int = 64
    timeout: float = 120.0
    retries: int = 8
    backoff: float = 1.0
    deadline: float = 900.0
    rpm: float | None = None


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What came of one request, and the seconds from sending it (the last time) to its last byte."""

    content: T
    latency: float


class ApiClient:
    """Posts JSON to one endpoint; use as an async context manager.

    Args:
        endpoint: Where to.
        limits: See `Limits`; `concurrency` is kept by whoever calls `post`.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        endpoint.check_key()
        self.endpoint, self.limits = endpoint, limits
        self.contacted = False
        self.last_fault = ""
        self._session: aiohttp.ClientSession | None = None
        # With the request, not the session: aiohttp would send the session's headers to a proxy, the key among them.
        self._headers = {**endpoint.headers, "content-type": "application/json"}
        self._proxy, login = proxy_for(endpoint.url)
        if login and endpoint.url.startswith("https:"):
            self._proxy["proxy_headers"] = login
        else:
            self._headers |= login
        self._stopped = asyncio.Event()
        self._next_turn = self._cooldown = 0.0

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def stop(self) -> None:
        """Ends every wait: requests under way may finish, none is sent or repeated."""
        self._stopped.set()

    async def post(self, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> Answer[T]:
        """Posts until there is an answer that `read` accepts.

        Args:
            body: What JSON can hold.
            read: Turns the answer's JSON into a result; raises `Malformed` if it is not what the API promises, which
                is a transient fault.

        Raises:
            Rejected: The server refuses this request.
            Unanswered: Transient faults outlasted retries or deadline.
            JudgeError: The server refuses every request: wrong key, unknown model, no credit, a pause too long.
        """
        data = json.dumps(body, ensure_ascii=True).encode("ascii")
        clock = asyncio.get_running_loop().time
        started = clock() + await self._turn(clock() + self.limits.deadline)
        attempts = 0
        while True:
            sent = clock()
            attempts += 1
            try:
                left = self.limits.deadline - (sent - started)
                content = read(await self._send(data, min(self.limits.timeout, max(1.0, left))))
                return Answer(content, clock() - sent)
            except Transient as error:
                fault = error
            self.last_fault = str(fault)
            backoff = self._backoff(attempts)
            wait = max(backoff, self._pause(fault))
            if attempts > self._retries(fault) or clock() + wait - started > self.limits.deadline:
                spent = f"{attempts} attempts in {clock() - started:.0f} s"
                raise Unanswered(f"no answer from {self.endpoint.host} after {spent}; the last one ended in {fault}")
            await self._sleep(backoff)
            started += await self._turn(started + self.limits.deadline)

    async def _send(self, data: bytes, seconds: float) -> dict[str, Any]:
        import aiohttp

        assert self._session is not None, "use the client as an async context manager"
        try:
            async with asyncio.timeout(seconds):
                # A redirect could carry the key to another host.
                async with self._session.post(
                    self.endpoint.url, data=data, headers=self._headers, allow_redirects=False, **self._proxy
                ) as response:
                    self.contacted = True
                    raw = await _read(response)
        except TimeoutError:
            raise Transient(f"no answer within {seconds:.3g} s") from None
        except aiohttp.ClientSSLError as error:
            raise JudgeError(
                f"no secure connection to {self.endpoint.host} ({self._quote(str(error))}). "
                f"Check base_url (http or https?) and the server's certificate."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            unreachable = isinstance(error, aiohttp.ClientConnectorError)
            raise Transient(f"{type(error).__name__}: {self._quote(str(error))}", unreachable=unreachable) from None
        return self._checked(response.status, response.headers, raw)

    def _checked(self, status: int, headers: Mapping[str, str], raw: bytes) -> dict[str, Any]:
        content = parse_json(raw)
        if self.endpoint.secrets:
            content = self.endpoint.redact_json(content)
        fault = check_answer(status, headers, content, self._quote(raw.decode("utf-8", "replace")))
        if fault is None:
            assert isinstance(content, dict)
            return content
        if isinstance(fault, JudgeError):
            raise JudgeError(f"{self.endpoint.host}: {fault}".replace("{key}", self.endpoint.key_source))
        raise fault

    def _quote(self, text: str) -> str:
        return one_line(" ".join(self.endpoint.redact(text).split()), 400) or "nothing"

    def _retries(self, fault: Transient) -> int:
        """A server that was never there is given up sooner: most likely the address is wrong."""
        return min(3, self.limits.retries) if fault.unreachable and not self.contacted else self.limits.retries

    def _pause(self, fault: Transient) -> float:
        """Seconds the server asks to wait, 0 if it asks for none; they hold for every request.

        Raises:
            JudgeError: If it asks for more than one comparison may take, as where a day's quota is used up.
        """
        wait = fault.retry_after or 0.0
        if wait > self.limits.deadline:
            raise JudgeError(
                f"{self.endpoint.host}: the server asks for a pause of {wait:.0f} s ({fault}), longer than "
                f"deadline={self.limits.deadline:g}. Run again then, or raise deadline."
            )
        self._cooldown = max(self._cooldown, asyncio.get_running_loop().time() + wait)
        return wait

    def _backoff(self, attempts: int) -> float:
        return min(_MAX_WAIT, self.limits.backoff * 2.0 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)

    async def _turn(self, until: float) -> float:
        """Waits for this request's turn: a pause the server asked for, then the rate limit.

        Returns:
            Seconds waited for the rate limit, which is ours and does not count against the deadline.

        Raises:
            Unanswered: If the server's pauses go on beyond `until`.
        """
        clock = asyncio.get_running_loop().time
        waited = 0.0
        while True:
            if (pause := self._cooldown - clock()) > 0:
                if self._cooldown > until + waited:
                    raise Unanswered(
                        f"{self.endpoint.host} asks for one pause after another, beyond deadline="
                        f"{self.limits.deadline:g}; the last answer was {self.last_fault}"
                    )
                spread = random.uniform(0.0, min(1.0, pause))  # or all would ask at once
                await self._sleep(min(pause + spread, max(pause, until + waited - clock())))
            if self.limits.rpm is not None:
                turn = max(clock(), self._next_turn)
                self._next_turn = turn + 60.0 / self.limits.rpm
                waited += max(0.0, turn - clock())
                await self._sleep(turn - clock())
            if self._stopped.is_set():
                raise JudgeError("stopped")
            if clock() >= self._cooldown:
                return waited

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return
        raise JudgeError("stopped")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_BODY:
            raise Transient(f"an answer of more than {_MAX_BODY >> 20} MiB")
    return bytes(body)
