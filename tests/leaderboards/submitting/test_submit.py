"""From what lm_eval, the task and `implicit-if judge` leave behind to a verified submission, by the real commands."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from factory import LongestJudge, judge_all, make_submission, outputs, run

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import cli as judge_command
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import write_json
from implicit_if.leaderboards import exports, rerun
from implicit_if.leaderboards.boards.board import make_boards
from implicit_if.leaderboards.boards.tables import board_markdown
from implicit_if.leaderboards.commands import leaderboard as leaderboard_command
from implicit_if.leaderboards.commands import rerun as rerun_command
from implicit_if.leaderboards.commands import submit as submit_command
from implicit_if.leaderboards.commands import table as table_command
from implicit_if.leaderboards.commands import verify as verify_command
from implicit_if.leaderboards.submission.data_files import output_rows
from implicit_if.leaderboards.submission.read import parse_yaml
from implicit_if.leaderboards.submission.schema import Metadata
from implicit_if.leaderboards.submitting.metadata import draft
from implicit_if.leaderboards.submitting.sources import Source
from implicit_if.leaderboards.verification.result import read_pairs
from implicit_if.leaderboards.verification.scores import same_score
from implicit_if.leaderboards.verification.verify import verify

INSTRUCTIONS = ["Name three fruits.", "Say hello\nin two lines.", "¿Qué es el agua?", "List: a, b", "Why?"]
BASICS = ["--name", "acme/tiny", "--licence", "CC0-1.0"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: str) -> Path:
    """A folder with `out/` (lm_eval's results and samples) and `saved/` (the task's)."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "questions.jsonl").write_text("".join(json.dumps({"instruction": i}) + "\n" for i in INSTRUCTIONS))
    rows = [{"instruction": i, "output": "x" * 12, "generator": "twelve"} for i in INSTRUCTIONS]
    (folder / "reference.json").write_text(json.dumps(rows[::-1]))
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--tasks", "alpaca_winrate", "--device", "cpu"]
    command += ["--model_args", f"pretrained={tiny_model_folder}", "dtype=float32", "--gen_kwargs", "max_gen_toks=16"]
    command += ["--metadata", "judge=longest", f"instructions={folder / 'questions.jsonl'}", f"save={folder / 'saved'}"]
    command += [f"reference={folder / 'reference.json'}", "--log_samples", "--output_path", str(folder / "out")]
    environment = {**os.environ, "IMPLICIT_IF_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
    return folder


@pytest.fixture
def with_cache(evaluated: Path, real_attempts: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(evaluated / "cache"))
    return evaluated


def submitted(tmp_path: Path, source: Path, *options: str) -> Path:
    assert run(submit_command, str(source), *BASICS, "--root", str(tmp_path / "s"), *options) == 0
    return next((tmp_path / "s" / "acme__tiny").iterdir())


TUNED = ("--system", "instruction", "--base-model", "acme/base", "--seed", "3")


def test_from_lm_eval_s_results(with_cache: Path, tmp_path: Path, capsys: Any) -> None:
    folder = submitted(tmp_path, with_cache / "out", *TUNED)
    verified = verify(folder)
    results = json.loads(next((with_cache / "out").rglob("results_*.json")).read_text())["results"]["alpaca_winrate"]
    assert verified.scores["win_rate"].value == pytest.approx(results["win_rate,none"])
    saved = json.loads((with_cache / "saved" / "scores.json").read_text())
    for name, score in verified.scores.items():
        assert same_score(score, Score.model_validate(saved[name]))
        # the task cannot ask lm_eval's own model class for the type of its weights; the results hold it
        assert str(score.signature).replace("|dtype:float32", "") == saved[name]["signature"]
        assert "|tpl:tulu@" in saved[name]["signature"]
        assert "|gen:greedy,16|" in saved[name]["signature"]
        assert score.settings.answers.dtype == "float32"
    for measure in ("format_leak_rate", "repetition", "avg_length"):
        assert verified.form[measure] == pytest.approx(results[f"{measure},none"]), measure
    metadata = verified.metadata
    assert metadata.run is not None
    assert metadata.template is not None
    assert metadata.template.name == "tulu"
    assert metadata.generation == {"do_sample": False, "max_gen_toks": 16, "until": []}
    assert metadata.run.versions["lm_eval"]
    assert (metadata.system.kind, metadata.system.seed, metadata.judge.name) == ("instruction", 3, "longest")
    assert "pretrained is a local path and was left out" in capsys.readouterr().err
    texts = "".join(p.read_text() for p in folder.iterdir())
    for private in (str(with_cache), str(tmp_path), os.path.expanduser("~"), "Name three fruits"):
        assert private not in texts


def test_a_table_takes_lm_eval_s_results_and_the_save_folder(with_cache: Path, tmp_path: Path, capsys: Any) -> None:
    runs = [f"results={with_cache / 'out'}", f"saved={with_cache / 'saved'}"]
    assert run(table_command, *runs, "--columns", "win_rate,lc,avg_length,n", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    told = json.loads(next((with_cache / "out").rglob("results_*.json")).read_text())["results"]["alpaca_winrate"]
    assert [row["system"] for row in rows] == ["results", "saved"]
    for row in rows:
        assert float(row["win_rate"]) == pytest.approx(told["win_rate,none"])
        assert float(row["avg_length"]) == pytest.approx(told["avg_length,none"])
    assert rows[0]["win_rate_signature"].replace("|dtype:float32", "") == rows[1]["win_rate_signature"]


def test_a_system_instruction_and_a_seed_reach_board_and_rerun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = 'Be brief.\nSay "I do not know" if you don\'t.'
    generation = {"max_gen_toks": 16, "do_sample": True, "temperature": 0.7, "seed": 5}
    folders = {}
    for name, instruction in (("plain", None), ("asked", told)):
        monkeypatch.chdir(tmp_path)
        texts = [Output.model_validate({"instruction": i, "output": f"{i} A", "generator": "x"}) for i in INSTRUCTIONS]
        more = {} if instruction is None else {"system_instruction": instruction}
        model = {"model_dtype": "torch.bfloat16", "system": {"kind": "base"}}
        meta = OutputsMeta(generator="x", generation=generation, model=model, **more)
        save_outputs(tmp_path / f"{name}.json", texts, meta)
        save_outputs(tmp_path / "reference.json", [o.model_copy(update={"output": "B"}) for o in texts])
        command = [
            str(tmp_path / f"{name}.json"),
            "--reference",
            str(tmp_path / "reference.json"),
            "--judge",
            "longest",
        ]
        assert run(judge_command, *command, "--out", str(tmp_path / f"{name}.scores")) == 0
        folders[name] = submitted(
            tmp_path / name,
            tmp_path / f"{name}.json",
            "--reference",
            str(tmp_path / "reference.json"),
            "--template",
            "tulu",
            "--base-model",
            "acme/base",
            "--run-model",
            "rules_poe",
        )
    verified = {name: verify(folder) for name, folder in folders.items()}
    signatures = {name: str(one.scores["win_rate"].signature) for name, one in verified.items()}
    digits = hashlib.sha256(told.encode()).hexdigest()[:8]
    shown = "gen:sampled,16,seed=5,temperature=0.7|dtype:bfloat16|v:"
    assert f"|orders:1|sys:{digits}|tpl:tulu@f96a4d3f|{shown}" in signatures["asked"]
    assert f"|orders:1|tpl:tulu@f96a4d3f|{shown}" in signatures["plain"]
    judged = json.loads((tmp_path / "asked.scores").read_text())["scores"]["win_rate"]["signature"]
    assert f"|sys:{digits}|{shown}" in judged
    boards = make_boards(verified.values(), {})
    assert len(boards) == 2, "numbers under another system instruction never share a table"
    pages = [board_markdown(main, []) for main, _ in boards]
    assert sorted(f"sys:{digits}" in page for page in pages) == [False, True]
    assert all("base, bfloat16" in page for page in pages)
    metadata = verified["asked"].metadata
    arguments = rerun.check_arguments(metadata, {})
    line = rerun.command_line(metadata, arguments, {"judge": "longest"}, {})
    assert f"--system_instruction={told}" in line
    assert line[line.index("--seed") + 1] == "5"
    assert arguments["dtype"] == "bfloat16"


def test_all_sources_give_the_same_submission(with_cache: Path, tmp_path: Path) -> None:
    saved = with_cache / "saved"
    first = submitted(tmp_path / "1", next((with_cache / "out").rglob("results_*.json")), *TUNED)
    second = submitted(tmp_path / "2", with_cache / "out", *TUNED)
    third = submitted(tmp_path / "3", saved, *TUNED)
    files = ("--reference", str(saved / "reference.json"), "--annotations", str(saved / "annotations.jsonl"))
    fourth = submitted(tmp_path / "4", saved / "outputs.json", *files, *TUNED)
    for other in (second, third, fourth):
        for name in ("outputs.jsonl", "annotations.jsonl"):
            assert (other / name).read_bytes() == (first / name).read_bytes()
        known = "" if other in (third, fourth) else "|dtype:float32"
        scores = (first / "scores.json").read_text().replace("|dtype:float32", known)
        assert (other / "scores.json").read_text() == scores
        (reference, mine) = (next((folder.parents[1] / "references").iterdir()) for folder in (other, first))
        assert (reference.name, reference.read_bytes()) == (mine.name, mine.read_bytes())
    assert (second / "metadata.yaml").read_bytes() == (first / "metadata.yaml").read_bytes()


def test_verdicts_are_found_in_the_user_s_cache(with_cache: Path, tmp_path: Path) -> None:
    """Where the task keeps them without `save=`."""
    saved = with_cache / "saved" / "annotations.jsonl"
    cached = with_cache / "cache" / "annotations" / f"{LongestJudge.fingerprint[:16]}.jsonl"
    cached.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(saved, cached)
    try:
        assert verify(submitted(tmp_path, with_cache / "out", *TUNED)).badge == "recomputed"
    finally:
        shutil.move(cached, saved)


def test_from_judged_outputs(tmp_path: Path, capsys: Any) -> None:
    """What `implicit-if judge` writes, on the builtin set."""
    save_outputs(tmp_path / "mine.json", outputs("mine", 80, 4), OutputsMeta(generator="mine"))
    save_outputs(tmp_path / "base.json", outputs("base", 80, 5))
    arguments = [str(tmp_path / "mine.json"), "--reference", str(tmp_path / "base.json"), "--judge", "longest"]
    assert run(judge_command, *arguments) == 0
    options = ("--reference", str(tmp_path / "base.json"), "--template", "tulu", *TUNED)
    verified = verify(submitted(tmp_path, tmp_path / "mine.json", *options))
    assert verified.metadata.instruction_set.name == "builtin"
    assert len(read_pairs(verified)) == 80
    assert verified.metadata.run is None
    assert "nobody can rerun it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--system is missing"),
        (("--system", "instruction"), "--base-model is missing"),
        (("--system", "single_task", "--base-model", "a/b"), "task"),
        ((*TUNED, "--link", "http://x"), "links.0: Value error, expected an address that starts with https"),
        ((*TUNED, "--judge", "nobody"), "no verdict about these answers found"),
        ((*TUNED, "--name", "../x"), "name: "),
        ((*TUNED, "--annotations", "/nowhere"), "no verdict about these answers found"),
    ],
)
def test_what_is_missing_is_asked_for(with_cache: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as error:
        submitted(tmp_path, with_cache / "out", *options)
    assert message in str(error.value)
    assert not list((tmp_path / "s").rglob("*.*")) if (tmp_path / "s").exists() else True


def test_several_results_are_not_guessed_between(with_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(with_cache / "out", tmp_path / "both" / "1")
    shutil.copytree(with_cache / "out", tmp_path / "both" / "2")
    with pytest.raises(UserError, match="holds 2 results of alpaca_winrate; name one"):
        submitted(tmp_path, tmp_path / "both", *TUNED)


def test_missing_verdicts_cannot_be_submitted(with_cache: Path, tmp_path: Path) -> None:
    lines = (with_cache / "saved" / "annotations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "some.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="1 of 5 verdicts of longest are missing"):
        submitted(tmp_path, with_cache / "out", "--annotations", str(tmp_path / "some.jsonl"), *TUNED)


def test_a_limited_run_cannot_be_submitted(with_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(with_cache / "out", tmp_path / "out")
    results = next((tmp_path / "out").rglob("results_*.json"))
    content = json.loads(results.read_text())
    results.write_text(json.dumps({**content, "config": {**content["config"], "limit": 3.0}}))
    with pytest.raises(UserError, match="made with --limit"):
        submitted(tmp_path, tmp_path / "out", *TUNED)
    samples = next((tmp_path / "out").rglob("samples_*.jsonl"))
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-1]))
    results.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not the whole set"):
        submitted(tmp_path, tmp_path / "out", *TUNED)


