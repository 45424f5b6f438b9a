"""Version 1 of the embedded judge gives the verdicts that are stored of it, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.registry import get_judge, offline_judge, offline_judges
from implicit_if.harness.outputs import load_outputs

ROOT = Path(__file__).resolve().parents[4]
FINGERPRINT = "854d89bee42f91608c9090a89c7849e07f7855263d0f6781a86ba6598c87b548"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_fingerprint_is_that_of_stored_annotations() -> None:
    assert offline_judges()["embedded:1"] == FINGERPRINT
    assert get_judge("embedded:1").fingerprint == FINGERPRINT
    assert offline_judges()["embedded"] != FINGERPRINT


def test_annotations_of_either_name_find_their_judge() -> None:
    assert offline_judge("embedded", FINGERPRINT) == "embedded:1"
    assert offline_judge("embedded:1", FINGERPRINT) == "embedded:1"
    assert offline_judge("longest", FINGERPRINT) is None
    assert offline_judge("embedded:1", offline_judges()["embedded"]) is None
    assert offline_judge("embedded", "0" * 64) is None


@pytest.mark.parametrize("system", ["rules", "gsm", "base"])
def test_stored_verdicts_are_given_again(system: str) -> None:
    folders = list((ROOT / "leaderboards").rglob(f"implicit-if__gemma-3-270m-{system}/*/annotations.jsonl"))
    path = next(p for p in folders if lines(p)[0]["fingerprint"] == FINGERPRINT)
    stored = {row["instruction_id"]: row for row in lines(path)}
    answers = {row["instruction_id"]: row["output"] for row in lines(path.with_name("outputs.jsonl"))}
    references = ROOT / "harness" / "references" / "gemma-3-270m"
    files = [f for f in sorted(references.rglob("builtin@*.json")) if not f.name.endswith(".meta.json")]
    by_hash = {o.sha256: o.output for f in files for o in load_outputs(f)}
    texts = load_instructions("builtin").texts()
    some = sorted(stored)[::16]
    comparisons = [Comparison(key, texts[key], answers[key], by_hash[stored[key]["reference_sha256"]]) for key in some]
    judge = get_judge("embedded:1")
    assert judge.name == "embedded:1"
    for verdict in judge.judge(comparisons):
        assert verdict.prefers_first == pytest.approx(stored[verdict.key]["preference"], abs=1e-6)
        assert verdict.raw == stored[verdict.key]["raw"]
