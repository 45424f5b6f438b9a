"""Asking a model about rows, against a real local server: order, cache, faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.asking import model_ask


class Server(ThreadingHTTPServer):
    """Answers a prompt with its own text, and counts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][0]["content"]
        self.server.prompts.append(prompt)
        answer = {"choices": [{"message": {"content": f"about {prompt}"}, "finish_reason": "stop"}]}
        content = json.dumps(answer if self.server.status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield running
    running.shutdown()
    running.server_close()


def test_answers_come_in_order_and_are_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [f"row {n}" for n in range(40)]
    ask = model_ask("openai:small")
    assert ask([*prompts, "row 3"]) == [f"about {prompt}" for prompt in [*prompts, "row 3"]]
    assert sorted(server.prompts) == sorted(prompts)
    assert "asking small about 40 answers" in capsys.readouterr().err
    assert model_ask("openai:small")(["row 7", "new"]) == ["about row 7", "about new"]
    assert server.prompts[40:] == ["new"]
    model_ask("openai:other")(["row 7"])
    assert server.prompts[41:] == ["row 7"]


def test_faults_are_clear(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.status = 401
    with pytest.raises(UserError, match="refused"):
        model_ask("openai:small")(["a"])
    server.status = 400
    with pytest.raises(UserError, match="asking small failed"):
        model_ask("openai:small")(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.invalid/v1")
    with pytest.raises(UserError, match="no key for"):
        model_ask("openai:small")(["a"])
    for name in ("openai:", "reward:x", "gpt"):
        with pytest.raises(UserError, match=r"expected openai:<model>"):
            model_ask(name)