def test_an_existing_submission_is_replaced_only_on_request(with_cache: Path, tmp_path: Path) -> None:
    folder = submitted(tmp_path, with_cache / "out", *TUNED, "--revision", "r1")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UserError, match="exists"):
        submitted(tmp_path, with_cache / "out", *TUNED, "--revision", "r1")
    submitted(tmp_path, with_cache / "out", *TUNED, "--revision", "r1", "--replace", "--contact", "me@example.org")
    assert verify(folder).metadata.contact == "me@example.org"
    assert before.keys() == {p.name for p in folder.iterdir()}
    assert sorted(p.name for p in folder.parents[1].iterdir()) == ["acme__tiny", "references"]


def test_half_a_surrogate_is_no_answer(tmp_path: Path) -> None:
    mine = [o.model_copy(update={"output": "\ud800"}) for o in outputs("mine", 12, 1)]
    save_outputs(tmp_path / "o.json", mine)
    save_outputs(tmp_path / "r.json", outputs("base", 12, 2))
    options = ("--reference", str(tmp_path / "r.json"), "--annotations", str(tmp_path / "r.json"))
    with pytest.raises(UserError, match="surrogate"):
        submitted(tmp_path, tmp_path / "o.json", *options, *TUNED)


def test_wrappers_say_what_they_are(tmp_path: Path) -> None:
    own, other = outputs("rules:paper-eos@1", 12, 1), outputs("base", 12, 2)
    own, other = (sorted(o, key=lambda o: o.instruction_id) for o in (own, other))
    verdicts = judge_all(LongestJudge(), own, other)
    source = Source(
        own, other, [], model="rules_poe", model_args={"drop": "eos", "eos.maximum": 10}, product="rules:paper-eos@1"
    )
    metadata = draft(source, own, other, verdicts, {"name": "a/b", "licence": "MIT"}).metadata
    found = Metadata.model_validate({**metadata, "files": {}})
    assert (found.system.kind, found.system.preset, found.system.without) == ("rules", "paper", ["eos"])
    assert found.base_model.name == "google/gemma-3-270m"
    base = Source(own, other, [], model="rules_poe", model_args={"rules": "none"}, product="rules:none@2")
    plain = draft(base, own, other, verdicts, {"name": "a/b", "licence": "MIT"}).metadata["system"]
    assert (plain["kind"], plain["preset"], plain["without"]) == ("base", None, [])


