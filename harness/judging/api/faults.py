"""What an API's answer means: a verdict's raw material, a passing fault, or one that will not pass."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

from implicit_if.harness.judging.protocol import JudgeError

_TRANSIENT = frozenset({408, 409, 425, 429})
_CREDENTIALS = "The key was refused. Set {key} to a valid key that may use this model."
_FIXES = {
    401: _CREDENTIALS,
    402: "The account has no credit. Add some, or use another judge.",
    403: _CREDENTIALS,
    404: "Check the model's name, and base_url (does it end in /v1?).",
    405: "Check base_url: this address does not serve the API.",
    410: "The model is gone. Choose another one.",
}
_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})
_PERMANENT_CODES = {
    **dict.fromkeys(_CREDIT, _FIXES[402]),
    "invalid_api_key": _CREDENTIALS,
    "authentication_error": _CREDENTIALS,
    "permission_error": _CREDENTIALS,
    "model_not_found": _FIXES[404],
    "unsupported_parameter": "The model refuses a setting; change or drop it (body={name: null} drops one).",
    "unsupported_value": "The model refuses a setting's value; change or drop it (body={name: null} drops one).",
    "unknown_parameter": "The server does not know a setting; drop it (body={name: null}).",
}
_PERMANENT_TEXTS = {"credit balance is too low": _FIXES[402]}
_OF_CONTENT = ("context length", "context window", "context_length", "too long", "too many tokens", "number of tokens")
_OF_CONTENT_CODES = frozenset(
    {"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"}
)


class Transient(Exception):
    """A fault that may pass.

    Attributes:
        retry_after: Seconds the server asked to wait, if it did.
        unreachable: True if there was no connection at all.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.unreachable = retry_after, unreachable


class Malformed(Transient):
    """JSON, but not what the API promises; it may come right, as with any garbled answer."""


class Unanswered(Exception):
    """Transient faults outlasted the patience for one request."""


class Rejected(Exception):
    """The server refuses one request; `of_content` if for its texts (too long, filtered), not for its settings."""

    def __init__(self, message: str, *, of_content: bool) -> None:
        super().__init__(message)
        self.of_content = of_content


def parse_json(raw: bytes) -> Any:
    """The body as JSON; None if it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def check_answer(status: int, headers: Mapping[str, str], content: Any, shown: str) -> Exception | None:
    """What is wrong with an answer; None if it is a JSON object with status 200 and no error in it.

    Args:
        status: HTTP status.
        headers: The answer's headers, case-insensitive.
        content: The body's JSON, or None.
        shown: The body as messages may show it: without secrets, cut.

    Returns:
        `Transient`, `Rejected` or `JudgeError`; in the last one's text, `{key}` stands for the key's source.
    """
    error = content.get("error") if isinstance(content, dict) else None
    if status == 200 and not error:
        return None if isinstance(content, dict) else Transient(f"a body that is not JSON: {shown}")
    if status == 200 and isinstance(error, dict) and isinstance(error.get("code"), int):
        status = error["code"]  # gateways wrap another server's fault this way
    said = f"status {status}: {shown}"
    codes = {str(error.get(k)) for k in ("code", "type")} if isinstance(error, dict) else set()
    fix = next((_PERMANENT_CODES[c] for c in sorted(codes) if c in _PERMANENT_CODES), None)
    fix = fix or next((f for text, f in _PERMANENT_TEXTS.items() if text in shown.lower()), None) or _FIXES.get(status)
    if fix is None and 300 <= status < 400:
        fix = "The server redirects. Set base_url to the address it redirects to."
    if fix is not None:
        return JudgeError(f"{said}. {fix}")
    if status in _TRANSIENT or status >= 500 or status < 400:
        return Transient(said, retry_after(headers))
    of_content = bool(codes & _OF_CONTENT_CODES) or status == 413 or any(t in shown.lower() for t in _OF_CONTENT)
    return Rejected(f"refused with {said}", of_content=of_content)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date); else None."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())
