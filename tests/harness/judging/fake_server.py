"""A real local HTTP server that speaks OpenAI's and Anthropic's protocols, with scriptable faults.

In tests: `with FakeServer() as server: server.script.append(error(500)); ...`. As a program, for benchmarks:
`python fake_server.py --latency 0.3` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self


@dataclass
class Reply:
    """What the server does with one request.

    Attributes:
        body: The body's bytes.
        status: HTTP status.
        headers: Further headers.
        delay: Seconds before the answer.
        fault: "drop" closes the connection without an answer, "truncate" closes it in the middle of the body,
            "hang" never answers.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    fault: Literal["drop", "truncate", "hang"] | None = None


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """All the text the judge is shown."""
        messages = self.body.get("messages", [])
        return "\n".join([str(self.body.get("system", "")), *(m["content"] for m in messages)])


def chat(text: str, top: dict[str, float] | None = None, finish: str = "stop") -> Reply:
    """A chat completion that says `text`; `top` holds probabilities of the first token's alternatives."""
    logprobs = None
    if top is not None:
        alternatives = [{"token": t, "logprob": math.log(p) if p else -9999.0, "bytes": None} for t, p in top.items()]
        logprobs = {"content": [{**alternatives[0], "top_logprobs": alternatives}], "refusal": None}
    choice = {
        "index": 0,
        "finish_reason": finish,
        "logprobs": logprobs,
        "message": {"role": "assistant", "content": text},
    }
    return _completion([choice])


def tool_call(arguments: str) -> Reply:
    """A chat completion that calls a tool with these arguments."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return _completion([{"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": message}])


def plain_completion(text: str) -> Reply:
    """A completion of the older API."""
    return _completion([{"index": 0, "finish_reason": "stop", "logprobs": None, "text": text}])


def message(text: str) -> Reply:
    """An answer of Anthropic's messages API."""
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 100, "output_tokens": 2},
    }
    return Reply(json.dumps(body).encode())


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    body = {"error": {"message": message, "type": "fake_error", "code": code}}
    return Reply(json.dumps(body).encode(), status, {k.replace("_", "-"): v for k, v in headers.items()})


def _completion(choices: list[dict[str, Any]]) -> Reply:
    usage = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": choices, "usage": usage}
    return Reply(json.dumps(body).encode())


class FakeServer:
    """The server, in a thread of its own while the block runs.

    Attributes:
        respond: Answers requests that no scripted reply is left for.
        script: Replies to the next requests, in the order they come.
        requests: Every request so far.
        in_flight: Requests being answered; `most_in_flight` was the most at a time.
    """

    def __init__(self, respond: Callable[[Request], Reply] | None = None, latency: float = 0.0) -> None:
        self.respond = respond or (lambda _: chat("m", {"m": 0.75, "M": 0.25}))
        self.latency = latency
        self.script: deque[Reply] = deque()
        self.requests: list[Request] = []
        self.in_flight = self.most_in_flight = self.connections = 0
        self.port = 0
        self.keep_requests = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=64 * 2**20)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection's requests."""
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(lines[0].split()[1], headers, raw, writer)
        finally:
            self.in_flight -= 1

    async def _answer(self, path: str, headers: dict[str, str], raw: bytes, writer: asyncio.StreamWriter) -> bool:
        if self.keep_requests:
            request = Request(path, headers, json.loads(raw or b"{}"))
            self.requests.append(request)
            reply = self.script.popleft() if self.script else self.respond(request)
        else:
            reply = self.respond(Request(path, headers, {}))
        if delay := self.latency + reply.delay:
            await asyncio.sleep(delay)
        if reply.fault == "hang":
            await asyncio.sleep(3600)
        if reply.fault == "drop":
            return False
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        head = f"HTTP/1.1 {reply.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(reply.body)}\r\n"
        body = reply.body[: len(reply.body) // 2] if reply.fault == "truncate" else reply.body
        writer.write(f"{head}{extra}\r\n".encode("latin-1") + body)
        await writer.drain()
        return reply.fault is None


def main() -> None:
    """Serves equal verdicts after a fixed latency; prints the port, ends when standard input does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.3)
    reply = chat("m", {"m": 0.75, "M": 0.25})
    server = FakeServer(lambda _: reply, parser.parse_args().latency)
    server.keep_requests = False
    with server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
