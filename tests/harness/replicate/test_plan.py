"""The plan: matrices as cells in order, with what they need."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cells import Cell, find, levels
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.matrix import MATRICES, load_matrix, matrix_names
from implicit_if.harness.replicate.plan import plan


def cells_of(name: str) -> list[Cell]:
    return plan(load_matrix(name))


def test_three_matrices_ship() -> None:
    assert matrix_names() == ["embedded", "paper", "single_gpu"]


@pytest.mark.parametrize("name", matrix_names())
def test_each_cell_comes_after_those_it_needs(name: str) -> None:
    cells = cells_of(name)
    seen: set[str] = set()
    for cell in cells:
        assert set(cell.needs) <= seen
        assert cell.name not in seen
        seen.add(cell.name)
    assert [cell.name for cell in cells[-2:]] == ["tables", "comparison"]
    assert [c for level in levels(cells) for c in level if not set(c.needs) <= seen] == []


@pytest.mark.parametrize("name", matrix_names())
def test_what_a_command_reads_is_an_artefact_of_a_cell_it_needs(name: str) -> None:
    cells = cells_of(name)
    by_name = {cell.name: cell for cell in cells}
    for cell in cells:
        own = (f"cells/{cell.name}", *cell.artefacts)
        there = [artefact for need in cell.needs for artefact in by_name[need].artefacts]
        words = [part for word in cell.command for part in word.replace("pretrained=", "").split(",")]
        for path in (word for word in words if word.startswith("cells/")):
            assert path.startswith(own) or path in there, (cell.name, path)


def test_the_paper_s_matrix_is_180_trainings() -> None:
    cells = cells_of("paper")
    kinds = [cell.kind for cell in cells]
    assert kinds.count("tune") == 90  # (10 recipes of Llama-2-7B and 8 of OLMo-7B) times 5 seeds
    assert kinds.count("select") == 18  # 5 epochs each: 90 more
    for seed in range(1, 6):  # each seed is judged against the same seed's sibling
        cell = find(cells, f"judge-olmo-7b-gsm-s{seed}")
        assert f"cells/answer-olmo-7b-instruction-s{seed}/outputs.json" in cell.command
    tags = find(cells, "judge-llama2-7b-response_ab_tags-s2")
    assert "cells/answer-llama2-7b-instruction_ab_tags-s2/outputs.json" in tags.command


def test_untuned_systems_answer_once_and_are_judged_against_every_seed() -> None:
    cells = cells_of("paper")
    assert [c.name for c in cells if c.kind == "answer" and c.name.endswith("-base")] == [
        "answer-llama2-7b-base",
        "answer-olmo-7b-base",
    ]
    assert len([c for c in cells if c.name.startswith("judge-llama2-7b-base-s")]) == 5


def test_the_embedded_matrix_needs_no_gpu_no_api_and_hours() -> None:
    cells = cells_of("embedded")
    assert not any(cell.gpus or cell.api for cell in cells)
    assert 2 < sum(cell.costs.hours for cell in cells) < 24
    only = find(cells, "answer-gemma-3-270m-only-eos")
    assert "rules=paper,drop=uniform+diversity,dtype=float32" in only.command


def test_a_sweep_s_choice_reaches_the_tunings() -> None:
    cell = find(cells_of("paper"), "tune-olmo-7b-chess-s3")
    assert cell.needs == ("select-olmo-7b-chess",)
    assert "train.epochs={epochs of select-olmo-7b-chess}" in cell.command


def test_plan_says_so_as_a_table_and_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replicate", "plan", "single_gpu"]) == 0
    table = capsys.readouterr().out
    assert "tune-llama2-7b-gsm-s1" in table
    assert "judge USD" in table
    assert main(["replicate", "plan", "single_gpu", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(cells_of("single_gpu"))
    figures = {"gpus", "hours", "memory_gb", "disk_gb", "judge_calls", "judge_cost", "needs", "command"}
    assert all(figures <= row.keys() for row in rows)
    assert sum(row["judge_calls"] for row in rows) == 805 * 12  # 7 tuned systems, base, rules, 3 ablations, one order


@pytest.mark.parametrize("name", matrix_names())
def test_plan_takes_two_seconds_at_most_and_no_engine(name: str) -> None:
    hidden = "import sys; sys.modules['snakemake'] = None; from implicit_if.harness.cli import main; "
    heavy = "; assert not {'torch', 'transformers', 'pandas', 'snakemake.api'} & set(sys.modules)"
    began = time.process_time(), time.monotonic()
    subprocess.run(
        [sys.executable, "-c", f"{hidden}main(['replicate', 'plan', '{name}']){heavy}"], check=True, capture_output=True
    )
    assert time.monotonic() - began[1] < 2 * 5  # other work may hold the machine up; alone it takes 0.5 s


def test_a_matrix_of_one_s_own(tmp_path: Path) -> None:
    values = yaml.safe_load((MATRICES / "embedded.yaml").read_text())
    values["seeds"] = [1, 2]
    values["models"][0]["recipes"] = ["instruction", "gsm"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    matrix = load_matrix(path)
    assert matrix.name == "mine"
    assert [c.name for c in plan(matrix) if c.kind == "tune"] == [
        f"tune-gemma-3-270m-{recipe}-s{seed}" for seed in (1, 2) for recipe in ("instruction", "gsm")
    ]


def test_fewer_rows_take_less_time(tmp_path: Path) -> None:
    values = yaml.safe_load((MATRICES / "embedded.yaml").read_text())
    hours = []
    for settings in ([], ["data.limit=103"]):
        values["models"][0]["settings"] = settings
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
        hours.append({cell.name: cell.costs.hours for cell in plan(load_matrix(tmp_path / "mine.yaml"))})
    usual, cells = hours
    assert cells["tune-gemma-3-270m-instruction-s1"] == pytest.approx(
        0.1 * usual["tune-gemma-3-270m-instruction-s1"], rel=0.05
    )
    assert cells["tune-gemma-3-270m-mbpp-s1"] == pytest.approx(103 / 374 * usual["tune-gemma-3-270m-mbpp-s1"], rel=0.05)
    assert cells["answer-gemma-3-270m-base"] == usual["answer-gemma-3-270m-base"]


def test_files_that_a_matrix_names_stand_beside_it_and_their_content_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    (there / "models" / "m").mkdir(parents=True)
    values = yaml.safe_load((MATRICES / "embedded.yaml").read_text())
    values |= {"instructions": "few.jsonl", "pairs": "./pairs.jsonl"}
    for name in ("few.jsonl", "pairs.jsonl"):
        (there / name).write_text("{}")
    (there / "mine.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    cells = {cell.name: cell for cell in plan(load_matrix("there/mine.yaml"))}
    few, pairs = str(there / "few.jsonl"), str(there / "pairs.jsonl")
    answer = cells["answer-gemma-3-270m-base"]
    assert f"instructions={few}" in answer.command
    assert answer.reads == (few,)
    assert cells["judge-gemma-3-270m-base-s1"].reads == cells["adherence-gemma-3-270m-gsm"].reads == (few,)
    assert cells["ranking-gemma-3-270m-responses"].reads == (pairs,)
    assert cells["tables"].reads == cells["tune-gemma-3-270m-gsm-s1"].reads == ()
    before = Folder(tmp_path, [answer]).identity(answer)
    (there / "few.jsonl").write_text("[]")
    after = Folder(tmp_path, [answer]).identity(answer)
    assert [key for key in after if after[key] != before[key]] == [few]
    values["models"][0] |= {"base": "models/m", "profile": "other/reference"}
    (there / "mine.yaml").write_text(yaml.safe_dump(values))
    assert load_matrix("there/mine.yaml").models[0].base == str(there / "models" / "m")
    (there / "few.jsonl").unlink()
    with pytest.raises(UserError, match="names few.jsonl, which is not there"):
        load_matrix("there/mine.yaml")


def test_a_shipped_matrix_names_no_file() -> None:
    assert [load_matrix(name).files for name in matrix_names()] == [()] * 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "a seed is given twice"),
        ({"judge": {"nam": "longest"}}, "judge.nam"),
        ({"models": [{"recipes": ["gsm"]}]}, "the first recipe is instruction"),
        ({"models": [{"recipes": ["instruction", "gms"]}]}, "no recipe 'gms'"),
        ({"name": "../elsewhere"}, "name"),
    ],
)
def test_what_is_wrong_with_a_matrix_is_named(tmp_path: Path, change: dict[str, object], says: str) -> None:
    values = yaml.safe_load((MATRICES / "embedded.yaml").read_text())
    if isinstance(models := change.get("models"), list):
        change = {"models": [values["models"][0] | models[0]]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values | change))
    with pytest.raises(UserError, match=says):
        load_matrix(path)


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(UserError, match="embedded"):
        load_matrix("embeded")
    with pytest.raises(UserError, match="tune-gemma-3-270m-gsm-s1"):
        find(cells_of("embedded"), "tune-gemma-3-270m-gms-s1")


def test_the_paper_s_launcher_is_one_that_accelerate_takes() -> None:
    from accelerate.commands.launch import launch_command_parser

    example = yaml.safe_load(
        (Path(__file__).parents[3] / "examples" / "accelerate" / "gpu2_fsdp2.yaml").read_text(encoding="utf-8")
    )
    for model in load_matrix("paper").models:
        parsed = vars(launch_command_parser().parse_args([*model.launcher[2:], "script"]))
        assert parsed["num_processes"] == model.gpus == example["num_processes"]
        assert parsed["use_fsdp"]
        assert parsed["mixed_precision"] == example["mixed_precision"]
        for key, value in example["fsdp_config"].items():
            assert str(parsed[key]).lower() == str(value).lower(), key


def test_the_graph_in_the_docs_is_the_paper_s_plan(tmp_path: Path) -> None:
    assert main(["replicate", "plan", "paper", "--figure", str(tmp_path / "graph.svg")]) == 0
    drawn = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    committed = Path(__file__).parents[3] / "docs" / "figures" / "replicate.svg"
    assert committed.read_text(encoding="utf-8") == drawn, f"implicit-if replicate plan paper --figure {committed}"
    for kind in {cell.kind for cell in cells_of("paper")}:
        assert f">{kind} (" in drawn
    assert drawn.count(">implicit-if ") + drawn.count(">lm_eval ") == 10  # a command in each node
    assert drawn.count("<line ") == 9  # opponent - select - tune - answer - judge - submit - tables - comparison, and 2
