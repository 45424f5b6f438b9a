"""Task adherence on vectors whose similarities are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from implicit_if.harness import cli
from implicit_if.harness.analysis import adherence_cli
from implicit_if.harness.analysis.adherence import embedder, task_adherence
from implicit_if.harness.errors import UserError


def on_a_circle(texts: Sequence[str]) -> Any:
    """A text is an angle in degrees."""
    angles = np.radians([float(text) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


TRAIN = [("0", "0"), ("10", "10")]
TESTS = [("0", "20"), ("40", "70"), ("60", "50"), ("90", "90"), ("25", "30")]


def test_similarities_and_their_correlation_are_the_definition() -> None:
    found = task_adherence(TRAIN, TESTS, on_a_circle, neighbours=1)
    near = [np.cos(np.radians(min(a, abs(a - 10)))) for a in (0, 40, 60, 90, 25)]
    kept = [np.cos(np.radians(min(a, abs(a - 10)))) for a in (20, 70, 50, 90, 30)]
    assert [p.instruction for p in found.points] == ["0", "25", "40", "60", "90"]
    assert [p.near for p in found.points] == pytest.approx(sorted(near, reverse=True))
    assert {p.instruction: p.kept for p in found.points} == pytest.approx(
        {test[0]: value for test, value in zip(TESTS, kept, strict=True)}
    )
    assert found.correlation == pytest.approx(spearmanr(near, kept).statistic)
    assert found.interval is not None
    assert found.interval.low <= found.correlation <= found.interval.high
    both = task_adherence(TRAIN, TESTS, on_a_circle, neighbours=2)
    assert both.points[0].near == pytest.approx((1 + np.cos(np.radians(10))) / 2)


def test_the_curve_lies_within_its_interval_and_the_answers() -> None:
    smooth = np.array(task_adherence(TRAIN, TESTS, on_a_circle).smooth)
    assert np.all((smooth[:, 2] <= smooth[:, 1]) & (smooth[:, 1] <= smooth[:, 3]))


def test_near_and_far_are_means_over_the_ends_of_the_order() -> None:
    found = task_adherence(TRAIN, TESTS, on_a_circle, neighbours=1)
    near, far = found.near(0.4), found.far(0.4)
    cosines = [float(np.cos(np.radians(angle))) for angle in (10, 20, 40, 80)]  # 20, 30; 50, 90 from 10
    assert near.kept == pytest.approx((cosines[0] + cosines[1]) / 2)
    assert far.kept == pytest.approx((cosines[2] + cosines[3]) / 2)
    assert far.similarity == pytest.approx((cosines[3], float(np.cos(np.radians(50)))))
    assert near.interval.ends == pytest.approx((cosines[1], cosines[0])), "both twice, at the ends of 1000 draws"
    assert (found.near().n, found.far(0.01).n) == (2, 1)
    assert f"near {found.near()} (2), far" in adherence_cli.adherence_table(found)


def test_answers_that_do_not_vary_have_no_correlation() -> None:
    found = task_adherence(TRAIN, [(a, "5") for a, _ in TESTS], on_a_circle)
    assert (found.correlation, found.interval) == (None, None)
    assert "does not vary" in adherence_cli.adherence_table(found)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UserError, match="0 training rows and 5 answers"):
        task_adherence([], TESTS, on_a_circle)


def test_the_command_writes_table_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adherence_cli, "embedder", lambda name: on_a_circle)
    train, answers = tmp_path / "train.json", tmp_path / "answers.json"
    train.write_text(json.dumps([{"instruction": a, "response": b} for a, b in TRAIN]))
    answers.write_text(json.dumps([{"instruction": a, "output": b, "generator": "g"} for a, b in TESTS]))
    out = tmp_path / "out"
    assert cli.main(["adherence", str(answers), "--task-data", str(train), "--out", str(out)]) == 0
    assert "Spearman's correlation" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {f"adherence.{end}" for end in ("json", "md", "svg")}


def test_another_embedder_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match="sentence-transformers"):
        embedder("no/such-model")
