from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import command
from implicit_if.harness.judging.command import parse_options
from implicit_if.harness.outputs import Output, OutputsMeta, instruction_id, save_outputs
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature

Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`sys.json` (sidecar says builtin) wins 3, ties 1 and loses 1 of 5 by length against `ref.json`."""
    system, reference = ["aaa", "aaa", "aaa", "aa", "a"], ["a", "a", "a", "bb", "bbbb"]
    rows = [f"Instruction {n}" for n in range(5)]
    save_outputs(
        tmp_path / "sys.json",
        [Output(instruction=i, output=o, generator="my system") for i, o in zip(rows, system, strict=True)],
        OutputsMeta(generator="my system", instruction_set="mine", instruction_revision="r1"),
    )
    save_outputs(
        tmp_path / "ref.json",
        [Output(instruction=i, output=o, generator="base") for i, o in zip(rows, reference, strict=True)][::-1],
    )
    return tmp_path


@pytest.fixture
def judge_command(folder: Path) -> Run:
    """Runs `implicit-if judge` as the command line does."""

    def run(*arguments: str, outputs: str = "sys.json", reference: str = "ref.json", judge: str = "longest") -> int:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        fixed = [str(folder / outputs), "--reference", str(folder / reference), "--judge", judge]
        return command.run(parser.parse_args([*fixed, *arguments]))

    return run


def scores_in(path: Path) -> dict[str, Score]:
    return {name: Score.model_validate(score) for name, score in json.loads(path.read_text())["scores"].items()}


def test_it_judges_prints_and_writes(judge_command: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "scores.json"
    assert judge_command("--out", str(out)) == 0
    scores = scores_in(out)
    assert scores["win_rate"].value == pytest.approx(100 * 3.5 / 5)
    assert scores["discrete_win_rate"].value == pytest.approx(100 * 3.5 / 5)
    assert set(scores) == {"win_rate", "discrete_win_rate", "length_controlled_win_rate"}
    assert all(score.complete and score.n_expected == 5 for score in scores.values())
    signature = Signature.parse(scores["win_rate"].signature)
    assert (signature.instruction_set, signature.instruction_revision) == ("mine", "r1")  # from the sidecar
    assert (signature.n, signature.reference) == (5, "base")
    assert (signature.judge, signature.orders, signature.lc) == ("longest", 1, None)
    assert Signature.parse(scores["length_controlled_win_rate"].signature).lc is not None
    printed = capsys.readouterr().out
    assert "my system against base, judged by longest" in printed
    assert scores["win_rate"].render() in printed
    assert scores["win_rate"].signature in printed
    assert "judged: 5 of 5" in printed
    assert len(list(AnnotationStore(folder / "sys.annotations.jsonl"))) == 5


def test_the_same_verdicts_give_the_same_bytes(judge_command: Run, folder: Path) -> None:
    one, other = folder / "1.json", folder / "2.json"
    judge_command("--out", str(one))
    judge_command("--out", str(other))
    assert one.read_bytes() == other.read_bytes()


def test_the_signature_names_the_answers_and_instructions_not_the_files(judge_command: Run, folder: Path) -> None:
    judge_command("--out", str(folder / "1.json"))
    rows = json.loads((folder / "ref.json").read_text())
    (folder / "ref2.json").write_text(json.dumps(rows[::-1]))
    judge_command("--out", str(folder / "2.json"), reference="ref2.json")
    rows[0]["output"] += "!"
    (folder / "ref3.json").write_text(json.dumps(rows))
    judge_command("--out", str(folder / "3.json"), reference="ref3.json")
    first, second, third = (scores_in(folder / f"{n}.json")["win_rate"].signature for n in (1, 2, 3))
    assert first == second
    assert Signature.parse(first).reference_hash != Signature.parse(third).reference_hash


def test_files_of_lm_eval_and_alpaca_eval_are_read(judge_command: Run, folder: Path) -> None:
    samples = [
        {"doc": {"instruction": f"Instruction {n}"}, "resps": [["x" * (n + 1)]], "filtered_resps": ["x" * (n + 1)]}
        for n in range(5)
    ]
    name = "samples_alpaca_winrate_2026-01-01T00-00-00.5.jsonl"
    (folder / name).write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    published = [
        {"dataset": "koala", "instruction": f"Instruction {n}", "output": "yyy", "generator": "gpt4"} for n in range(5)
    ]
    (folder / "model_outputs.json").write_text(json.dumps(published))
    judge_command("--out", str(folder / "s.json"), outputs=name, reference="model_outputs.json")
    assert scores_in(folder / "s.json")["win_rate"].value == pytest.approx(50)  # lengths 1 to 5 against 3
    assert (folder / name.replace(".jsonl", ".annotations.jsonl")).exists()


def test_limit(judge_command: Run, folder: Path) -> None:
    judge_command("--limit", "3", "--out", str(folder / "s.json"), "--annotations", str(folder / "a.jsonl"))
    score = scores_in(folder / "s.json")["win_rate"]
    assert (score.value, score.n_expected) == (100.0, 3)
    assert len(list(AnnotationStore(folder / "a.jsonl"))) == 3


def test_a_reference_with_more_answers_needs_the_flag(judge_command: Run, folder: Path) -> None:
    rows = json.loads((folder / "sys.json").read_text())[:2]
    (folder / "few.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="--allow-missing"):
        judge_command(outputs="few.json")
    assert judge_command("--allow-missing", outputs="few.json") == 0


def test_dry_run_writes_nothing(judge_command: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_command("--dry-run", "--out", str(folder / "s.json")) == 0
    assert not (folder / "s.json").exists()
    assert not (folder / "sys.annotations.jsonl").exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "judge longest: 5 verdicts to obtain, 0 calls" in captured.err


def test_missing_verdicts_are_shown_and_change_the_exit_status(
    judge_command: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from judging_fakes import FakeJudge

    from implicit_if.harness.judging import Comparison, Verdict

    def fails(c: Comparison) -> float | Verdict:
        lost = c.instruction == "Instruction 1"
        return Verdict(c.key, None, error="said \x1b[2J\ud800 nothing") if lost else 0.75

    monkeypatch.setattr(command, "get_judge", lambda spec, **options: FakeJudge(fails))
    assert judge_command("--out", str(folder / "s.json")) == 1
    captured = capsys.readouterr()
    assert "(4 of 5 judged)" in captured.out
    assert "judged: 4 of 5" in captured.out
    assert f"not judged: {instruction_id('Instruction 1')} (system_first): said" in captured.out
    assert "\x1b" not in captured.out
    scores = scores_in(folder / "s.json")
    assert scores["win_rate"].n_judged == 4
    assert not scores["win_rate"].complete
    assert scores["win_rate"].value == 50.0
    # 0.75 for the first answer, whichever it is: the system gains 0.5 by being first; "bb" against "aa" is no tie
    assert scores["position_bias"].value == pytest.approx(50.0)


def test_outputs_without_texts_need_the_instruction_set(judge_command: Run, folder: Path) -> None:
    texts = [{"instruction": f"Instruction {n}"} for n in range(5)]
    (folder / "set.json").write_text(json.dumps(texts))
    for name in ("sys.json", "ref.json"):
        rows = json.loads((folder / name).read_text())
        (folder / f"ids-{name}").write_text(json.dumps([{**row, "instruction": None} for row in rows]))
    names = {"outputs": "ids-sys.json", "reference": "ids-ref.json"}
    with pytest.raises(UserError, match="--instructions"):
        judge_command(**names)
    spec = ["--instructions", str(folder / "set.json"), "--out", str(folder / "s.json")]
    assert judge_command(*spec, **names) == 0
    assert scores_in(folder / "s.json")["win_rate"].value == pytest.approx(70)
    assert Signature.parse(scores_in(folder / "s.json")["win_rate"].signature).instruction_set == "set"
    with pytest.raises(UserError, match="no instruction"):
        judge_command("--instructions", "builtin")


def test_the_builtin_set_is_known_by_its_content(judge_command: Run, folder: Path) -> None:
    from implicit_if.harness.instructions import load_instructions

    found = load_instructions("builtin")
    for name, answer in (("b-sys", "long answer"), ("b-ref", "short")):
        rows = [Output(instruction=item.text, output=answer, generator=name) for item in found.items]
        save_outputs(folder / f"{name}.json", rows)
    judge_command("--out", str(folder / "s.json"), outputs="b-sys.json", reference="b-ref.json")
    signature = scores_in(folder / "s.json")["win_rate"].signature
    assert signature.startswith(f"set:{found.signature}|n:{len(found.items)}|ref:b-ref@")
    names = {"outputs": "b-sys.json", "reference": "b-ref.json"}
    judge_command("--out", str(folder / "s.json"), "--limit", "7", **names)
    assert scores_in(folder / "s.json")["win_rate"].signature.startswith(f"set:{found.signature}|n:7|ref:b-ref@")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"judge": "longst"}, "Did you mean 'longest'"),
        ({"outputs": "missing.json"}, "no such file"),
        ({"reference": "several.json"}, "answers of 2 systems in one file"),
        ({"judge": "openai"}, "needs an argument"),
    ],
)
def test_wrong_arguments_end_at_once(judge_command: Run, folder: Path, arguments: dict, message: str) -> None:
    rows = json.loads((folder / "ref.json").read_text())
    rows[0]["generator"] = "another"
    (folder / "several.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=message):
        judge_command(**arguments)


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--max-cost", "-1"], ["--max-cost", "nan"]])
def test_numbers_out_of_range_are_refused(judge_command: Run, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        judge_command(*arguments)


def test_options() -> None:
    assert parse_options(["a=1", "b=0.5", "c=true", "d=null", "e=text", "f=http://x/?a=b", 'g="1"', "h=", "i=[1]"]) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": None,
        "e": "text",
        "f": "http://x/?a=b",
        "g": "1",
        "h": "",
        "i": [1],
    }


@pytest.mark.parametrize("option", ["temperature", "=1", "a b=1"])
def test_malformed_options(option: str) -> None:
    with pytest.raises(UserError, match="--option"):
        parse_options([option])
    with pytest.raises(UserError, match="twice"):
        parse_options(["a=1", "a=2"])


def test_options_reach_the_judge(judge_command: Run) -> None:
    with pytest.raises(UserError, match="takes neither argument nor options, found options verbosity"):
        judge_command("--option", "verbosity=3")
