"""Shared by the tests of judging."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fake_server import FakeServer

sys.path.insert(0, str(Path(__file__).parent))  # for `import judging_fakes`, which a second process runs as a program


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the annotations go."""
    return tmp_path / "annotations.jsonl"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from judge_samples import KEY

    for name in ("OPENAI_BASE_URL", "OPENAI_CLIENT_CONFIG_PATH", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A running server; by default it answers m with probability 0.75."""
    from fake_server import FakeServer

    with FakeServer() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
