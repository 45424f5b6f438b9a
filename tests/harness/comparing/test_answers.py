"""Which verdicts `implicit-if compare` takes, what it misses, and what its signature says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from compare_samples import GOOD, POOR, annotate, answers, reference_answers, run

from implicit_if.harness import stats
from implicit_if.harness.judging import cli as judge_command
from implicit_if.harness.outputs import OutputsMeta, save_outputs


def test_answers_that_were_not_judged_are_missing(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [o.model_copy(update={"output": o.output + "!"}) if k < 6 else o for k, o in enumerate(answers("good"))]
    save_outputs(tmp_path / "good.json", changed)
    save_outputs(tmp_path / "poor.json", answers("poor"))
    run(*two, "--outputs", tmp_path / "good.json", tmp_path / "poor.json", "--out", tmp_path / "out.json")
    shown = capsys.readouterr().out
    assert "n: 24 instructions judged for every system, of 30" in shown
    assert "missing: 6 verdicts of good" in shown
    assert "other answers: 6 instructions of good have verdicts about other answers" in shown
    assert "of poor" not in shown
    difference = json.loads((tmp_path / "out.json").read_text())["differences"][0]["difference"]
    assert (difference["n"], difference["n_expected"]) == (24, 30)


def test_outputs_that_were_judged_in_part_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [annotate(tmp_path / f"{name}.annotations.jsonl", GOOD[:6], name=name) for name in "ab"]
    for name in "ab":
        save_outputs(tmp_path / f"{name}.json", answers(name))
    run(*files, "--outputs", tmp_path / "a.json", tmp_path / "b.json")
    shown = capsys.readouterr().out
    assert "n: 6 instructions judged for every system, of 30" in shown
    assert "missing: 24 verdicts of a" in shown
    assert "other answers" not in shown
    assert "|n:30|" in shown


def test_one_file_of_two_references_is_read_by_either(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        files.append(annotate(tmp_path / f"{name}.annotations.jsonl", GOOD if name == "a" else POOR, name=name))
        annotate(files[-1], [0.5] * 30, name=name, reference="other")
        save_outputs(tmp_path / f"{name}.json", answers(name))
    outputs = "--outputs", tmp_path / "a.json", tmp_path / "b.json"
    for reference, value in (("reference", stats.win_rate(GOOD).value), ("other", 50)):
        save_outputs(tmp_path / f"{reference}.json", reference_answers(reference))
        for more in ((), outputs):
            run(*files, *more, "--reference-outputs", tmp_path / f"{reference}.json", "--out", tmp_path / "out.json")
            written = json.loads((tmp_path / "out.json").read_text())
            assert written["systems"]["a"]["estimate"]["value"] == pytest.approx(value)
            assert f"|ref:{reference}@" in written["signature"]
            assert (written["length_controlled"] is None) == (not more)


def test_a_judge_that_only_failed_is_none_to_choose(two: tuple[Path, Path], tmp_path: Path) -> None:
    annotate(two[1], [None] * 30, name="poor", judge="down")
    run(*two, "--out", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["systems"]["poor"]["estimate"]["value"] == pytest.approx(stats.win_rate(POOR).value)


def test_the_signature_is_that_of_the_judge_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def judge(*argv: str | Path) -> None:
        parser = argparse.ArgumentParser()
        judge_command.add_arguments(parser)
        judge_command.run(parser.parse_args([str(a) for a in argv]))

    meta = OutputsMeta(generator="a", instruction_set="mine", instruction_revision="7")
    for sidecar in (None, meta):
        for name in ("a", "b", "the reference"):
            save_outputs(tmp_path / f"{name}.json", answers(name), sidecar)
        for name in "ab":
            out = tmp_path / f"{name}.scores.json"
            judge(
                tmp_path / f"{name}.json",
                "--reference",
                tmp_path / "the reference.json",
                "--judge",
                "longest",
                "--out",
                out,
            )
        files = [tmp_path / f"{name}.annotations.jsonl" for name in "ab"]
        outputs = ["--outputs", tmp_path / "a.json", tmp_path / "b.json"]
        signed = json.loads((tmp_path / "a.scores.json").read_text())["scores"]["win_rate"]["signature"]
        assert "|ref:the%20reference@" in signed
        capsys.readouterr()
        run(*files, *outputs, "--reference-outputs", tmp_path / "the reference.json", "--out", tmp_path / "out.json")
        assert json.loads((tmp_path / "out.json").read_text())["signature"] == signed
        assert "do not say what the reference is called" not in capsys.readouterr().out
        run(*files, *outputs, "--reference", "the reference")
        assert f"signature: {signed}" in capsys.readouterr().out
        run(*files)
        assert "do not say what the reference is called" in capsys.readouterr().out
