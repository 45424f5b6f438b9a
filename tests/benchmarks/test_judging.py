"""The benchmark of the judge stage gets every verdict from both tools, and ends with its JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "judging.py"


def test_a_small_run_prints_every_ratio() -> None:
    run = subprocess.run(  # a process of its own: the script sets the environment and silences logging
        [sys.executable, SCRIPT, "--comparisons", "40", "--alpaca-eval-comparisons", "4"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("alpaca-eval, weighted_alpaca_eval_gpt4_turbo, as it comes") == 2
    line = json.loads(run.stdout.splitlines()[-1])
    assert line["name"] == "judging"
    ratios = line["ratios"]
    assert ratios.keys() == {
        "comparisons_per_second",
        "ours_over_alpaca_eval",
        "ours_over_alpaca_eval_64_threads",
        "ours_over_alpaca_eval_64_threads_30_ms",
    }
    assert all(ratio["value"] > 1 for ratio in ratios.values())
