"""Openings against counts by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from scipy.stats import entropy

from implicit_if.harness import cli
from implicit_if.harness.analysis.openings import find_openings
from implicit_if.harness.errors import UserError

ROWS = ["1. e4 e5", "1. e4 c5", "1. d4 d5 2. c4", "1. e4"]


def test_entropy_and_opening_equal_counts_by_hand() -> None:
    found = find_openings("chess", ROWS, length=8)
    assert (found.opening, found.share) == ("1 . e4", 75.0)
    by_scipy = [entropy(counts, base=2) for counts in ([4], [4], [3, 1], [1, 1, 1, 1], [3, 1], [3, 1], [3, 1], [4])]
    assert found.entropy == pytest.approx(by_scipy), "e4 e4 d4 e4; e5 c5 d5 end; then one row goes on"
    assert found.most_bits == 2
    assert math.copysign(1, found.entropy[0]) == 1


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="found 0 responses"):
        find_openings("x", [])


def test_the_command_puts_scores_beside_the_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "mine.json"
    data.write_text(json.dumps([{"instruction": f"play {i}", "response": row} for i, row in enumerate(ROWS)]))
    gsm = tmp_path / "gsm.jsonl"
    gsm.write_text(
        "".join(json.dumps({"question": f"q{i}", "answer": f"{i} is it\n#### {i}"}) + "\n" for i in range(3))
    )
    scores = tmp_path / "scores.json"
    made = {"value": 23.75, "interval": {"low": 20, "high": 30.25}, "signature": "task:t|n:3"}
    scores.write_text(json.dumps({"scores": {"win_rate": made, "attempt_rate": {"value": 61.0}}}))
    out = tmp_path / "out"
    arguments = ["openings", f"mine={data}", f"gsm={gsm}", "--scores", f"gsm={scores}", "--out", str(out)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "| 23.8 [20.0, 30.2] | 61.0 |" in (out / "openings.md").read_text()
    assert shown.splitlines()[3].split()[-4:] == ["23.8", "[20.0,", "30.2]", "61.0"]
    assert "- gsm, win rate: `task:t|n:3`" in shown
    assert "- gsm, attempt rate: `not signed`" in shown
    found = json.loads((out / "openings.json").read_text())
    assert [row["rows"] for row in found] == [4, 3]
    assert (found[1]["win_rate"], found[1]["win_rate_signature"]) == (23.75, "task:t|n:3")
    assert cli.main([*arguments, "--scores", "poetry=x.json"]) == 2
