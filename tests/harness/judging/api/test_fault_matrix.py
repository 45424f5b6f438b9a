"""The judges' matrix of faults in small: whatever one answer is, it is no loss and takes no other verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply, chat, message
from judge_samples import KEY, comparisons
from judging_fakes import make_pair

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.judging.backends import alpaca_eval, anthropic, longest, openai
from implicit_if.harness.judging.protocol import JudgeError
from implicit_if.harness.judging.runner import annotate

Path_ = tuple[Any, ...]


@dataclass(frozen=True)
class Way:
    """A judge: how it is built, its good answer with the preference in it, and where that answer's parts stand."""

    build: Callable[..., Any]
    argument: str
    good: Reply
    preference: float
    text: Path_
    end: Path_
    options: tuple[tuple[str, Any], ...] = ()


_CHAT: tuple[Path_, Path_] = (("choices", 0, "message", "content"), ("choices", 0, "finish_reason"))
WAYS = {
    "openai": Way(openai.build, "x", chat("Verdict: m"), 1.0, *_CHAT, (("logprobs", "text"),)),
    "anthropic": Way(
        anthropic.build, "x", message("Verdict: m"), 1.0, ("content", 0, "text"), ("stop_reason",)
    ),
    "alpaca_eval": Way(alpaca_eval.build, "chatgpt", chat("Output (a)"), 1.0, *_CHAT),
}  # fmt: skip
LETTERS = Way(openai.build, "x", chat("m", {"m": 0.75, "M": 0.25}), 0.75, *_CHAT, (("logprobs", "required"),))
Fault = Callable[[Way], Reply]


def status(code: int, **headers: str) -> Fault:
    body = json.dumps({"error": {"message": f"no, {KEY}", "type": "x", "code": None}}).encode()
    return lambda way: Reply(body, code, {k.replace("_", "-"): v for k, v in headers.items()})


def body(content: bytes | Any, code: int = 200) -> Fault:
    return lambda way: Reply(content if isinstance(content, bytes) else json.dumps(content).encode(), code)


def put(where: str | Path_, value: Any) -> Fault:
    """The good answer with another value at a place, "text" and "end" being the way's."""

    def reply(way: Way) -> Reply:
        whole = inner = json.loads(way.good.body)
        path: Path_ = getattr(way, where) if isinstance(where, str) else where
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return Reply(json.dumps(whole).encode())

    return reply


def part(share: float) -> Fault:
    return lambda way: replace(way.good, body=way.good.body[: int(len(way.good.body) * share)])


