"""Faults, pacing and the stream of verdicts, seen through the judge `openai:` against a real local server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import html
import itertools
import json
import logging
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fake_server import FakeServer, Reply, Request, chat, error
from judge_samples import KEY, comparisons

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.client import ApiClient, Limits
from implicit_if.harness.judging.api.endpoint import Endpoint
from implicit_if.harness.judging.api.faults import Transient
from implicit_if.harness.judging.backends.openai import build
from implicit_if.harness.judging.protocol import Comparison, JudgeError, Verdict


def judge(server: FakeServer, **options: Any) -> Any:
    return build("fake", {"base_url": server.url, "backoff": 0.01, "logprobs": "required"} | options)


def by_key(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    return {v.key: v for v in verdicts}


def until_stopped(verdicts: Iterator[Verdict], because: str) -> list[Verdict]:
    """The verdicts that come before the judge stops with an error that matches."""
    kept: list[Verdict] = []
    with pytest.raises(JudgeError, match=because):
        kept.extend(verdicts)  # list.extend keeps what came before the error
    return kept


# Faults

TRANSIENT = {
    "429": error(429, "slow down", "rate_limit_exceeded"),
    "429 with Retry-After": error(429, retry_after="0.1"),
    "500": error(500),
    "503": error(503, retry_after="0.1"),
    "overloaded": error(529),
    "dropped connection": Reply(fault="drop"),
    "truncated body": Reply(chat("M", {"M": 1.0}).body, fault="truncate"),
    "not JSON": Reply(b"<html>502 Bad Gateway</html>"),
    "half of JSON": Reply(chat("M", {"M": 1.0}).body[:40]),
    "not UTF-8": Reply(b"\xff\xfe{"),
    "JSON, but a list": Reply(b"[]"),
    "no choices": Reply(b'{"choices": []}'),
    "choices of the wrong shape": Reply(b'{"choices": "m"}'),
    "an error with status 200": Reply(b'{"error": {"message": "upstream", "code": 502}}'),
    "timeout": Reply(chat("M", {"M": 1.0}).body, fault="hang"),
    "deep nesting": Reply(b"[" * 100_000),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_a_transient_fault_is_asked_again(server: FakeServer, fault: Reply) -> None:
    server.script.extend([fault, fault])
    verdicts = by_key(judge(server, timeout=1.0).judge(comparisons(5)))
    assert {v.prefers_first for v in verdicts.values()} == {0.75}
    assert len(verdicts) == 5
    assert len(server.requests) == 7


@pytest.mark.parametrize("fault", [TRANSIENT["500"], TRANSIENT["timeout"], TRANSIENT["truncated body"]])
def test_a_fault_that_stays_with_one_comparison_leaves_it_unjudged(server: FakeServer, fault: Reply) -> None:
    server.respond = lambda r: fault if "answer 3 of" in r.prompt else chat("m", {"m": 0.75, "M": 0.25})
    verdicts = by_key(judge(server, timeout=1.0, retries=2).judge(comparisons(6)))
    assert verdicts["3"].prefers_first is None
    assert "3 attempts" in (verdicts["3"].error or "")
    assert [v.prefers_first for k, v in sorted(verdicts.items()) if k != "3"] == [0.75] * 5


def test_the_waits_between_attempts_grow(server: FakeServer) -> None:
    times: list[float] = []

    def respond(_: Request) -> Reply:
        times.append(time.monotonic())
        return error(500) if len(times) < 4 else chat("m", {"m": 1.0, "M": 0.0})

    server.respond = respond
    list(judge(server, backoff=0.1).judge(comparisons(1)))
    waits = [b - a for a, b in itertools.pairwise(times)]
    for wait, most in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert most / 2 <= wait < most + 0.3


def test_retry_after_is_kept_by_every_request(server: FakeServer) -> None:
    times: list[tuple[float, bool]] = []

    def respond(_: Request) -> Reply:
        times.append((time.monotonic(), len(times) == 3))
        return error(429, retry_after="0.6") if times[-1][1] else chat("m", {"m": 0.75, "M": 0.25})

    server.respond, server.latency = respond, 0.05
    assert len(list(judge(server, concurrency=2).judge(comparisons(12)))) == 12
    told = next(at for at, refused in times if refused)
    pause = [at for at, _ in times if told + 0.15 < at < told + 0.6]
    assert not pause, "a request was sent while the server asked for a pause"
    assert len(times) == 13


def test_a_pause_longer_than_a_comparison_may_take_stops_the_run(server: FakeServer) -> None:
    limit = error(429, "daily limit", "rate_limit_exceeded", retry_after="7200")
    server.respond = lambda _: limit if len(server.requests) == 5 else chat("m", {"m": 0.75, "M": 0.25})
    started = time.monotonic()
    kept = until_stopped(
        judge(server, concurrency=2).judge(comparisons(50)), "pause of 7200 s.*daily limit.*deadline=900"
    )
    assert time.monotonic() - started < 10
    assert len(kept) == len(server.requests) - 1


def test_a_long_pause_is_kept_whole() -> None:
    async def wait() -> float:
        async with ApiClient(Endpoint("http://127.0.0.1:9/"), Limits(deadline=900)) as client:
            return client._pause(Transient("status 429", 600.0))

    assert asyncio.run(wait()) == 600.0


def test_a_server_that_never_answers_is_given_up_after_a_few(server: FakeServer) -> None:
    server.respond = lambda _: error(500)
    until_stopped(judge(server, concurrency=16, retries=1).judge(comparisons(500)), "in a row")
    assert len(server.requests) <= 2 * (16 + 16)


def test_missing_logprobs_in_one_answer_are_no_loss(server: FakeServer) -> None:
    server.respond = lambda r: chat("M") if "answer 2 of" in r.prompt else chat("M", {"M": 0.6, "m": 0.4})
    verdicts = by_key(judge(server, concurrency=1).judge(comparisons(4)))
    assert verdicts["2"].prefers_first is None
    assert "logprobs" in (verdicts["2"].error or "")
    assert [verdicts[k].prefers_first for k in "013"] == [pytest.approx(0.4)] * 3


def test_missing_logprobs_in_every_answer_stop(server: FakeServer) -> None:
    server.respond = lambda _: chat("m")
    with pytest.raises(JudgeError, match="logprobs=text"):
        list(judge(server).judge(comparisons(100)))
    assert len(server.requests) <= 8 + 64


@pytest.mark.parametrize("text", ["Both answers are good, but m is a little better.", "", "I cannot judge this."])
def test_chatty_and_empty_answers_are_no_loss(server: FakeServer, text: str) -> None:
    server.respond = lambda r: chat(text if "answer 1 of" in r.prompt else "M")
    verdicts = by_key(judge(server, logprobs="text").judge(comparisons(3)))
    assert verdicts["1"].prefers_first is None
    assert verdicts["1"].error
    assert (verdicts["0"].prefers_first, verdicts["2"].prefers_first) == (0.0, 0.0)


def test_chatty_first_tokens_are_no_weighted_verdict(server: FakeServer) -> None:
    server.respond = lambda _: chat("The", {"The": 0.97, "m": 0.02, "M": 0.005})
    (verdict,) = judge(server).judge(comparisons(1))
    assert verdict.prefers_first is None
    assert "0.025" in (verdict.error or "")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
        (error(403, "forbidden"), "OPENAI_API_KEY"),
        (error(404, "The model does not exist", "model_not_found"), "model's name"),
        (error(429, "You exceeded your quota", "insufficient_quota"), "no credit"),
        (error(402), "no credit"),
        (error(400, "Unsupported parameter: max_tokens", "unsupported_parameter"), "body="),
        (error(301, location="https://elsewhere.example/"), "redirects"),
    ],
)
def test_a_permanent_fault_stops_and_says_what_to_mend(
    server: FakeServer, fault: Reply, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.respond = lambda _: fault
    asked = judge(server)
    with pytest.raises(JudgeError, match=named) as caught:
        list(asked.judge(comparisons(500)))
    assert len(server.requests) <= 64
    for text in (str(caught.value), caplog.text, repr(asked), repr(asked.endpoint), asked.fingerprint):
        assert KEY not in text


def test_verdicts_obtained_before_a_permanent_fault_are_kept(server: FakeServer) -> None:
    def respond(request: Request) -> Reply:
        if "answer 10 of" in request.prompt:
            return Reply(error(401).body, 401, delay=0.2)  # so that 11 is asked meanwhile
        reply = chat("m", {"m": 0.75, "M": 0.25})
        early = any(f"answer {k} of" in request.prompt for k in range(10))
        return Reply(reply.body, delay=0.0 if early else 0.5)

    server.respond = respond
    kept = until_stopped(judge(server, concurrency=4).judge(comparisons(100)), "401")
    assert {v.key for v in kept} >= {*map(str, range(10)), "11"}, "a paid answer in flight was thrown away"
    assert {v.prefers_first for v in kept} == {0.75}
    assert len(server.requests) < 30


def test_a_refusal_of_every_request_stops(server: FakeServer) -> None:
    server.respond = lambda _: error(400, "logit_bias must be a map")
    for n in (3, 300):
        server.requests.clear()
        with pytest.raises(JudgeError, match="logit_bias"):
            list(judge(server).judge(comparisons(n)))
        assert len(server.requests) <= 64 + 8


def test_a_refusal_of_one_comparison_is_its_own(server: FakeServer) -> None:
    refused = error(400, "maximum context length is 8192 tokens", "context_length_exceeded")
    server.respond = lambda r: refused if "answer 0 of" in r.prompt else chat("m", {"m": 1.0, "M": 0.0})
    verdicts = by_key(judge(server).judge(comparisons(3)))
    assert "context length" in (verdicts["0"].error or "")
    assert verdicts["1"].prefers_first == verdicts["2"].prefers_first == 1.0


def test_comparisons_that_are_all_too_long_do_not_stop_the_run(server: FakeServer) -> None:
    server.respond = lambda _: error(400, "maximum context length is 8192 tokens", "context_length_exceeded")
    assert [v.prefers_first for v in judge(server).judge(comparisons(20))] == [None] * 20


def test_a_server_that_dies_stops_the_run(server: FakeServer) -> None:
    server.respond = lambda _: error(500) if len(server.requests) > 20 else chat("m", {"m": 0.75, "M": 0.25})
    kept = until_stopped(judge(server, concurrency=8, retries=1).judge(comparisons(1000)), "in a row")
    assert sum(v.prefers_first == 0.75 for v in kept) >= 20
    assert len(server.requests) < 100


def test_nobody_at_the_address(free_port: int) -> None:
    nobody = build("fake", {"base_url": f"http://127.0.0.1:{free_port}/v1", "logprobs": "text", "backoff": 0.01})
    with pytest.raises(JudgeError, match="base_url"):
        list(nobody.judge(comparisons(10)))


def test_the_deadline_bounds_a_comparison(server: FakeServer) -> None:
    server.respond = lambda r: Reply(fault="hang") if "answer 0 of" in r.prompt else chat("m", {"m": 1.0, "M": 0.0})
    started = time.monotonic()
    verdicts = by_key(judge(server, timeout=0.2, retries=1000, deadline=1.0).judge(comparisons(2)))
    assert time.monotonic() - started < 5
    assert verdicts["0"].error
    assert verdicts["1"].prefers_first == 1.0


@pytest.mark.parametrize("pause", ["0.4", "0.3", "0.2"])
def test_the_deadline_bounds_a_comparison_under_one_pause_after_another(server: FakeServer, pause: str) -> None:
    server.respond = lambda _: error(429, "slow down", retry_after=pause)
    started = time.monotonic()
    (verdict,) = judge(server, retries=1000, deadline=1.0).judge(comparisons(1))
    assert time.monotonic() - started < 3
    assert verdict.prefers_first is None
    assert "429" in (verdict.error or "")


def test_pauses_that_others_prolong_end_a_comparison_too(server: FakeServer) -> None:
    server.respond = lambda _: error(503, retry_after="0.5")
    started = time.monotonic()
    verdicts = list(judge(server, retries=1000, deadline=1.0, concurrency=4).judge(comparisons(7)))
    assert time.monotonic() - started < 8
    assert [v.prefers_first for v in verdicts] == [None] * 7


@pytest.mark.parametrize("pause", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "0.0001"])
def test_a_pause_of_nothing_leaves_the_backoff(server: FakeServer, pause: str) -> None:
    times: list[float] = []

    def respond(_: Request) -> Reply:
        times.append(time.monotonic())
        return error(429, retry_after=pause) if len(times) < 4 else chat("m", {"m": 1.0, "M": 0.0})

    server.respond = respond
    list(judge(server, backoff=0.1).judge(comparisons(1)))
    assert [b - a >= least for (a, b), least in zip(itertools.pairwise(times), (0.05, 0.1, 0.2), strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    "pause",
    [{}, {"retry_after": "0"}, {"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, {"retry_after_ms": "1"}],
    ids=["none", "0", "a past date", "a millisecond"],
)
def test_a_pause_of_nothing_does_not_stretch_the_deadline(server: FakeServer, pause: dict[str, str]) -> None:
    """The wait after the first fault is 0.5 s at least, which is more than there is."""
    server.respond = lambda _: error(503, **pause)
    started = time.monotonic()
    (verdict,) = judge(server, backoff=1.0, retries=8, deadline=0.4).judge(comparisons(1))
    assert time.monotonic() - started < 0.4
    assert "after 1 attempts" in (verdict.error or "")
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [Reply(fault="hang"), error(500), Reply(b"x", delay=0.2)])
def test_a_silent_server_is_spoken_of(
    server: FakeServer, reply: Reply, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("implicit_if.harness.judging.api.event_loop._QUIET_SECONDS", 0.1)
    server.respond = lambda _: reply
    with contextlib.suppress(JudgeError):
        list(judge(server, timeout=1.0, retries=2, backoff=0.2).judge(comparisons(1)))
    assert f"from 127.0.0.1:{server.port}, 1 requests in flight" in capsys.readouterr().err


# The stream


def test_comparisons_are_read_as_there_is_room(server: FakeServer) -> None:
    read = 0

    def source() -> Iterator[Comparison]:
        nonlocal read
        for comparison in comparisons(200):
            read += 1
            yield comparison

    server.latency = 0.01
    for done, _ in enumerate(judge(server, concurrency=8).judge(source()), start=1):
        assert read <= done + 8
    assert (read, server.most_in_flight) == (200, 8)


def test_closing_the_generator_ends_everything(server: FakeServer) -> None:
    server.respond = lambda r: Reply(fault="hang") if "answer 0 of" not in r.prompt else chat("m", {"m": 1.0, "M": 0.0})
    verdicts = judge(server, concurrency=4).judge(comparisons(100))
    assert next(verdicts).key == "0"
    started = time.monotonic()
    verdicts.close()
    gc.collect()  # a task left behind would be a warning, which fails the test
    assert time.monotonic() - started < 10
    with pytest.raises(StopIteration):
        next(verdicts)


def test_an_error_of_the_source_is_not_swallowed(server: FakeServer) -> None:
    def source() -> Iterator[Comparison]:
        yield from comparisons(3)
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        list(judge(server, concurrency=2).judge(source()))


def test_it_works_inside_a_running_loop(server: FakeServer) -> None:
    async def cell() -> list[Verdict]:
        return list(build("fake", {"base_url": server.url}).judge(comparisons(20)))

    assert [v.prefers_first for v in asyncio.run(cell())] == [0.75] * 20


def test_the_rate_limit_is_kept(server: FakeServer) -> None:
    started = time.monotonic()
    assert len(list(judge(server, rpm=1200).judge(comparisons(11)))) == 11
    assert 0.5 <= time.monotonic() - started < 10


def test_connections_are_reused(server: FakeServer) -> None:
    server.latency = 0.005
    list(judge(server, concurrency=4).judge(comparisons(100)))
    assert server.connections <= 4


def test_the_environments_proxy_is_used_and_can_be_bypassed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    far = build("fake", {"base_url": "http://judge.example/v1", "logprobs": "required"})
    assert [v.prefers_first for v in far.judge(comparisons(2))] == [0.75, 0.75]
    assert {r.path for r in server.requests} == {"http://judge.example/v1/chat/completions"}
    assert {r.headers["proxy-authorization"] for r in server.requests} == {"Basic dXNlcjp3b3Jk"}
    list(judge(server).judge(comparisons(1)))
    assert server.requests[-1].path == "/v1/chat/completions"


def test_a_proxy_never_sees_the_key(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{server.port}")
    server.respond = lambda _: Reply(b"", status=403)
    far = build("fake", {"base_url": "https://judge.example/v1", "logprobs": "required", "retries": 0})
    with pytest.raises(JudgeError, match=r"judge\.example.*403") as caught:
        list(far.judge(comparisons(1)))
    assert "word" not in str(caught.value)
    (tunnel,) = server.requests
    assert tunnel.path == "judge.example:443"
    assert tunnel.headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
    assert not any(KEY in value for value in tunnel.headers.values())


@pytest.mark.parametrize("proxy", ["127.0.0.1:{port}", "http://127.0.0.1:{port}", "http://127.0.0.1:{port}/"])
def test_a_proxy_may_lack_its_scheme(server: FakeServer, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy.format(port=server.port))
    far = build("fake", {"base_url": "http://judge.example/v1", "logprobs": "required"})
    assert [v.prefers_first for v in far.judge(comparisons(1))] == [0.75]


@pytest.mark.parametrize("proxy", ["socks5://user:word@127.0.0.1:1", "http://user:word@127.0.0.1:abc", "http://"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    far = build("fake", {"base_url": "http://judge.example/v1", "logprobs": "required"})
    with pytest.raises(UserError, match="http_proxy") as caught:
        list(far.judge(comparisons(1)))
    assert "word" not in str(caught.value)


# Keys

KEYS = [KEY, 'sk-"quoted"-0123456789', "sk-back\\slash-0123456789", "sk-a/b<c>&'0123456789"]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "slashes behind backslashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "escapes of all": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "escapes of some": lambda key: "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in key),
    "JSON in JSON": lambda key: json.dumps(json.dumps(key)[1:-1])[1:-1],
    "a URL": lambda key: urllib.parse.quote(key, safe=""),
    "HTML": html.escape,
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_a_key_is_struck_out_however_it_is_spelt(server: FakeServer, key: str, spelling: str) -> None:
    endpoint = dataclasses.replace(Endpoint(server.url), secrets=(key,))
    said = endpoint.redact(f"<bad key {SPELLINGS[spelling](key)}, sorry>")
    assert said == "<bad key [key], sorry>"
    assert endpoint.redact("\\" * 100_000) == "\\" * 100_000


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("shape", ["text", "long text", "error", "not JSON"])
def test_a_key_that_a_server_repeats_is_nowhere(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str, escape: bool, shape: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    said = {"text": f"no: {key}", "long text": f"{'x' * 40} {key} {'y' * 90}", "error": "", "not JSON": ""}[shape]
    body = chat(said).body.decode() if said else error(400, f"bad key {key}").body.decode()
    if escape:  # as some servers write them
        body = body.replace(json.dumps(key)[1:-1], "".join(f"\\u{ord(c):04x}" for c in key))
    status = 400 if shape == "error" else 200
    server.respond = lambda _: Reply(f"<{key}".encode() if shape == "not JSON" else body.encode(), status)
    try:
        (verdict,) = judge(server, logprobs="text", retries=0).judge(comparisons(1))
        found = repr(verdict)
    except JudgeError as fault:
        found = str(fault)
    forms = (key, json.dumps(key)[1:-1], key[:12], key[-12:])
    assert not any(form in found.replace("\\\\", "\\") for form in forms), found


def test_control_characters_of_a_server_do_not_reach_the_terminal(server: FakeServer) -> None:
    server.respond = lambda _: Reply(b"\x1b[2J\x9b1m\x07 gone", 401)
    with pytest.raises(JudgeError) as caught:
        list(judge(server).judge(comparisons(1)))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in str(caught.value))


@pytest.mark.parametrize("host", ["127.evil.example", "localhost.evil.example", "0.0.0.0.evil.example", "10.0.0.1"])
def test_only_this_machine_is_local(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="no key for"):
        list(build("fake", {"base_url": f"http://{host}/v1", "logprobs": "text"}).judge(comparisons(1)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]", "0.0.0.0"])
def test_this_machine_is_local(host: str) -> None:
    assert Endpoint(f"http://{host}:8000/v1").is_local


@pytest.mark.parametrize(
    "url",
    [
        "http//user:sk-very-secret@host/v1",
        "htp://user:sk-very-secret@host:port/v1",
        "http://host/v1?key=sk-very-secret",
        "http://host/v1#sk-very-secret",
        "http://user:sk-very-secret@[::1/v1",
    ],
)
def test_a_wrong_address_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(UserError, match="base_url") as caught:
        build("fake", {"base_url": url})
    assert "sk-very-secret" not in str(caught.value)
