"""Shared by the tests of judging."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `import judging_fakes`, which a second process runs as a program


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the annotations go."""
    return tmp_path / "annotations.jsonl"
