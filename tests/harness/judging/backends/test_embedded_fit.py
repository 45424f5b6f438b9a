"""The tools that fit the embedded judge make the same files twice, from data made up here."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PANEL = ROOT / "examples" / "panel" / "panel_builtin.jsonl"
SYSTEMS = ("base", "control-echo", "gsm", "mbpp", "response", "rules")
INSTRUCTIONS = 6
FILES = ("embedded_attempts.json", "embedded_quality.json", "embedded.json", "card.md")
FIT = """
import sys
from pathlib import Path

import embedded_attempts_measures, fit_embedded_attempts, fit_embedded_judge

embedded_attempts_measures.PART = 3
fit_embedded_attempts.MADE = 8
fit_embedded_attempts.TREES = fit_embedded_attempts.QUALITY_TREES = 10
fit_embedded_attempts.REPEATS = fit_embedded_judge.REPEATS = 2
data, out = Path(sys.argv[1]), Path(sys.argv[2])
panel, lima, cache = str(data / "panel.jsonl"), str(data / "lima.jsonl"), ["--cache", str(out / "cache")]
ensembles = ["--attempts", str(out / "embedded_attempts.json"), "--quality", str(out / "embedded_quality.json")]
judge = ["--config", str(out / "embedded.json"), "--card", str(out / "card.md")]
fit_embedded_attempts.main([panel, lima, *cache, *ensembles])
fit_embedded_judge.main([str(data), panel, lima, *cache, *judge])
"""
WORDS = "the a of river stone walks green under seven towns lamp carries slowly bread with and paints door".split()


def sentences(rng: random.Random, count: int) -> str:
    return " ".join(f"{' '.join(rng.choices(WORDS, k=8)).capitalize()}." for _ in range(count))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_panel(path: Path, rng: random.Random) -> None:
    """Made-up verdicts on committed answers, which the tool finds by their hashes."""
    rows = [json.loads(line) for line in PANEL.read_text(encoding="utf-8").splitlines()]
    ids = list(dict.fromkeys(row["instruction_id"] for row in rows if row["system"] == "mbpp"))[:INSTRUCTIONS]
    chosen = [row for row in rows if row["instruction_id"] in ids and row["system"] in SYSTEMS]
    for row in chosen:
        attempts = int(row["system"] not in ("base", "control-echo"))
        preference = rng.choice((0.25, 0.5, 0.75)) if attempts else 0.0
        row["verdicts"] = [{"preference": preference, "system_attempts": attempts, "reference_attempts": 1}]
    write_rows(path, chosen)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(0)
    folder = tmp_path / "data"
    folder.mkdir()
    indices = range(0, 48, 4)
    asked = {index: f"What is number {index}? {sentences(rng, 1)}" for index in indices}
    instructions = [{"index": index, "instruction": text} for index, text in asked.items()]
    (folder / "instructions.json").write_text(json.dumps(instructions), encoding="utf-8")
    for reference, preferences, models in (
        ("text_davinci_003", "ae1_gpt4", ("ash-1", "ash-2", "birch-1")),
        ("gpt4_1106_preview", "ae2_gpt4_turbo", ("ash-3", "cedar-1")),
    ):
        write_rows(
            folder / f"reference_{reference}.jsonl",
            [{"index": index, "output": sentences(rng, 3)} for index in indices],
        )
        write_rows(
            folder / f"preferences_{preferences}.jsonl",
            [
                {"model": model, "index": index, "output": sentences(rng, 2), "preference": 1 + round(rng.random(), 2)}
                for model in models
                for index in indices
            ],
        )
    turns = [[{"role": "user", "content": sentences(rng, 1)}, {"content": sentences(rng, 4)}] for _ in range(30)]
    write_rows(folder / "lima.jsonl", [{"messages": turn} for turn in turns])
    write_panel(folder / "panel.jsonl", rng)
    return folder


def fitted(data: Path, out: Path, hash_seed: str) -> dict[str, bytes]:
    """The files of a fit in a process of its own, in which sets of texts have an order of their own."""
    out.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tools"), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", FIT, str(data), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_data_give_the_same_files(data: Path, tmp_path: Path) -> None:
    first, second = (fitted(data, tmp_path / seed, seed) for seed in ("1", "2"))
    assert [name for name in FILES if first[name] != second[name]] == []
    assert json.loads(first["embedded.json"])["fit"]["pairs"]["panel"] == INSTRUCTIONS * len(SYSTEMS)