@pytest.mark.parametrize(
    ("name", "drop", "made"),
    [
        ("no-hello", None, {}),  # results of version 0.1 have the name alone
        ("no-hello", "greeting", {}),
        ("no-hello", "greeting", {"kind": "rules", "preset": "no-hello", "without": ["greeting"]}),
        ("a-b-c", "d-e", {"kind": "rules", "preset": "a-b-c", "without": ["d-e"]}),
    ],
)
def test_a_presets_hyphens_stay(name: str, drop: str | None, made: dict[str, Any]) -> None:
    own, other = outputs("own", 12, 1), outputs("base", 12, 2)
    own, other = (sorted(o, key=lambda o: o.instruction_id) for o in (own, other))
    product = f"rules:{name}-{drop}@1a2b" if drop else f"rules:{name}@1a2b"
    arguments = {"rules": "own.yaml", "drop": drop}
    source = Source(own, other, [], model="rules_poe", model_args=arguments, product=product, made=made)
    verdicts = judge_all(LongestJudge(), own, other)
    found = draft(source, own, other, verdicts, {"name": "a/b", "licence": "MIT"}).metadata["system"]
    assert (found["kind"], found["preset"], found["without"]) == ("rules", name, [drop] if drop else [])


@pytest.mark.parametrize("recorded", [True, False])
def test_a_tuned_model_s_seed_and_recipe_reach_its_submission(tmp_path: Path, recorded: bool) -> None:
    """Without them five seeds become five rows; version 0.1 recorded the seed in the recipe only."""
    identity = {"recipe": "ab" * 32, "data": "cd" * 32, "base": "ef" * 32}
    record = {"recipe": "response", "identity": identity, "base": {"name": "acme/base", "revision": "1" * 40}}
    write_json(tmp_path / "tuning.json", {**record, **({"seed": 4} if recorded else {})})
    (tmp_path / "recipe.yaml").write_text(f"train: {{seed: {9 if recorded else 4}}}")
    own, other = (sorted(outputs(name, 12, n), key=lambda o: o.instruction_id) for n, name in enumerate("ab"))
    source = Source(own, other, [], model="hf", model_args={"pretrained": str(tmp_path)})
    made = draft(source, own, other, judge_all(LongestJudge(), own, other), {"name": "a/b", "licence": "MIT"})
    found = Metadata.model_validate({**made.metadata, "files": {}})
    assert (found.system.kind, found.system.seed, found.base_model.name) == ("response", 4, "acme/base")
    assert found.recipe is not None
    assert (found.recipe.name, found.recipe.fingerprint) == ("response", "ab" * 32)


