from __future__ import annotations

import email.utils
import json
import time

import pytest

from implicit_if.harness.judging.api.faults import Rejected, Transient, check_answer, parse_json, retry_after
from implicit_if.harness.judging.protocol import JudgeError


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (200, {"choices": []}, None),
        (200, {"error": None, "choices": []}, None),
        (200, [], Transient),
        (200, None, Transient),
        (200, {"error": {"message": "x", "code": 503}}, Transient),
        (200, {"error": {"message": "x", "code": 401}}, JudgeError),
        (200, {"error": "boom"}, Transient),
        (204, None, Transient),
        (302, None, JudgeError),
        (400, {"error": {"code": "bad"}}, Rejected),
        (400, {"error": {"code": "model_not_found"}}, JudgeError),
        (400, {"object": "error", "message": "vLLM words it so"}, Rejected),
        (401, None, JudgeError),
        (403, {"error": {"type": "permission_error"}}, JudgeError),
        (404, None, JudgeError),
        (408, None, Transient),
        (413, None, Rejected),
        (422, {"detail": []}, Rejected),
        (429, {"error": {"code": "rate_limit_exceeded"}}, Transient),
        (429, {"error": {"code": "insufficient_quota"}}, JudgeError),
        (429, {"error": {"type": "insufficient_quota", "code": None}}, JudgeError),
        (500, None, Transient),
        (503, {"error": {"code": 17}}, Transient),
        (529, {"error": {"type": "overloaded_error"}}, Transient),
    ],
)
def test_answers_are_told_apart(status: int, content: object, expected: type[Exception] | None) -> None:
    fault = check_answer(status, {}, content, json.dumps(content))
    assert type(fault) is (expected or type(None))


@pytest.mark.parametrize(
    ("content", "of_content"),
    [
        ({"error": {"code": "context_length_exceeded"}}, True),
        ({"error": {"message": "This model's maximum context length is 8192 tokens"}}, True),
        ({"error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens"}}, True),
        ({"error": {"code": "content_filter"}}, True),
        ({"error": {"message": "logprobs is not supported"}}, False),
    ],
)
def test_a_refusal_says_whether_the_texts_are_to_blame(content: object, of_content: bool) -> None:
    fault = check_answer(400, {}, content, json.dumps(content))
    assert isinstance(fault, Rejected)
    assert fault.of_content is of_content


def test_retry_after_is_read_in_every_form() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after({"retry-after": in_a_minute}) == pytest.approx(60, abs=2)
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0.0
    for nonsense in ({}, {"retry-after": ""}, {"retry-after": "soon"}, {"retry-after": "-3"}, {"retry-after": "nan"}):
        assert retry_after(nonsense) is None


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{", b"\xff", b"[" * 200_000, b'{"a": 1} x'])
def test_what_is_not_json_is_none(raw: bytes) -> None:
    assert parse_json(raw) is None
