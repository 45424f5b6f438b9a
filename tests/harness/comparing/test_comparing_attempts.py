"""Attempt rates in `implicit-if compare` and `score`, where the answers are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from compare_samples import IDS, TEXTS, annotate, answers, run

from implicit_if.harness.comparing.attempts import rates
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.attempts import Attempts, is_installed, single_answers
from implicit_if.harness.outputs import save_outputs
from implicit_if.harness.signature import make_signature

SIGNATURE = make_signature(
    instruction_set="m",
    instruction_revision="r",
    n=30,
    judge="j",
    fingerprint="f" * 64,
    reference="x",
    reference_sha256="e" * 64,
    orders=2,
)


def decided(told: list[float], judge: str = "embedded", places: range | None = None) -> Attempts:
    chosen = list(places or range(30))
    items = single_answers(answers("a"))
    return Attempts.at_hand([items[i] for i in chosen], told[: len(chosen)], judge, "d" * 64)


def test_rates_are_shares_of_the_common_instructions_over_seeds() -> None:
    one, two = [float(i < 20) for i in range(30)], [float(i < 10) for i in range(30)]
    part = rates({"a": [decided(one), decided(two)], "b": [decided(one, places=range(15))]}, 30, 0.95, SIGNATURE)
    a, b = part.summaries["a"], part.summaries["b"]
    assert a.by_seed == pytest.approx((100, 100 * 10 / 15))
    assert a.sd == pytest.approx(np.std([100, 100 * 10 / 15], ddof=1))
    assert (b.estimate.value, b.estimate.n_judged, b.estimate.n_expected) == (100, 15, 30)
    assert b.estimate.method == "share;wilson"
    assert part.signature.startswith("task:alpaca_winrate|set:m@r|n:30|attempts:embedded@dddddddd|")


def test_rates_of_different_judges_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be compared"):
        rates({"a": [decided([1.0] * 30)], "b": [decided([1.0] * 30, "openai:x")]}, 30, 0.95, SIGNATURE)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Arguments: two judged systems with their outputs."""
    rng = np.random.default_rng(1)
    for name in ("good", "poor"):
        annotate(tmp_path / f"{name}.annotations.jsonl", rng.uniform(0.2, 0.8, 30).tolist(), name=name)
        save_outputs(tmp_path / f"{name}.json", answers(name))
    return [str(tmp_path / f"{name}.annotations.jsonl") for name in ("good", "poor")]


@pytest.mark.skipif(not is_installed(), reason="needs the extra embedded")
def test_the_attempt_rate_is_the_first_number(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--outputs", str(tmp_path / "good.json"), str(tmp_path / "poor.json")]
    assert run(*two, *outputs, "--out", str(tmp_path / "out.json")) == 0
    printed = capsys.readouterr().out
    head = printed.splitlines()[0].split("  ")
    assert [cell.strip() for cell in head if cell.strip()][:5] == [
        "system",
        "seeds",
        "attempts",
        "95% interval",
        "win rate",
    ]
    expected = 100 * sum(len(o.output) % 2 == 0 for o in answers("good")) / 30  # by the stand-in
    report = json.loads((tmp_path / "out.json").read_text())["attempts"]
    assert report["systems"]["good"]["estimate"]["value"] == pytest.approx(expected)
    assert f"signature: {report['signature']}" in printed
    assert "|attempts:embedded@a7a7a7a7|" in printed
    assert run(*two, *outputs, "--judge-attempts", "none") == 0
    assert "attempts" not in capsys.readouterr().out


def test_without_answers_there_is_no_rate(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*two) == 0
    assert "attempts" not in capsys.readouterr().out
    assert len(IDS) == len(TEXTS)