# ---------------------------------------------------------------- rerun
@pytest.fixture
def runnable(with_cache: Path, tmp_path: Path) -> Path:
    return submitted(tmp_path, with_cache / "out", *TUNED, "--run-arg", "pretrained=acme/tiny")


def test_a_rerun_by_the_command(runnable: Path, with_cache: Path, tiny_model_folder: str, capsys: Any) -> None:
    options = ["--instructions", str(with_cache / "questions.jsonl"), "--device", "cpu"]
    options += ["--model-arg", f"pretrained={tiny_model_folder}"]
    assert run(rerun_command, str(runnable), *options) == 0
    printed = capsys.readouterr()
    assert "nothing was run" in printed.err
    assert "trust_remote_code=False" in printed.out
    assert "use_safetensors=True" in printed.out
    assert not (runnable / "rerun.json").exists()
    assert run(rerun_command, str(runnable), *options, "--yes") == 0
    assert "100% of the answers are the same" in capsys.readouterr().out
    assert verify(runnable).badge == "re-run"


def metadata_with(runnable: Path, **changes: Any) -> Metadata:
    value = parse_yaml((runnable / "metadata.yaml").read_bytes())
    value["run"] |= changes
    return Metadata.model_validate(value)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("hf", {"pretrained": "/home/me/model"}),
        ("hf", {"pretrained": "../model"}),
        ("hf", {"pretrained": "a/b,trust_remote_code=True"}),
        ("hf", {"pretrained": "a/b", "peft": "a/c"}),
        ("hf", {"pretrained": "a/b", "gguf_file": "x"}),
        ("hf", {"pretrained": "a/b", "device_map": "auto"}),
        ("hf", {"pretrained": "a/b", "dtype": "float32 --model x"}),
        ("hf", {"pretrained": "--help"}),
        ("rules_poe", {"rules": "../../evil.yaml"}),
        ("rules_poe", {"rules": "/tmp/evil.yaml"}),
        ("urial", {"prefix": "/etc/passwd"}),
        ("local-completions", {"base_url": "https://evil.example"}),
        ("vllm", {"pretrained": "a/b"}),
    ],
)
def test_what_a_rerun_passes_on_is_a_short_list(runnable: Path, model: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        rerun.check_arguments(metadata_with(runnable, model=model, model_args=arguments), {})


def test_a_model_named_on_the_hub_is_not_a_folder_here(
    runnable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = metadata_with(runnable, model="hf", model_args={"pretrained": "acme/tiny"})
    assert rerun.check_arguments(metadata, {})["pretrained"] == "acme/tiny"
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a path here"):
        rerun.check_arguments(metadata, {})


@pytest.mark.parametrize(
    "arguments", [{"trust_remote_code": True}, {"use_safetensors": False}, {"trust_remote_code": 1}]
)
def test_code_in_a_repository_is_never_trusted(runnable: Path, arguments: dict[str, Any]) -> None:
    metadata = metadata_with(runnable, model="hf", model_args={"pretrained": "a/b", **arguments})
    for overrides in ({}, {"trust_remote_code": "True", "use_safetensors": "False"}):
        found = rerun.check_arguments(metadata, overrides)
        assert found == {
            "pretrained": "a/b",
            "dtype": "float32",  # as the answers were made
            "trust_remote_code": "False",
            "use_safetensors": "True",
        }


def test_generation_arguments_of_a_rerun_are_a_short_list(runnable: Path) -> None:
    value = parse_yaml((runnable / "metadata.yaml").read_bytes())
    value["generation"] = {"max_gen_toks": "16 --trust_remote_code"}
    with pytest.raises(UserError, match="generation argument"):
        rerun.command_line(Metadata.model_validate(value), {}, {}, {})


@pytest.mark.parametrize("judge", ["evil.yaml", "../x", "openai:../../x y", "human:/etc/passwd", "plugin"])
def test_a_judge_that_is_a_file_is_not_built(runnable: Path, tmp_path: Path, judge: str) -> None:
    value = parse_yaml((runnable / "metadata.yaml").read_bytes())
    value["judge"]["name"] = judge
    with pytest.raises(UserError, match="give --judge SPEC"):
        rerun.task_arguments(Metadata.model_validate(value), tmp_path, {"instructions": "builtin"})


# ---------------------------------------------------------------- exports
def test_model_index_is_read_by_the_hub_s_own_reader(runnable: Path) -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    verified = verify(runnable)
    block = yaml.safe_load(exports.model_index(verified))
    name, results = model_index_to_eval_results(block["model-index"])
    assert name == "tiny"
    found = {r.metric_type: r for r in results}
    assert found["win_rate"].metric_value == pytest.approx(verified.scores["win_rate"].value, abs=1e-4)
    assert found["win_rate"].metric_args["signature"] == str(verified.scores["win_rate"].signature)
    assert found["win_rate"].dataset_revision == verified.metadata.instruction_set.revision


def test_every_eval_ever_has_what_its_schema_requires(runnable: Path) -> None:
    """Required keys, closed objects and text-only details of eval.schema.json, written down by hand."""
    verified = verify(runnable)
    record = json.loads(exports.every_eval_ever(verified, 1_700_000_000))
    required = {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info"}
    assert record.keys() == required | {"eval_library", "evaluation_results"}
    assert record["retrieved_timestamp"] == "1700000000"
    assert record["source_metadata"].keys() >= {"source_type", "source_organization_name", "evaluator_relationship"}
    assert record["source_metadata"]["source_type"] in {"documentation", "evaluation_run"}
    assert record["source_metadata"]["evaluator_relationship"] in {
        "first_party",
        "third_party",
        "collaborative",
        "other",
    }
    assert record["eval_library"].keys() >= {"name", "version"}
    assert record["model_info"].keys() >= {"name", "id"}
    for result in record["evaluation_results"]:
        assert result.keys() >= {"evaluation_name", "source_data", "metric_config", "score_details"}
        config = result["metric_config"]
        assert config["min_score"] <= result["score_details"]["score"] <= config["max_score"]
        assert isinstance(config["lower_is_better"], bool)
        interval = result["score_details"]["uncertainty"]["confidence_interval"]
        assert interval["lower"] <= interval["upper"]
        for details in (config["additional_details"], result["generation_config"]["additional_details"]):
            assert all(isinstance(v, str) for v in details.values())
        source = result["source_data"]
        assert source.keys() >= {"dataset_name", "source_type"}
        assert source["source_type"] in {"url", "hf_dataset", "other"}
    assert record == json.loads(exports.every_eval_ever(verified, 1_700_000_000))


def test_alpaca_eval_s_table_takes_no_offline_judge(runnable: Path) -> None:
    with pytest.raises(UserError, match="language models' verdicts on alpaca_eval only"):
        exports.alpaca_eval_csv([verify(runnable)])


def test_alpaca_eval_s_columns(tmp_path: Path) -> None:
    """Columns, counts and standard error as alpaca-eval's own function gives them for the same preferences."""
    verified = verify(make_submission(tmp_path, n=30))
    renamed = verified.metadata.instruction_set.model_copy(update={"name": "alpaca_eval"})
    metadata = verified.metadata.model_copy(update={"instruction_set": renamed})
    table = exports.alpaca_eval_csv([dataclasses.replace(verified, metadata=metadata)])
    row = next(csv.DictReader(io.StringIO(table.decode())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # alpaca_eval imports pkg_resources
        from alpaca_eval.metrics import get_winrate
    theirs = get_winrate([{"preference": 1 + p} for p in verified.preferences])
    for name in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate"):
        assert float(row[name]) == pytest.approx(theirs[name]), name
    assert (row[""], row["mode"]) == ("acme/parrot", "community")
    assert float(row["length_controlled_winrate"]) == verified.scores["length_controlled_win_rate"].value


def test_texts_of_a_set_that_may_not_be_shipped_stay_out(tmp_path: Path) -> None:
    rows = [Output(output="a", generator="g", instruction=t) for t in INSTRUCTIONS]  # type: ignore[call-arg]
    assert all(row["instruction"] is None for row in output_rows(rows, texts=False))


def test_submit_verify_leaderboard_check(with_cache: Path, tmp_path: Path, capsys: Any) -> None:
    """The commands of docs/submitting.md after lm_eval's, in their order."""
    board = tmp_path / "leaderboards"
    root = str(board / "submissions")
    assert run(submit_command, str(with_cache / "out"), *BASICS, "--root", root, *TUNED) == 0
    assert run(verify_command, str(next((board / "submissions" / "acme__tiny").iterdir()))) == 0
    assert run(leaderboard_command, "--root", str(board), "--processes", "1") == 0
    assert "acme/tiny" in (board / "leaderboard.csv").read_text()
    assert run(leaderboard_command, "--root", str(board), "--processes", "1", "--check") == 0


def test_a_rerun_passes_on_the_options_of_any_rule(runnable: Path) -> None:
    given = {"pretrained": "a/b", "eos.weight": 2.0, "no_hello.weight": 1, "length.scale": 0.5}
    metadata = metadata_with(runnable, model="rules_poe", model_args=given)
    assert {n: v for n, v in rerun.check_arguments(metadata, {}).items() if "." in n} == {
        "eos.weight": "2.0",
        "no_hello.weight": "1",
        "length.scale": "0.5",
    }
    for name, value in (("no_hello.weight", "1;x"), ("../x.weight", "1"), ("a b.weight", "1")):
        with pytest.raises(UserError, match="not among those a rerun passes on"):
            rerun.check_arguments(metadata_with(runnable, model="rules_poe", model_args={name: value}), {})


@pytest.mark.parametrize("short", ["system", "reference"])
def test_one_answer_too_few_is_a_sentence(tmp_path: Path, short: str) -> None:
    cut = {"system": (79, 80), "reference": (80, 79)}[short]
    save_outputs(tmp_path / "o.json", outputs("mine", 80, 4)[: cut[0]])
    save_outputs(tmp_path / "r.json", outputs("base", 80, 5)[: cut[1]])
    options = ("--reference", str(tmp_path / "r.json"), "--annotations", str(tmp_path / "r.json"))
    with pytest.raises(UserError, match=f"the {short} does not answer 1 of 80 instructions"):
        submitted(tmp_path, tmp_path / "o.json", *options, *TUNED)


def test_another_base_model_has_no_revision_of_the_recorded_one(with_cache: Path) -> None:
    own = sorted(outputs("mine", 12, 1), key=lambda o: o.instruction_id)
    verdicts = judge_all(LongestJudge(), own, outputs("base", 12, 2))
    arguments = {"pretrained": "acme/one"}
    source = Source(own, own, [], model="rules_poe", model_args=arguments, revision="a" * 40)
    given = {"name": "acme/x", "licence": "MIT"}
    recorded = draft(source, own, own, verdicts, given).metadata["base_model"]
    assert recorded == {"name": "acme/one", "revision": "a" * 40}
    same = draft(source, own, own, verdicts, {**given, "base_model": "acme/one"}).metadata["base_model"]
    assert same == recorded
    other = draft(source, own, own, verdicts, {**given, "base_model": "acme/two"}).metadata["base_model"]
    assert other == {"name": "acme/two"}


@pytest.mark.parametrize("name", ["YOUR/MODEL", "your/model", "org/model", "my-org/my-model"])
def test_the_examples_name_is_not_submitted(name: str) -> None:
    own = outputs("mine", 12, 1)
    with pytest.raises(UserError, match="is the example's"):
        draft(Source(own, own, []), own, own, judge_all(LongestJudge(), own, own), {"name": name, "licence": "MIT"})
