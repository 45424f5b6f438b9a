"""Shared by the tests of comparing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `import compare_samples`


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Annotation files of a good and a poor system."""
    from compare_samples import GOOD, POOR, annotate

    return (
        annotate(tmp_path / "good.annotations.jsonl", GOOD, name="good"),
        annotate(tmp_path / "poor.annotations.jsonl", POOR, name="poor"),
    )
