"""`implicit-if score` and `compare` on alpaca-eval's annotations.json; alpaca-eval's own scoring is the oracle."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from implicit_if.harness.cli import main
from implicit_if.harness.comparing import score_cli
from implicit_if.harness.comparing.published import expected_of, is_published, missing_rows, read_published
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import official_ids
from implicit_if.harness.scores import Score

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"


def rows_of(name: str, n: int = 60, seed: int = 0, rate: float = 0.4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "instruction": f"Question {i}?",
            "output_1": "r" * int(rng.integers(50, 400)),
            "generator_1": "gpt4_1106_preview",
            "dataset": "helpful_base",
            "output_2": "s" * int(rng.integers(50, 400)),
            "generator_2": name,
            "annotator": ANNOTATOR,
            "preference": float(1 + np.clip(rng.normal(rate, 0.3), 0, 1)),
            "price_per_example": 0.01,
            "raw_completion": None,
        }
        for i in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def theirs(rows: list[dict[str, Any]]) -> dict[str, float]:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca_eval.metrics import get_winrate

        return dict(get_winrate(pd.DataFrame(rows)))


def score(*argv: str | Path) -> int:
    return main(["score", *map(str, argv)])


def scores_in(path: Path) -> dict[str, Score]:
    return {name: Score.model_validate(value) for name, value in json.loads(path.read_text())["scores"].items()}


@pytest.mark.parametrize("draws", [0, 7])
def test_scores_are_alpaca_evals(tmp_path: Path, capsys: pytest.CaptureFixture[str], draws: int) -> None:
    rows = rows_of("mine")
    for row in rows[:draws]:
        row["preference"] = 1.5 if draws % 2 else 0
    rows[0]["preference"] = 0  # their other way to write a draw
    path = write(tmp_path / "annotations.json", rows)
    assert score(path, "--out", tmp_path / "s.json") == 0
    found, expected = scores_in(tmp_path / "s.json"), theirs(rows)
    assert found["win_rate"].value == pytest.approx(expected["win_rate"], abs=1e-10)
    assert found["discrete_win_rate"].value == pytest.approx(expected["discrete_win_rate"], abs=1e-10)
    assert found["length_controlled_win_rate"].settings.lc == "offline(gpt4-turbo,c0.3)"
    signature = found["win_rate"].settings
    assert (signature.task, signature.reference, signature.judge) == ("alpaca_winrate", "gpt4_1106_preview", ANNOTATOR)
    assert (signature.n, signature.orders) == (60, 1)
    printed = capsys.readouterr().out
    assert "mine against gpt4_1106_preview, judged by weighted_alpaca_eval_gpt4_turbo" in printed
    assert f"signature: {signature}" in printed


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_null_verdicts_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: float | None
) -> None:
    rows = rows_of("mine")
    rows[3]["preference"] = rows[7]["preference"] = missing
    path = write(tmp_path / "annotations.json", rows)
    assert score(path, "--out", tmp_path / "s.json") == 1
    win_rate = scores_in(tmp_path / "s.json")["win_rate"]
    assert (win_rate.n_judged, win_rate.n_expected) == (58, 60)
    assert win_rate.value == pytest.approx(theirs([r for i, r in enumerate(rows) if i not in (3, 7)])["win_rate"])
    printed = capsys.readouterr().out
    ids = [pair.instruction_id for pair in read_published(path).pairs]
    assert f"rows without a preference: 2 ({ids[3]}, {ids[7]})" in printed
    assert "judged: 58 of 60" in printed
    assert "run the same command again" not in printed


def test_rows_that_alpaca_eval_has_and_the_file_lacks_are_expected() -> None:
    official = official_ids()
    assert expected_of(official[:803]) == 805
    assert expected_of([*official[:803], "0" * 16]) == 804
    found = read_published_with(list(official[2:]))
    assert missing_rows(found) == [f"instructions without a row: 2 ({official[0]}, {official[1]})"]
    assert found.judgement.n_expected == 805


def read_published_with(ids: list[str]) -> Any:
    from implicit_if.harness.annotations import Annotation
    from implicit_if.harness.comparing.published import PublishedAnnotations

    made = [
        Annotation(
            instruction_id=i,
            order="none",
            preference=0.5,
            judge="j",
            fingerprint="f",
            system_sha256="a",
            reference_sha256="b",
        )
        for i in ids
    ]
    return PublishedAnnotations([], made, expected_of(ids))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(dict(rows[4])), r"row 5 and row 61 annotate the same instruction \('Question 4\?'\)"),
        (lambda rows: rows[2].update(preference=2.5), r"row 3: preference is '2.5'. Expected 1 \(output_1\) to 2"),
        (lambda rows: rows[2].update(preference="m"), "row 3: preference is 'm'"),
        (lambda rows: rows[2].update(preference=True), "row 3: preference is 'True'"),
        (lambda rows: rows[5].update(output_2=None), "row 6: output_2 is 'None'"),
        (lambda rows: rows[5].pop("output_1"), "row 6: output_1 is 'None'"),
        (lambda rows: rows[1].update(generator_2="other"), "generator_2 has 2 values"),
        (lambda rows: rows[1].update(annotator="other"), "annotator has 2 values"),
        (lambda rows: rows.clear(), "found no row"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: Any, message: str) -> None:
    rows = rows_of("mine")
    change(rows)
    with pytest.raises(UserError, match=message):
        read_published(write(tmp_path / "annotations.json", rows))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"preference": 1}\n', "[", "null"])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert score(tmp_path / "x.json") == 2
    assert str(tmp_path / "x.json") in capsys.readouterr().err
    assert score(tmp_path / "absent.json") == 2


def test_compare_takes_them_with_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, poor = rows_of("good", rate=0.7), rows_of("poor", rate=0.2, seed=1)
    for mine, other in zip(poor, good, strict=True):
        mine["output_1"] = other["output_1"]
    poor[5]["preference"] = None
    files = [write(tmp_path / f"{name}.json", rows) for name, rows in (("g", good), ("p", poor))]
    assert all(map(is_published, files))
    assert main(["compare", *map(str, files), "--out", str(tmp_path / "c.json")]) == 0
    told = json.loads((tmp_path / "c.json").read_text())
    kept = [i for i in range(60) if i != 5]
    expected = theirs([good[i] for i in kept])["win_rate"] - theirs([poor[i] for i in kept])["win_rate"]
    assert told["differences"][0]["difference"]["value"] == pytest.approx(expected)
    assert (told["differences"][0]["first"], told["n"], told["n_expected"]) == ("good", 59, 60)
    assert told["length_controlled"] is not None
    assert "ref:gpt4_1106_preview@" in told["signature"]
    printed = capsys.readouterr().out
    assert "missing: 1 verdicts of poor" in printed
    assert "LC difference" in printed


def test_compare_refuses_other_references(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{s}.json", rows_of(f"m{s}", seed=s)) for s in (0, 1)]
    assert main(["compare", *map(str, files)]) == 2


def test_help_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        score("--help")
    assert "annotations.json" in capsys.readouterr().out
    assert score_cli.HELP.startswith("score alpaca-eval's annotations.json")
