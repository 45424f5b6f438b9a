"""The card of raters: the command it prints writes a sheet, reads it back and measures it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from judge_samples import fill_in, sheet_rows

from implicit_if.harness.cli import main
from implicit_if.harness.judging.cards.measurements import Measured
from implicit_if.harness.judging.cards.page import render_card
from implicit_if.harness.outputs import Output, save_outputs

N = 6
ANNA = ["--option", "rater=anna", "--option", "kind=person"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page's command names: labels that prefer "right", and answers of two systems."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"instruction": f"Do {n}", "output_1": f"wrong {n}", "output_2": f"right {n}", "preference": 2}
        for n in range(N)
    ]
    Path("annotations.json").write_text(json.dumps(rows))
    texts = [f"Instruction {n}" for n in range(N)]
    Path("set.json").write_text(json.dumps([{"instruction": text} for text in texts]))
    for name, answer in (("A", "a good and rather long answer"), ("B", "short")):
        save_outputs(f"{name}.json", [Output(instruction=i, output=f"{answer}, {i}", generator=name) for i in texts])
    return tmp_path


def command() -> list[str]:
    """The command on the page, for the instruction set of this test."""
    program, *arguments = shlex.split(render_card("sheet").split("```")[1])
    assert program == "implicit-if"
    return [*arguments, "--instructions", "set.json"]


def test_the_printed_command_works(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command()) == 0
    sheet = files / "FOLDER" / "sheet.csv"
    assert (
        f"{15 * N} rows are in" in capsys.readouterr().out
    )  # labels, thirteen controls, B; the longer of two is A's own
    assert not Path("card.md").exists()
    fill_in(sheet, {"": "1"})  # a rater who always takes the first
    assert main([*command(), *ANNA]) == 0
    measured = Measured.model_validate_json(Path("card.json").read_text())
    n_right = sum("right" in row["answer_1"] for row in sheet_rows(sheet) if row["instruction"].startswith("Do"))
    assert measured.judge == "sheet:person/anna"
    assert measured.agreement[0].accuracy is not None
    assert measured.agreement[0].accuracy.value == pytest.approx(100 * n_right / N, abs=0.01)
    assert measured.shown_first is not None
    assert (measured.shown_first.value, measured.shown_first.n) == (100.0, 15 * N)
    assert (measured.seconds, measured.dollars) == (None, None)  # reading a file is not people's time
    page = Path("card.md").read_text()
    assert page.startswith("# Judge card: `sheet:person/anna`")
    assert "| rater | `person/anna` |" in page
    assert "Verdicts for the answer shown first, ties as half: 100.0 % [95." in page
    assert "ms of wall time" not in page
    assert "None by construction" not in page
    assert main(["judge-card", "sheet", "--out", "card.md"]) == 0  # from what lies beside it
    assert Path("card.md").read_text() == page
    assert (files / "FOLDER" / "card.annotations.jsonl").exists()

    fill_in(sheet, {"right": "1", "": "2"})  # a changed sheet is measured anew, half of it decided otherwise
    assert main([*command(), *ANNA]) == 0
    measured = Measured.model_validate_json(Path("card.json").read_text())
    assert measured.agreement[0].accuracy is not None
    assert measured.agreement[0].accuracy.value == 100.0


def test_pairs_without_a_verdict_are_no_card(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(command())
    assert main(command()) == 2
    assert "no verdict is on it yet, and the sheet does not say who judged" in capsys.readouterr().err
    assert main([*command(), *ANNA]) == 2
    told = capsys.readouterr().err
    assert "NAME: none of its 6 pairs has a verdict by sheet:person/anna (the first: not judged yet)" in told
    fill_in(files / "FOLDER" / "sheet.csv", {"right": "1", "wrong": "2"})
    assert main([*command(), *ANNA]) == 2
    assert "empty answer: none of its 6 pairs has a verdict" in capsys.readouterr().err
    Path("other").mkdir()
    Path("other/sheet.csv").write_text("key,verdict\nk62703085768106583473,1\n")
    assert main(["judge-card", "sheet:other", "--labelled", "NAME=annotations.json", *ANNA]) == 2
    assert "(the first: not on the sheet)" in capsys.readouterr().err
    assert not Path("card.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sheet", "FOLDER"], "--sheet: nothing to judge"),
        (["--labelled", "NAME=annotations.json"], "Expected --sheet FOLDER"),
        (["--labelled", "NAME=annotations.json", "--sheet", "FOLDER", "--dry-run"], "holds no sheet yet"),
    ],
)
def test_what_raters_need_is_said(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["judge-card", "sheet", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("FOLDER").exists()


def test_only_judges_that_see_no_order_are_without_position_bias_by_construction() -> None:
    assert "None by construction" in render_card("longest")
    assert "None by construction" not in render_card("sheet")
    assert "Not measured by itself" in render_card("sheet")
