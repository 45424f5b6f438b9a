"""docs/embedded-replication.md is current, and its verdicts follow from the numbers beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "embedded-replication.md"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import paper_findings  # type: ignore[import-not-found]

    return paper_findings


def test_the_page_is_current(tool: Any) -> None:
    import embedded_replication  # type: ignore[import-not-found]

    assert embedded_replication.page() == PAGE.read_text(encoding="utf-8"), "run python tools/embedded_replication.py"


def test_the_matrix_s_comparison_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from implicit_if.harness.cli import main

    monkeypatch.chdir(ROOT)
    folder, made = "leaderboards/replications/embedded", tmp_path / "comparison.md"
    assert main(["replicate", "compare", folder, "--out", str(made)]) == 0
    assert made.read_text() == (ROOT / folder / "comparison.md").read_text(), f"replicate compare {folder} --out ..."


def test_verdicts_follow_from_the_intervals_that_are_shown() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text(encoding="utf-8").splitlines() if "(Table " in line]
    assert rows
    for finding, attempts, wins, _, verdict in rows:
        lows, highs = zip(*(map(float, re.findall(r"[+-]?[\d.]+", cell)[1:]) for cell in (attempts, wins)), strict=True)
        above = sum(low > 0 for low in lows)
        if "but not" in finding:
            continue
        expected = "reversed" if min(highs) < 0 else ("not shown", "holds in part", "holds")[above]
        assert verdict.strip() == expected, finding


def test_newcombe_s_interval(tool: Any) -> None:
    """His example (a): 56/70 against 48/80, difference 0.2, interval 0.0524 to 0.3339 (1998, table II, method 10)."""
    wilson = {"a": (80.0, 69.19, 87.69), "b": (60.0, 49.05, 70.04)}  # by his formula, computed apart
    made = {
        name: {"attempt_rate": {"value": value, "interval": {"low": low, "high": high}}}
        for name, (value, low, high) in wilson.items()
    }
    results = tool.Results(ROOT / "leaderboards")
    results.systems = made
    assert results.attempts_difference("a", "b") == pytest.approx((20.0, 5.24, 33.39), abs=0.02)


def test_a_finding_that_is_not_there_is_not_told(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wins:
        interval = type("I", (), {"low": 2.0, "high": 9.0})

    results = tool.Results(ROOT / "leaderboards")
    monkeypatch.setattr(results, "win_difference", lambda better, worse: Wins)
    for ends, verdict in (((-5.0, 4.0), "holds in part"), ((1.0, 4.0), "holds"), ((-9.0, -1.0), "reversed")):
        monkeypatch.setattr(results, "attempts_difference", lambda better, worse, ends=ends: (0.0, *ends))
        assert results.verdict(tool.CLAIMS[0]) == verdict
