"""Fixtures of the judges' tests: the fake server, and an environment without the user's keys."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fake_server import FakeServer
from judge_samples import KEY


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_CLIENT_CONFIG_PATH", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A running server; by default it answers m with probability 0.75."""
    with FakeServer() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
