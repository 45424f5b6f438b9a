"""The examples of docs/python.md run, in their order, in one process; importing the package loads nothing heavy."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import implicit_if as iif
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import Output

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOC, re.M | re.S)
QUESTIONS = ["Name a colour.", "Count to three."]


def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: str, capsys: Any, real_attempts: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaderboards").symlink_to(ROOT / "leaderboards")
    items = load_instructions("builtin").items
    iif.save_outputs("outputs.json", [Output(instruction=i.text, output="Yes.", generator="yes") for i in items])
    Path("page.py").write_text("".join(EXAMPLES).replace("google/gemma-3-270m", tiny_model_folder))
    space = runpy.run_path("page.py")
    printed = capsys.readouterr().out
    assert "win_rate 50.0" in printed
    assert "task:alpaca_winrate|set:custom@" in printed
    assert len(EXAMPLES) == DOC.count("```python")
    assert space["made"].shape[1] > space["batch"].input_ids.shape[1]
    assert (space["folder"] / "tuning.json").is_file()
    assert space["verified"].scores["win_rate"].value == pytest.approx(25.1, abs=0.05)


def test_every_name_is_there_and_named_on_the_page() -> None:
    for name in set(iif.__all__) - {"__version__"}:
        assert callable(getattr(iif, name))
        assert f"iif.{name}" in DOC or name == "save_outputs", name
    with pytest.raises(AttributeError, match="no attribute 'juge'"):
        _ = iif.juge  # type: ignore[attr-defined]


def test_importing_loads_nothing_and_judging_no_model_library(tmp_path: Path) -> None:
    code = (
        "import sys, implicit_if as iif\n"
        "assert not {'torch', 'numpy', 'pydantic', 'yaml', 'implicit_if.harness'} & set(sys.modules)\n"
        "files = {'annotations': 'a.jsonl', 'judge_attempts': 'none'}\n"
        "run = iif.judge(['a'], ['bb'], judge='longest', instructions=['q'], **files)\n"
        "assert run.scores['win_rate'].value == 0\n"
        "assert not {'torch', 'transformers', 'lm_eval', 'datasets', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    ("answers", "instructions", "message"),
    [
        (["a", None], QUESTIONS, "system: answer 1 is NoneType"),  # it would be judged as "None"
        (["a", 3], QUESTIONS, "system: answer 1 is int"),
        (["a"], QUESTIONS, "1 answers to 2 instructions"),
        (["a", "b"], None, "answers without instructions"),
    ],
)
def test_wrong_answers_are_refused(answers: Any, instructions: Any, message: str) -> None:
    with pytest.raises(iif.UserError, match=message):
        iif.judge(answers, ["x", "y"], judge="longest", instructions=instructions)


def test_scores_of_stored_verdicts_are_those_of_the_run_and_say_what_is_missing(tmp_path: Path) -> None:
    store, reference = tmp_path / "a.jsonl", ["aaaa", "a"]
    run = iif.judge(["aa", "aa"], reference, judge="longest", instructions=QUESTIONS, annotations=store)
    assert run.scores["win_rate"].value == 50
    assert iif.score(store, ["aa", "aa"], reference, instructions=QUESTIONS).scores == run.scores
    changed = iif.score(store, ["aa", "other"], reference, instructions=QUESTIONS)
    assert (changed.scores["win_rate"].value, changed.scores["win_rate"].n_judged) == (0, 1)
    assert [u.error for u in changed.judgement.unjudged] == ["no verdict in the file"]
    with pytest.raises(iif.UserError, match="no verdict about these answers"):
        iif.score(store, ["x", "y"], reference, instructions=QUESTIONS)


def test_runs_and_files_compare_alike(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in "ab"}
    runs = {
        name: iif.judge(given, ["aaaa", "a"], judge="longest", instructions=QUESTIONS, annotations=files[name])
        for name, given in {"a": ["aa", "aa"], "b": ["aaaaaa", "aa"]}.items()
    }
    of_runs, of_files = iif.compare(runs), iif.compare(files)
    assert of_runs.comparisons["a", "b"] == of_files.comparisons["a", "b"]
    assert of_runs.groups == of_files.groups
    assert (of_runs.controlled is None, of_files.controlled is None) == (False, True)
    with pytest.raises(iif.UserError, match="at least two"):
        iif.compare({"a": runs["a"]})


@pytest.mark.parametrize("preset", ["paper", "reference"])
def test_the_rules_decode_as_the_wrapper_does(
    preset: str, tiny_model_folder: str, tiny_model: Any, tokenizer: Any
) -> None:
    from lm_eval.api.instance import Instance

    from implicit_if.model_wrappers.rules_poe import RulesPoE

    prompts = [f"<|user|>\n{text}\n<|assistant|>\n" for text in QUESTIONS]
    lm = RulesPoE(tiny_model_folder, rules=preset, device="cpu", dtype="float32")
    generation = {"max_gen_toks": 12, "do_sample": False, "until": []}
    expected = lm.generate_until([Instance("generate_until", {}, (prompt, generation), 0) for prompt in prompts])
    for prompt, text in zip(prompts, expected, strict=True):
        ids = lm.tokenizer(prompt, return_tensors="pt").input_ids
        rules = iif.rules_processor(lm.model, lm.tokenizer, ids, preset)
        made = lm.model.generate(ids, logits_processor=rules, max_new_tokens=12, do_sample=False)
        assert lm.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True) == str(text)


def test_alpaca_eval_s_annotations_need_no_answers(tmp_path: Path) -> None:
    rows = [
        {"instruction": q, "output_1": "a", "output_2": "b", "generator_1": "r", "generator_2": "s", "preference": p}
        for q, p in zip(QUESTIONS, (2, 1.5), strict=True)
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    run = iif.score(tmp_path / "annotations.json")
    assert run.scores["win_rate"].value == 75
    assert run.scores["win_rate"].settings.reference == "r"


def test_what_a_system_left_unanswered_is_missing(tmp_path: Path) -> None:
    one = [Output(instruction=QUESTIONS[0], output="aa", generator="s")]
    both = [Output(instruction=q, output="a", generator="r") for q in QUESTIONS]
    store = tmp_path / "a.jsonl"
    run = iif.judge(one, both, judge="longest", allow_missing=True, annotations=store)
    assert (run.scores["win_rate"].n_judged, run.scores["win_rate"].n_expected) == (1, 2)
    assert iif.score(store, one, both, allow_missing=True).scores == run.scores
    with pytest.raises(iif.UserError):
        iif.judge(one, both, judge="longest", annotations=store)