FAULTS: dict[str, Fault] = {
    **{f"status {code}": status(code) for code in (301, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418)},
    **{f"status {code}": status(code) for code in (422, 425, 429, 451, 500, 501, 502, 503, 504, 520, 529, 599)},
    "no content": status(204),
    "429, retry at once": status(429, retry_after="0"),
    "429, retry in the past": status(429, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"),
    "429, retry tomorrow": status(429, retry_after="86400"),
    "429, retry as nonsense": status(429, retry_after="soon"),
    "503, retry below zero": status(503, retry_after="-5"),
    "dropped": lambda way: replace(way.good, fault="drop"),
    "truncated": lambda way: replace(way.good, fault="truncate"),
    "silent": lambda way: replace(way.good, fault="hang"),
    "too late": lambda way: replace(way.good, delay=1.0),
    "empty": body(b""),
    "white space": body(b" \n"),
    "HTML": body(b"<html>502</html>"),
    "a tenth": part(0.1),
    "all but the end": part(0.98),
    "not UTF-8": body(b'{"choices": "\xff\xfe"}'),
    "control characters": body(b"\x1b[2J\x00\x07"),
    "null": body(b"null"),
    "a number": body(b"3"),
    "a text": body(b'"m"'),
    "a list": body(b"[]"),
    "an empty object": body(b"{}"),
    "deep": body(b"[" * 100_000),
    "deep objects": body(b'{"a":' * 100_000),
    "many digits": body(b'{"choices": ' + b"9" * 10_000 + b"}"),
    "an error in words": body({"error": "upstream"}),
    "an error with code 429": body({"error": {"message": "slow", "code": 429}}),
    "an error with code 401": body({"error": {"message": "key", "code": 401}}),
    "an error as a list": body({"error": ["x"]}),
    "an error without words": body({"error": {"code": None}}),
    **{f"all is {value!r}": body({"choices": value, "content": value}) for value in (None, [], "m", {}, 7)},
    **{f"the first is {value!r}": body({"choices": [value], "content": value}) for value in (None, [], "m", {}, 7)},
    **{f"message {value!r}": body({"choices": [{"message": value}], "content": [7]}) for value in (None, [], {}, 7)},
    **{f"text {value!r}": put("text", value) for value in (None, 7, True, {}, [], [7], [None], [{"type": "image"}])},
    "nothing said": put("text", ""),
    "prose": put("text", "Both answers are good, but the first a little better."),
    "both": put("text", "Verdict: m\nVerdict: M"),
    "quoted": put("text", "> Verdict: m"),
    "an open thought": put("text", "<think>Verdict: m\nOutput (a)"),
    "an open channel": put("text", "<|channel|>analysis<|message|>Verdict: m\nOutput (a)"),
    **{
        f"ended by {end!r}": put("end", end)
        for end in ("length", "max_tokens", "MAX_TOKENS", "content_filter", "SAFETY", "RECITATION", "refusal", "error")
    },
    **{f"ended by {end!r}": put("end", end) for end in ("abort", "model_length", "pause_turn", "x", ["stop"], {}, 7)},
}  # fmt: skip
HARMLESS: dict[str, Fault] = {
    **{f"usage {value!r}": put(("usage",), value) for value in (None, 7, "x", [], {}, {"prompt_tokens": "9"})},
    **{f"{value!r} tokens": put(("usage",), {"prompt_tokens": value, "input_tokens": value}) for value in (-1, 1e308)},
    "another model": put(("model",), ["x"]),
    "ended in capitals": put("end", "STOP"),
    "no reason": put("end", None),
}
_TOKENS = ("choices", 0, "logprobs", "content")
TORN_LETTERS: dict[str, Fault] = {
    **{f"logprobs {value!r}": put(_TOKENS[:3], value) for value in (None, {}, [], 7, "m")},
    **{f"tokens {value!r}": put(_TOKENS, value) for value in (None, {}, [], [None], [7], [{}], [{"token": "m"}])},
    **{f"top {value!r}": put((*_TOKENS, 0, "top_logprobs"), value) for value in (None, [], {}, [7], [{"token": "m"}])},
    **{
        f"logprob {value!r}": put((*_TOKENS, 0, "top_logprobs"), [{"token": "m", "logprob": value}])
        for value in (None, "x", [], float("nan"), -9999.0)
    },
    "other letters": put((*_TOKENS, 0, "top_logprobs"), [{"token": "The", "logprob": -0.01}]),
}


def verdicts(server: FakeServer, way: Way, fault: Fault) -> tuple[dict[str, Any], str]:
    """Preferences by key where the answer about comparison 2 is the fault, and what was said of it or of the stop."""
    bad = fault(way)
    server.respond = lambda request: bad if "answer 2 of" in request.prompt else way.good
    options = {"base_url": server.url, "backoff": 0.001, "retries": 1, "timeout": 0.4, "deadline": 30, "concurrency": 1}
    found: dict[str, Any] = {}
    said = ""
    try:
        for verdict in way.build(way.argument, options | dict(way.options)).judge(comparisons(4)):
            found[verdict.key] = verdict.prefers_first
            assert KEY not in repr(verdict)
            said += (verdict.error or "") if verdict.key == "2" else ""
    except JudgeError as error:
        said += str(error)
    return found, said


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_no_loss_and_takes_no_other_verdict(server: FakeServer, name: str) -> None:
    for way in WAYS.values():
        found, said = verdicts(server, way, FAULTS[name])
        assert found.pop("2", None) is None
        assert {"0", "1"} <= found.keys() <= {"0", "1", "3"}
        assert set(found.values()) == {way.preference}
        assert said
        assert KEY not in said
        assert said.isprintable()
        assert len(server.requests) <= 8
        server.requests.clear()


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_is_beside_the_verdict_does_no_harm(server: FakeServer, name: str) -> None:
    for way in WAYS.values():
        found, _ = verdicts(server, way, HARMLESS[name])
        assert found == dict.fromkeys("0123", way.preference)


@pytest.mark.parametrize("name", sorted(TORN_LETTERS))
def test_torn_letters_are_no_loss(server: FakeServer, name: str) -> None:
    found, said = verdicts(server, LETTERS, TORN_LETTERS[name])
    assert found.pop("2") is None
    assert found == dict.fromkeys("013", 0.75)
    assert said


@pytest.mark.parametrize("share", [k / 10 for k in range(10)])
def test_a_store_that_was_cut_anywhere_is_completed(tmp_path: Path, share: float) -> None:
    """As a kill leaves it: whole lines and a part of one."""
    pairs = [make_pair(number, "s" * number, "r" * 5) for number in range(12)]
    run = partial(annotate, pairs, longest.LongestJudge(), progress=False)
    whole = run(tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(content[: int(share * len(content)) + 7])
    again = run(tmp_path / "cut.jsonl")
    assert again.preferences.tolist() == whole.preferences.tolist()
    stored = [(a.instruction_id, a.order) for a in AnnotationStore(tmp_path / "cut.jsonl")]
    assert sorted(stored) == sorted((a.instruction_id, a.order) for a in AnnotationStore(tmp_path / "whole.jsonl"))
    assert len(set(stored)) == len(stored)


def test_the_matrix_is_as_large_as_it_was() -> None:
    assert len(FAULTS) + len(HARMLESS) + len(TORN_LETTERS) >= 79
