"""An event loop driven as a generator: comparisons are pulled as there is room, verdicts are yielded as they come."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

from implicit_if.harness.judging.api.client import ApiClient
from implicit_if.harness.judging.protocol import Comparison, Verdict

_DRAIN_SECONDS = 30.0
_QUIET_SECONDS = 30.0
"""Without a verdict, after which the user is told so."""

T = TypeVar("T")


def stream(
    comparisons: Iterable[Comparison],
    open_client: Callable[[], AbstractAsyncContextManager[ApiClient]],
    ask: Callable[[ApiClient, Comparison], Coroutine[Any, Any, Verdict]],
    concurrency: int,
) -> Iterator[Verdict]:
    """Asks about comparisons, at most `concurrency` at a time.

    The loop runs only while the caller waits for a verdict, and no comparison is read before there is room for it,
    so memory does not grow with their number; where they have `hold`, as slowly as it asks for. Closing the generator
    cancels what is in flight and closes the connections.

    Raises:
        Exception: What `ask` raises, after the verdicts of requests in flight, which have up to 30 s to come, were
            yielded.
    """
    source = iter(comparisons)
    hold: Callable[[], bool] = getattr(comparisons, "hold", bool)  # see `Judge.judge`
    with _Loop() as loop:
        client = loop.run(open_client().__aenter__())
        try:
            waiting: set[asyncio.Task[Verdict]] = set()
            quiet = 0.0
            while True:
                while len(waiting) < concurrency and not (waiting and hold()):
                    if (comparison := next(source, None)) is None:
                        break
                    waiting.add(loop.task(ask(client, comparison)))
                if not waiting:
                    return
                first = asyncio.wait(waiting, timeout=_QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                done, waiting = loop.run(first)
                quiet = 0.0 if done else quiet + _QUIET_SECONDS
                if quiet:
                    fault = f"; the last fault: {client.last_fault}" if client.last_fault else ""
                    where = f"{client.endpoint.host}, {len(waiting)} requests in flight{fault}"
                    print(f"\nno verdict for {quiet:.0f} s from {where}", file=sys.stderr)
                yield from (task.result() for task in done if task.exception() is None)
                ended = next((error for task in done if (error := task.exception()) is not None), None)
                if ended is not None:
                    client.stop()
                    yield from _last_verdicts(loop, waiting)
                    raise ended
        finally:
            loop.cancel_all()
            loop.run(client.__aexit__(None, None, None))


def run_alone(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs one coroutine to its end, in a notebook's cell too."""
    with _Loop() as loop:
        return loop.run(coroutine)


def _last_verdicts(loop: _Loop, waiting: set[asyncio.Task[Verdict]]) -> Iterator[Verdict]:
    """What is in flight may be paid for: whatever still comes is kept."""
    if waiting:
        done, _ = loop.run(asyncio.wait(waiting, timeout=_DRAIN_SECONDS))
        yield from (task.result() for task in done if task.exception() is None)


class _Loop:
    """An event loop that the calling thread runs piecemeal, or a helper thread where one runs already (a notebook)."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._helper: ThreadPoolExecutor | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()
        if self._helper is not None:
            self._helper.shutdown()

    def task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Schedules a coroutine; it advances while `run` runs."""
        return self._loop.create_task(coroutine)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine, and every task beside it, until the coroutine ends."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._loop.run_until_complete(coroutine)
        self._helper = self._helper or ThreadPoolExecutor(1, thread_name_prefix="judge")
        return self._helper.submit(self._loop.run_until_complete, coroutine).result()

    def cancel_all(self) -> None:
        """Cancels every task and waits for them to end."""
        if self._loop.is_running():  # an interrupt came while the helper thread ran the loop
            self._loop.call_soon_threadsafe(self._loop.stop)
        if tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self.run(asyncio.wait(tasks))
