from __future__ import annotations

import json
from typing import Any

import pytest
from fake_server import FakeServer, Reply, error, message
from judge_samples import KEY, comparisons

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends.anthropic import build
from implicit_if.harness.judging.backends.openai import build as build_openai
from implicit_if.harness.judging.protocol import Comparison, JudgeError
from implicit_if.harness.judging.registry import get_judge


def judge(server: FakeServer, **options: Any) -> Any:
    return build("claude-fake", {"base_url": server.url, "backoff": 0.01} | options)


def test_the_request_is_as_the_api_wants_it(server: FakeServer) -> None:
    server.respond = lambda _: message("M")
    (verdict,) = judge(server).judge([Comparison("k", "Do it.", "One.", "Two.")])
    assert verdict.prefers_first == 0.0
    (request,) = server.requests
    assert request.path == "/v1/messages"
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in request.headers
    assert set(request.body) == {"model", "max_tokens", "temperature", "system", "messages"}
    assert [m["role"] for m in request.body["messages"]] == ["user"]
    assert request.prompt.index("Do it.") < request.prompt.index("One.") < request.prompt.index("Two.")


@pytest.mark.parametrize("suffix", ["", "/", "/v1/"])
def test_base_url_with_and_without_version(server: FakeServer, suffix: str) -> None:
    server.respond = lambda _: message("m")
    list(judge(server, base_url=server.url.removesuffix("/v1") + suffix).judge(comparisons(1)))
    assert server.requests[0].path == "/v1/messages"


def test_text_blocks_are_joined_and_others_ignored(server: FakeServer) -> None:
    body = json.loads(message("").body)
    body["content"] = [{"type": "thinking", "thinking": "M"}, {"type": "text", "text": "So.\n"}]
    body["content"].append({"type": "text", "text": "Verdict: m"})
    server.respond = lambda _: Reply(json.dumps(body).encode())
    assert next(judge(server).judge(comparisons(1))).prefers_first == 1.0


def test_faults_recover(server: FakeServer) -> None:
    server.respond = lambda _: message("m")
    overloaded = Reply(b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', 529)
    server.script.extend([overloaded, error(429, retry_after="0.1"), Reply(b"{}"), Reply(b"<"), Reply(fault="drop")])
    assert [v.prefers_first for v in judge(server).judge(comparisons(4))] == [1.0] * 4


def test_answers_without_a_verdict_are_no_loss(server: FakeServer) -> None:
    for text in ("", "They are equally good."):
        server.respond = lambda _, text=text: message(text)
        assert [v.prefers_first for v in judge(server).judge(comparisons(3))] == [None] * 3


@pytest.mark.parametrize(
    ("status", "kind", "words", "named"),
    [
        (401, "authentication_error", f"invalid x-api-key {KEY}", "ANTHROPIC_API_KEY"),
        (404, "not_found_error", "model: claude-fake", "model's name"),
        (400, "invalid_request_error", "Your credit balance is too low to access the API", "no credit"),
    ],
)
def test_permanent_faults_stop(server: FakeServer, status: int, kind: str, words: str, named: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": words}}
    server.respond = lambda _: Reply(json.dumps(body).encode(), status)
    with pytest.raises(JudgeError, match=named) as caught:
        list(judge(server).judge(comparisons(200)))
    assert KEY not in str(caught.value)
    assert len(server.requests) <= 64


def test_identity_and_cost(server: FakeServer) -> None:
    server.respond = lambda _: message("m")
    priced = judge(server, price_in=3, price_out=15)
    assert next(priced.judge(comparisons(1))).cost == pytest.approx((100 * 3 + 2 * 15) / 1e6)
    others = [judge(server, temperature=1), judge(server, max_tokens=9), judge(server, max_chars=9)]
    prints = {priced.fingerprint, *(j.fingerprint for j in others)}
    prints.add(build_openai("claude-fake", {"base_url": server.url, "logprobs": "text"}).fingerprint)
    assert len(prints) == 5
    assert judge(server).fingerprint == priced.fingerprint


@pytest.mark.parametrize(("body", "most"), [({}, 512), ({"max_tokens": 16000}, 16000), ({"max_tokens": None}, None)])
def test_the_estimate_knows_how_long_answers_may_be(server: FakeServer, body: dict[str, Any], most: int | None) -> None:
    found = judge(server, price_in=0, price_out=15, body=body).estimate(comparisons(2)).cost
    assert found == (None if most is None else pytest.approx(2 * most * 15 / 1e6))


def test_missing_key_and_wrong_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="logprobs"):
        build("claude", {"logprobs": "text"})
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(UserError, match="ANTHROPIC_API_KEY is not set"):
        get_judge("anthropic:claude")
