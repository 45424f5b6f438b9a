"""Tables and figures of runs: the numbers of `compare`, law 1, and files that other programs read."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from factory import LOOKALIKE_SEED, CoinJudge, LongestJudge, judge_all, make_submission, outputs, run

from implicit_if.harness.comparing import cli as compare_command
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.judged_run import sidecar
from implicit_if.harness.outputs import Output, save_outputs
from implicit_if.harness.storage import jsonl_bytes, write_json
from implicit_if.leaderboards.commands import figure as figure_command
from implicit_if.leaderboards.commands import table as table_command
from implicit_if.leaderboards.runs import figure

NS = "{http://www.w3.org/2000/svg}"
SCORES = ("attempt_rate", "win_rate", "lc")


def judged(folder: Path, name: str, seed: int, reference: Sequence[Output], judge: Any = None) -> Path:
    """A file of outputs with its annotations beside it."""
    system = outputs(name, 80, seed)
    path = folder / f"{name}-{seed}.json"
    meta = sidecar(name, load_instructions("builtin"), None, {"max_gen_toks": 256, "do_sample": False}, {})
    save_outputs(path, system, meta)
    lines = judge_all(judge or CoinJudge(), system, reference)
    path.with_suffix(".annotations.jsonl").write_bytes(jsonl_bytes([a.model_dump() for a in lines]))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> list[Output]:
    answers = outputs("sibling", 80, LOOKALIKE_SEED)
    save_outputs(tmp_path / "sibling.json", answers)
    return answers


def table(*arguments: object, form: str = "csv") -> str:
    parser = argparse.ArgumentParser()
    table_command.add_arguments(parser)
    args = parser.parse_args([*map(str, arguments), "--format", form])
    from implicit_if.leaderboards.runs.table import render

    return render(table_command.table_of(args), form)


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["system"]: row for row in csv.DictReader(io.StringIO(text))}


def test_numbers_are_those_of_compare(tmp_path: Path, reference: list[Output]) -> None:
    one = judged(tmp_path, "one", 1, reference)
    seeds = [judged(tmp_path, "two", seed, reference) for seed in (2, 3, 4)]
    both = [f"one={one}", f"two={','.join(map(str, seeds))}"]
    found = rows_of(table(*both, "--reference", tmp_path / "sibling.json"))
    verdicts = [str(p.with_suffix(".annotations.jsonl")) for p in (one, *seeds)]
    command = [f"one={verdicts[0]}", f"two={','.join(verdicts[1:])}", "--reference-outputs", tmp_path / "sibling.json"]
    command += ["--outputs", one, ",".join(map(str, seeds)), "--out", tmp_path / "compared.json"]
    assert run(compare_command, *map(str, command)) == 0
    compared = json.loads((tmp_path / "compared.json").read_text())
    parts = {"win_rate": compared, "lc": compared["length_controlled"], "attempt_rate": compared["attempts"]}
    for column, part in parts.items():
        for name, told in part["systems"].items():
            estimate, row = told["estimate"], found[name]
            assert float(row[column]) == pytest.approx(estimate["value"], abs=1e-9)
            ends = [float(row[f"{column}_{end}"]) for end in ("low", "high")]
            assert ends == pytest.approx(estimate["interval"]), (column, name)
            assert row[f"{column}_sd"] == "" if told["sd"] is None else float(row[f"{column}_sd"]) == told["sd"]
            assert int(row[f"{column}_n_judged"]) == estimate["n"]
    assert found["one"]["win_rate_signature"].split("|judge")[1] == compared["signature"].split("|judge")[1]
    assert (found["one"]["seeds"], found["two"]["seeds"]) == ("1", "3")


def test_rounding_is_that_of_scores_and_columns(tmp_path: Path, reference: list[Output]) -> None:
    one = judged(tmp_path, "one", 1, reference)
    unrounded = rows_of(table(one, "--reference", tmp_path / "sibling.json"))["one"]
    text = table(one, "--reference", tmp_path / "sibling.json", form="markdown")
    head, _, row = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")[:3]]
    assert head[:3] == ["system", "attempts %", "win rate %"]
    low, high, value = (float(unrounded[f"win_rate{end}"]) for end in ("_low", "_high", ""))
    assert row[2] == f"{value:.1f} [{low:.1f}, {high:.1f}]"
    assert row[head.index("length")] == f"{float(unrounded['avg_length']):.0f}"
    assert "Brackets: 95% intervals." in text
    assert f"win rate: `{unrounded['win_rate_signature']}`" in text


def test_a_submission_a_save_folder_and_outputs_share_a_table(tmp_path: Path, reference: list[Output]) -> None:
    told = {"reference_name": "sibling", "judge": LongestJudge(), "template": {"name": "model"}}
    made = make_submission(tmp_path / "s", n=80, **told)  # type: ignore[arg-type]
    saved = tmp_path / "saved"
    path = judged(tmp_path, "kept", 5, reference, LongestJudge())
    for source, target in (
        (path, "outputs.json"),
        (path.with_suffix(".meta.json"), "outputs.meta.json"),
        (path.with_suffix(".annotations.jsonl"), "annotations.jsonl"),
        (tmp_path / "sibling.json", "reference.json"),
    ):
        saved.mkdir(exist_ok=True)
        (saved / target).write_bytes(source.read_bytes())
    found = rows_of(table(made, saved, f"file={path}", "--reference", tmp_path / "sibling.json"))
    assert list(found) == ["rules paper", "kept", "file"]
    for column in SCORES:
        assert found["kept"][column] == found["file"][column]
    stored = json.loads((made / "scores.json").read_text())["scores"]["win_rate"]
    assert float(found["rules paper"]["win_rate"]) == stored["value"]
    folder = rows_of(table(tmp_path / "s"))
    assert list(folder) == ["rules paper"]


def test_part_of_a_set_says_so(tmp_path: Path, reference: list[Output]) -> None:
    path = judged(tmp_path, "one", 1, reference)
    store = path.with_suffix(".annotations.jsonl")
    store.write_text("\n".join(store.read_text().splitlines()[:-1]) + "\n")
    text = table(path, "--reference", tmp_path / "sibling.json", form="markdown")
    assert "(79 of 80)" in text
    assert text.split("\n")[2].split("|")[-2].strip() == "79 of 80"


def test_ablation_folders_and_named_references(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "docs" / "ablations" / "gemma-3-270m"
    content = json.loads((shipped / "table.json").read_text())
    write_json(tmp_path / "table.json", content)
    found = rows_of(table(tmp_path, "--columns", "win_rate,lc,finish_rate"))
    assert list(found) == [row["system"] for row in content["rows"]]
    for row in content["rows"]:
        assert float(found[row["system"]]["win_rate"]) == row["scores"]["win_rate"]["value"]
        assert float(found[row["system"]]["finish_rate"]) == row["finish_rate"]
    name = "gemma-3-270m/response-full-s1"
    alone = rows_of(table(name))[name]
    assert "win_rate" not in alone
    assert float(alone["avg_length"]) > 0
    write_json(tmp_path / "table.json", {"rows": [{"system": "x"}]})
    with pytest.raises(UserError, match="not a table of implicit-if ablate"):
        table(tmp_path)


def test_numbers_that_do_not_compare_share_no_table(tmp_path: Path, reference: list[Output]) -> None:
    first = judged(tmp_path, "one", 1, reference)
    second = judged(tmp_path, "two", 2, reference, LongestJudge())
    arguments = (first, second, "--reference", tmp_path / "sibling.json")
    with pytest.raises(UserError, match=r"one and two differ in judge:openai:coin@\w+ and judge:longest@") as caught:
        table(*arguments)
    assert "--columns" in str(caught.value)
    assert set(rows_of(table(*arguments, "--columns", "attempt_rate,avg_length"))) == {"one", "two"}


def test_names_differ_and_seeds_belong_together(tmp_path: Path, reference: list[Output]) -> None:
    one, two = (judged(tmp_path, "one", seed, reference) for seed in (1, 2))
    rest = ("--reference", tmp_path / "sibling.json")
    with pytest.raises(UserError, match=r"stand twice \(first: one\). Give names, NAME=RUN"):
        table(one, two, *rest)
    other = judged(tmp_path, "three", 3, reference, LongestJudge())
    with pytest.raises(UserError, match="x: its runs differ in judge"):
        table(f"x={one},{other}", *rest)
    with pytest.raises(UserError, match="unknown column 'winrate'. Did you mean 'win_rate'"):
        table(one, *rest, "--columns", "winrate")
    with pytest.raises(UserError, match="no such file, folder or named reference"):
        table("gemma-3-270m/instruktion")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        table(tmp_path / "empty")


HOSTILE = r"[a] \input{x} 100% $x_1^2$ & #1 ~ {b} <|user|> --- \end{table}"


def unescaped(cell: str) -> str:
    """What LaTeX prints of a cell: our own commands undone, nothing else accepted."""
    commands = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<"}
    commands |= {"textgreater": ">", "textbar": "|", "dots": "…"}
    cell = re.sub(r"\\(text\w+|dots)\{\}", lambda m: f"\0{ord(commands[m[1]])}\0", cell).replace(r"$\pm$", "±")
    assert not re.search(r"(?<!\\)[%$#&_^~]", cell)
    assert not re.search(r"\\[A-Za-z]", cell)
    cell = re.sub(r"(?<!\\)[{}]", "", cell)
    cell = re.sub(r"\\([&%$#_{}])", r"\1", cell)
    return re.sub("\0(\\d+)\0", lambda m: chr(int(m[1])), cell)


def test_latex_is_balanced_and_escaped(tmp_path: Path, reference: list[Output]) -> None:
    one = judged(tmp_path, "one", 1, reference)
    seeds = ",".join(str(judged(tmp_path, "s", seed, reference)) for seed in (2, 3))
    text = table(f"{HOSTILE}={one}", f"*={seeds}", "--reference", tmp_path / "sibling.json", form="latex")
    begun, ended = (re.findall(rf"^\\{word}\{{(\w+)\}}", text, re.MULTILINE) for word in ("begin", "end"))
    assert (begun, ended) == (["table", "tabular"], ["tabular", "table"])
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    columns = len(re.search(r"\\begin\{tabular\}\{(l r*|lr*)\}", text)[1])  # type: ignore[index]
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().split("\n")
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.split(r"(?<!\\)&", line)) == columns
        assert line[0] not in "[*"  # behind a line break these would open an argument
    cells = [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in body]
    assert [unescaped(row[0]) for row in cells] == [HOSTILE, "*"]
    expected = table(f"x={one}", f"y={seeds}", "--reference", tmp_path / "sibling.json", form="markdown")
    shown = [[c.strip() for c in line.split("|")[2:-1]] for line in expected.split("\n")[2:4]]
    assert [[unescaped(cell) for cell in row[1:]] for row in cells] == shown


def test_a_figure_holds_the_table_s_numbers(tmp_path: Path, reference: list[Output], capsys: Any) -> None:
    paths = [judged(tmp_path, name, seed, reference) for name, seed in (("a & b", 1), ("two", 2))]
    target = tmp_path / "f.svg"
    arguments = [*map(str, paths), "--reference", str(tmp_path / "sibling.json"), "--columns", "win_rate"]
    assert run(figure_command, *arguments, "--out", str(target)) == 0
    shown = [element.text for element in ET.fromstring(target.read_text()).iter(f"{NS}text")]
    numbers = rows_of(table(*arguments))
    assert {"a & b", "two", "win rate %"} <= set(shown)
    assert {f"{float(row['win_rate']):.0f}" for row in numbers.values()} <= set(shown)
    assert numbers["two"]["win_rate_signature"] in "".join(map(str, shown)).replace(" ", "")
    for ending, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert run(figure_command, *arguments, "--out", str(tmp_path / f"f.{ending}")) == 0
        assert (tmp_path / f"f.{ending}").read_bytes().startswith(start)
    assert "written:" in capsys.readouterr().out


def test_a_figure_says_what_it_needs(tmp_path: Path, reference: list[Output], monkeypatch: pytest.MonkeyPatch) -> None:
    one = str(judged(tmp_path, "one", 1, reference))
    rest = ("--reference", str(tmp_path / "sibling.json"))
    with pytest.raises(UserError, match=r"ends in '.jpg'. Expected one of .svg, .png, .pdf"):
        run(figure_command, one, *rest, "--out", str(tmp_path / "f.jpg"))
    with pytest.raises(UserError, match="none of these is a score"):
        run(figure_command, one, *rest, "--columns", "n", "--out", str(tmp_path / "f.svg"))
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(UserError, match=r"pip install 'implicit-if\[figures\]'"):
        figure.write("<svg/>", tmp_path / "f.png")
    assert not (tmp_path / "f.png").exists()


def test_the_commands_are_found(tmp_path: Path, reference: list[Output]) -> None:
    one = judged(tmp_path, "one", 1, reference)
    command = ["table", str(one), "--reference", str(tmp_path / "sibling.json"), "--judge-attempts", "none"]
    command += ["--out", str(tmp_path / "t.md")]
    subprocess.run([sys.executable, "-m", "implicit_if", *command], check=True, capture_output=True)
    assert (tmp_path / "t.md").read_text().startswith("| system")


def test_the_documentation_s_examples_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    root = Path(__file__).parents[3]
    block = (root / "docs" / "papers.md").read_text(encoding="utf-8").split("```bash\n")[1].split("```")[0]
    lines = [line.split()[1:] for line in block.replace("\\\n", " ").splitlines() if "docs/ablations" in line]
    monkeypatch.chdir(root)
    for name, *arguments in lines:
        assert arguments[-2:] != ["--out", "ablation.svg"] or name == "figure"
        command = {"table": table_command, "figure": figure_command}[name]
        assert run(command, *(str(tmp_path / a) if a == "ablation.svg" else a for a in arguments)) == 0
    assert len(lines) == 2
    assert capsys.readouterr().out.startswith("system,seeds,attempt_rate,")
    assert (tmp_path / "ablation.svg").read_text().startswith("<svg")
