"""The task as lm-eval runs it, on a tiny model with the `longest` judge."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from implicit_if.harness import stats
from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.judged_run import ask_once
from implicit_if.harness.judging.protocol import Estimate, JudgeError
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.outputs import instruction_id, load_meta, load_outputs
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.length_control import offline_model
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.tasks.alpaca_winrate import settings as settings_module
from implicit_if.tasks.alpaca_winrate.preflight import check
from implicit_if.tasks.alpaca_winrate.settings import Settings, asked_places
from implicit_if.tasks.alpaca_winrate.task import print_anywhere

INSTRUCTIONS = ["Name three fruits.", "Say hello\nin two lines.", "¿Qué es el agua?", "List: a, b", "Why?"]


@pytest.fixture
def instructions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"instruction": i, "category": "test"}) + "\n" for i in INSTRUCTIONS))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.json"
    rows = [{"instruction": i, "output": "x" * 30, "generator": "thirty"} for i in INSTRUCTIONS]
    path.write_text(json.dumps(rows[::-1]))
    return path


def run(tiny: str, instructions: Path, metadata: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    arguments = {
        "model": "rules_poe",
        "model_args": {"pretrained": tiny, "dtype": "float32"},
        "tasks": ["alpaca_winrate"],
        "device": "cpu",
        "batch_size": 4,
        "gen_kwargs": {"max_gen_toks": 16},
        "metadata": {"judge": "longest", "instructions": str(instructions)} | (metadata or {}),
        "log_samples": True,
        "bootstrap_iters": 0,
    }
    return dict(simple_evaluate(**(arguments | kwargs)))  # type: ignore[arg-type]


def scores(results: dict[str, Any]) -> dict[str, Any]:
    return {k.removesuffix(",none"): v for k, v in results["results"]["alpaca_winrate"].items()}


def test_win_rate_against_a_file_is_what_counting_gives(
    tiny_model_folder: str, instructions: Path, reference: Path
) -> None:
    results = run(tiny_model_folder, instructions, {"reference": str(reference)})
    lengths = [len(s["filtered_resps"][0]) for s in results["samples"]["alpaca_winrate"]]
    preferences = [1.0 if n > 30 else 0.5 if n == 30 else 0.0 for n in lengths]
    found = scores(results)
    assert found["win_rate"] == pytest.approx(100 * sum(preferences) / len(preferences))
    mean = sum(preferences) / 5
    sd = (sum((p - mean) ** 2 for p in preferences) / 4) ** 0.5
    assert found["win_rate_stderr"] == pytest.approx(100 * sd / 5**0.5)
    for name, preferred in (("win_rate", preferences), ("length_controlled_win_rate", None)):
        ends = found[f"{name}_ci_low"], found[f"{name}_ci_high"]
        assert ends[0] <= found[name] <= ends[1] > ends[0]
        if preferred is not None:
            assert ends == pytest.approx(stats.win_rate(preferred).interval.ends)
    directions = results["higher_is_better"]["alpaca_winrate"]
    assert (directions["win_rate"], directions["format_leak_rate"]) == (True, False)
    neither = ("avg_length", "n_judged", "n_expected", "win_rate_stderr", "win_rate_ci_low", "win_rate_ci_high")
    assert {directions[name] for name in neither} == {None}
    assert found["avg_length"] == pytest.approx(sum(lengths) / 5)
    assert (found["n_judged"], found["n_expected"]) == (5, 5)
    assert 0 <= found["length_controlled_win_rate"] <= 100


def test_results_record_all_that_shaped_them(tiny_model_folder: str, instructions: Path, reference: Path) -> None:
    results = run(tiny_model_folder, instructions, {"reference": str(reference), "template": "ab"})
    config = results["configs"]["alpaca_winrate"]
    metadata = config["metadata"]
    assert config["generation_kwargs"]["max_gen_toks"] == 16
    assert metadata["template"] == "ab"
    assert metadata["template_sha256"] == load_template("ab").sha256
    assert len(metadata["judge_fingerprint"]) == 64
    signature = Signature.parse(metadata["signature"])
    assert (signature.n, signature.reference, signature.judge) == (5, "thirty", "longest")
    sample = results["samples"]["alpaca_winrate"][0]
    assert sample["arguments"][0][0].startswith("<|A|>\n")
    assert sample["doc"]["output"]["finish_reason"] in {"eos", "length"}


class Answers(LM):
    """A model class that answers from a list, as one outside of this package may."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self.answers, self.until = answers, [None]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        self.until = [request.args[1].get("until") for request in requests]
        return self.answers[: len(requests)]

    def loglikelihood(self, requests: list[Any], **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "model"),
        ({"pretrained": "some/Model-7B"}, "Model-7B"),
        ({"pretrained": "/models/mine/", "peft": "/models/adapter"}, "mine+adapter"),
        ({"model": "gpt-x", "base_url": "http://x"}, "gpt-x"),
    ],
)
def test_a_model_class_without_names_has_that_of_its_weights(
    arguments: dict[str, str], name: str, instructions: Path, reference: Path
) -> None:
    metadata = {"reference": str(reference)} | arguments
    results = run("", instructions, metadata, model=Answers(list("abcde")), model_args=None)
    assert results["samples"]["alpaca_winrate"][0]["doc"]["output"]["generator"] == name


@pytest.mark.parametrize(("answer", "kind"), [(None, "NoneType"), (3, "int"), (["a"], "list")])
def test_an_answer_that_is_no_text_is_never_judged_as_text(
    answer: Any, kind: str, instructions: Path, reference: Path
) -> None:
    model = Answers(["a", "b", "c", "d", answer])
    with pytest.raises(UserError, match=f"answer to 'Why.' is {kind}, expected text"):
        run("", instructions, {"reference": str(reference)}, model=model, model_args=None)


def variant(folder: Path, lines: str, instructions: Path, reference: Path) -> Any:
    """A task manager that knows a user's variant of our task, called `mine`."""
    ours = "implicit_if.tasks.alpaca_winrate.task"
    text = f"task: mine\nclass: !function {ours}.AlpacaWinrate\ncustom_dataset: !function {ours}.load_data\n"
    (folder / "mine.yaml").write_text(
        f"{text}test_split: eval\noutput_type: generate_until\ndoc_to_target: ''\n{lines}"
    )
    told = {"judge": "longest", "instructions": str(instructions), "reference": str(reference)}
    return TaskManager(include_path=str(folder), include_defaults=False, metadata=told)


@pytest.mark.parametrize(
    ("lines", "until"),
    [
        ("", []),
        ("generation_kwargs: {max_gen_toks: 9}\n", []),
        ("generation_kwargs: {until: ['##'], max_gen_toks: 9}\n", ["##"]),
    ],
)
def test_answers_of_a_users_task_are_not_cut_at_a_blank_line(
    lines: str, until: list[str], instructions: Path, reference: Path, tmp_path: Path
) -> None:
    (tmp_path / "tasks").mkdir()
    model, manager = Answers(list("abcde")), variant(tmp_path / "tasks", lines, instructions, reference)
    run("", instructions, model=model, model_args=None, tasks=["mine"], task_manager=manager, gen_kwargs=None)
    assert model.until == [until] * 5


@pytest.mark.parametrize("second", ["short", "none", "whole"])
def test_a_task_with_two_filters_is_refused(second: str, instructions: Path, reference: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    steps = "filter: [{function: take_first}]"
    lines = f"filter_list: [{{name: whole, {steps}}}, {{name: {second}, {steps}}}]\n"
    manager = variant(tmp_path / "tasks", lines, instructions, reference)
    with pytest.raises(UserError, match=f"found 2 filters .whole, {second}., expected at most one"):
        run("", instructions, model=Answers([]), tasks=["mine"], task_manager=manager)


@pytest.mark.filterwarnings("ignore:the system's answers are the reference's")
def test_reference_base_is_generated_by_the_same_model(tiny_model_folder: str, instructions: Path) -> None:
    with_rules = run(tiny_model_folder, instructions)
    plain = run(
        tiny_model_folder,
        instructions,
        model_args={"pretrained": tiny_model_folder, "rules": "none", "dtype": "float32"},
    )
    for a, b in zip(*(r["samples"]["alpaca_winrate"] for r in (with_rules, plain)), strict=True):
        assert a["filtered_resps"][1] == b["filtered_resps"][0] == b["filtered_resps"][1]
    assert scores(plain)["win_rate"] == 50
    assert with_rules["config"]["product"].startswith("rules:paper@")


def test_urial_gets_the_bare_instruction_and_its_base_the_template(
    tiny_model_folder: str, instructions: Path, tmp_path: Path
) -> None:
    prefix = tmp_path / "short.yaml"
    prefix.write_text("name: short\nprefix: ''\nquery: 'Q: {instruction} A:'\nend: ['##']\n")
    arguments = {"pretrained": tiny_model_folder, "dtype": "float32", "prefix": str(prefix)}
    results = run(tiny_model_folder, instructions, model="urial", model_args=arguments)
    own, base = results["samples"]["alpaca_winrate"][0]["arguments"]
    assert own[0] == "Name three fruits."
    assert base[0] == load_template("tulu").render_prompt("Name three fruits.")


def test_save_writes_files_that_load_again(tiny_model_folder: str, instructions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    run(tiny_model_folder, instructions, {"save": str(folder)})
    outputs = load_outputs(folder / "outputs.json")
    assert [o.instruction_id for o in outputs] == [instruction_id(i) for i in INSTRUCTIONS]
    assert {o.generator for o in load_outputs(folder / "reference.json")} == {"base"}
    annotations = list(AnnotationStore(folder / "annotations.jsonl").read().verdicts.values())
    assert {a.system_sha256 for a in annotations} == {o.sha256 for o in outputs}


def test_scores_are_fitted_once_a_run_and_agree_everywhere(
    tiny_model_folder: str, instructions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = offline_model.length_controlled_win_rate
    monkeypatch.setattr(stats, "length_controlled_win_rate", lambda *a, **k: calls.append(1) or real(*a, **k))
    found = scores(run(tiny_model_folder, instructions, {"save": str(tmp_path)}))
    assert len(calls) == 1
    saved = json.loads((tmp_path / "scores.json").read_text())
    for metric in ("win_rate", "length_controlled_win_rate"):
        assert found[metric] == saved[metric]["value"]
        assert found[f"{metric}_stderr"] > 0
    meta = load_meta(tmp_path / "outputs.json")
    assert meta is not None
    assert meta.template == {"name": "tulu", "sha256": load_template("tulu").sha256}
    assert meta.versions["lm_eval"]


def test_logged_samples_are_outputs(tiny_model_folder: str, instructions: Path, tmp_path: Path) -> None:
    results = run(tiny_model_folder, instructions)
    path = tmp_path / "samples_alpaca_winrate.jsonl"
    path.write_text("".join(json.dumps(s) + "\n" for s in results["samples"]["alpaca_winrate"]))
    outputs = load_outputs(path)
    assert [o.output for o in outputs] == [s["filtered_resps"][0] for s in results["samples"]["alpaca_winrate"]]
    assert outputs[0].finish_reason is not None


def test_limit_shows_how_many_were_judged_of_all(tiny_model_folder: str, instructions: Path, reference: Path) -> None:
    found = scores(run(tiny_model_folder, instructions, {"reference": str(reference)}, limit=2))
    assert (found["n_judged"], found["n_expected"]) == (2, 5)


def test_under_a_limit_an_own_reference_answers_what_is_asked(
    tiny_model_folder: str, instructions: Path, reference: Path
) -> None:
    rows = json.loads(reference.read_text())
    reference.write_text(json.dumps([row for row in rows if row["instruction"] in INSTRUCTIONS[:2]]))
    found = run(tiny_model_folder, instructions, {"reference": str(reference)}, limit=2)
    assert found["n-samples"]["alpaca_winrate"]["effective"] == 2
    with pytest.raises(UserError, match="instructions of .* have no answer there"):
        run(tiny_model_folder, instructions, {"reference": str(reference)}, limit=3)


@pytest.mark.parametrize(
    ("argv", "places"),
    [
        (["lm_eval", "--limit", "2"], range(2)),
        (["lm_eval", "-L=0.5"], range(3)),  # lm-eval rounds a share up
        (["lm_eval", "--limit", "99"], range(5)),
        (["lm_eval", "--tasks", "alpaca_winrate"], None),
        (["lm_eval", "--samples", "{}"], range(0)),
        (["pytest"], range(0)),
    ],
)
def test_a_limit_says_what_the_reference_is_asked(argv: list[str], places: range | None) -> None:
    assert asked_places(argv, 5) == places


def test_predict_only_generates_and_judges_nothing(tiny_model_folder: str, instructions: Path) -> None:
    results = run(tiny_model_folder, instructions, predict_only=True)
    assert scores(results)["bypass"] == 999
    assert len(results["samples"]["alpaca_winrate"][0]["resps"]) == 1


def test_predict_only_keeps_the_answers_to_judge_elsewhere(
    tiny_model_folder: str, instructions: Path, tmp_path: Path
) -> None:
    results = run(tiny_model_folder, instructions, {"save": str(tmp_path)}, predict_only=True)
    outputs = load_outputs(tmp_path / "outputs.json")
    assert [o.output for o in outputs] == [s["filtered_resps"][0] for s in results["samples"]["alpaca_winrate"]]
    meta = load_meta(tmp_path / "outputs.json")
    assert meta is not None
    assert meta.template["name"] == "tulu"
    assert not (tmp_path / "annotations.jsonl").exists()


def test_hf_models_need_a_reference_and_have_no_finish_rate(
    tiny_model_folder: str, instructions: Path, reference: Path
) -> None:
    import gc

    gc.collect()  # no wrapper of an earlier test is left
    with pytest.raises(UserError, match="reference=auto: no stored reference has answers to questions@"):
        run(tiny_model_folder, instructions, model="hf")
    with pytest.raises(UserError, match="reference=base: this model class cannot answer as its own base"):
        run(tiny_model_folder, instructions, {"reference": "base"}, model="hf")
    found = scores(run(tiny_model_folder, instructions, {"reference": str(reference)}, model="hf"))
    assert "finish_rate" not in found
    assert found["n_judged"] == 5


def test_apply_chat_template_wraps_the_bare_instruction(
    tiny_model_folder: str, tokenizer: Any, instructions: Path, reference: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "chatty"
    shutil.copytree(tiny_model_folder, folder)
    import copy

    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[go]"
    chatty.save_pretrained(folder)
    results = run(str(folder), instructions, {"reference": str(reference)}, apply_chat_template=True)
    assert results["samples"]["alpaca_winrate"][0]["arguments"][0][0] == "[user]Name three fruits.[go]"
    metadata = results["configs"]["alpaca_winrate"]["metadata"]
    assert (metadata["template"], metadata["template_tags"]) == ("model", ["[user]", "[go]"])


@pytest.mark.parametrize("leak", ["[go]", "<|user|>", "[user]"])
def test_leaks_are_of_the_template_that_was_used(
    tiny_model_folder: str, tokenizer: Any, instructions: Path, reference: Path, tmp_path: Path, leak: str
) -> None:
    import copy
    import shutil

    folder = shutil.copytree(tiny_model_folder, tmp_path / "chatty")
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[go]"
    chatty.save_pretrained(folder)
    model = RulesPoE(str(folder), dtype="float32", device="cpu", batch_size=4)
    answers = lambda requests, **_: [f"An answer {leak}"] * len(requests)  # noqa: E731
    model.generate_until = answers  # type: ignore[method-assign]
    for own, expected in ((True, 100 * (leak != "<|user|>")), (False, 100 * (leak == "<|user|>"))):
        results = run("", instructions, {"reference": str(reference)}, model=model, apply_chat_template=own)
        assert scores(results)["format_leak_rate"] == expected


def test_a_system_instruction_is_recorded_and_signed(
    tiny_model_folder: str, instructions: Path, reference: Path, tmp_path: Path
) -> None:
    told = "Be brief — and honest."
    found = []
    for system, name in ((None, "a"), (told, "b"), ("Be long.", "c")):
        metadata = {"reference": str(reference), "save": str(tmp_path / name)}
        results = run(tiny_model_folder, instructions, metadata, system_instruction=system)
        config = results["configs"]["alpaca_winrate"]["metadata"]
        meta = load_meta(tmp_path / name / "outputs.json")
        assert meta is not None
        assert config.get("system_instruction") == (meta.model_extra or {}).get("system_instruction") == system
        signature = Signature.parse(config["signature"])
        assert (
            str(signature)
            == json.loads((tmp_path / name / "scores.json").read_text())["length_controlled_win_rate"]["signature"]
        )
        assert signature.answers.system_instruction == (
            (system and hashlib.sha256(system.encode()).hexdigest()[:8]) or ""
        )
        found.append(signature)
    assert "|sys:" not in str(found[0])
    assert len(set(found)) == 3


# ---------------------------------------------------------------------- what a failure after generation costs
class Failing:
    """A judge whose credit ends, or whose server is gone."""

    name, fingerprint, ordered, paid = "openai:failing", "0" * 64, True, False

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def judge(self, comparisons: Any) -> Any:
        raise self.error
        yield

    def estimate(self, comparisons: Any) -> Any:
        return Estimate(0)


@pytest.mark.parametrize(
    "error",
    [JudgeError("no credit is left"), KeyboardInterrupt(), RuntimeError("a fault")],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("save", [True, False])
def test_answers_are_on_disk_whatever_ends_the_judging(
    tiny_model_folder: str,
    instructions: Path,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    save: bool,
) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Settings, "build_judge", lambda self: Failing(error))
    monkeypatch.setattr(settings_module, "ask_once", lambda judge: None)
    metadata = {"reference": str(reference)} | ({"save": str(tmp_path / "saved")} if save else {})
    with pytest.raises(type(error)):
        run(tiny_model_folder, instructions, metadata)
    (kept,) = tmp_path.rglob("outputs.json")
    assert kept.is_relative_to(tmp_path / ("saved" if save else "cache"))
    assert [o.instruction_id for o in load_outputs(kept)] == [instruction_id(i) for i in INSTRUCTIONS]
    assert len(load_outputs(kept.with_name("reference.json"))) == 5
    assert load_meta(kept) is not None
    assert f"implicit-if judge {kept} --reference {kept.with_name('reference.json')}" in caplog.text


def test_without_save_nothing_is_left_behind(
    tiny_model_folder: str, instructions: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    run(tiny_model_folder, instructions, {"reference": str(reference)})
    assert not list(tmp_path.rglob("outputs.json"))


@pytest.mark.parametrize("error", [JudgeError("401: wrong key"), JudgeError("402: no credit"), JudgeError("no server")])
def test_a_judge_that_refuses_is_found_before_generation(
    instructions: Path, monkeypatch: pytest.MonkeyPatch, error: JudgeError
) -> None:
    monkeypatch.setattr(Settings, "build_judge", lambda self: Failing(error))
    with pytest.raises(JudgeError, match=str(error)):
        check({"instructions": str(instructions), "judge": "openai:failing"})


def test_a_judge_with_stored_verdicts_is_not_asked_again(
    instructions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "build_judge", lambda self: Failing(JudgeError("asked")))
    (tmp_path / "annotations.jsonl").touch()
    check({"instructions": str(instructions), "judge": "openai:failing", "save": str(tmp_path)})


def test_offline_judges_are_not_tried() -> None:
    for name in ("longest", "embedded"):
        judge = get_judge(name)
        judge.judge = lambda comparisons: pytest.fail("asked")  # type: ignore[method-assign]
        ask_once(judge)


@pytest.mark.parametrize("kind", ["a file", "under a file", "a device"])
def test_a_bad_save_folder_is_found_before_generation(instructions: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("mine")
    save = {"a file": tmp_path / "file", "under a file": tmp_path / "file" / "x", "a device": "/dev/null"}[kind]
    with pytest.raises(UserError, match="save=.*cannot be written"):
        check({"judge": "longest", "instructions": str(instructions), "save": str(save)})
    assert (tmp_path / "file").read_text() == "mine"


def test_save_understands_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.from_metadata({"save": "~/runs/x"}).save == str(tmp_path / "runs" / "x")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_any_terminal_can_show_the_table(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding=encoding))
    print_anywhere("± 5 😀 “x”")
    sys.stdout.flush()
    assert "\\U0001f600" in shown.getvalue().decode(encoding)


# ---------------------------------------------------------------------- arguments nobody takes
LM_EVAL = ["/x/lm_eval", "run", "--model", "rules_poe", "--model_args", "pretrained=x,dtype=float32"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--metadata", "foo=bar", "judge=longest"], "unknown argument --metadata 'foo'"),
        (["--metadata", "instruct=builtin"], "Did you mean 'instructions'"),
        (["--metadata", "judge=longest", "--limit", "2", "--metadata", "seve=x"], "Did you mean 'save'"),
        (["--metadata=foo=bar"], "'foo'"),
        (["--metadata", "judge=longest,foo=bar"], "'foo'"),
        (["--metadata", '{"foo": 1, "judge": "longest"}'], "'foo'"),
    ],
)
def test_metadata_that_nothing_takes_is_refused(typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [*LM_EVAL, "--tasks", "alpaca_winrate", *typed])
    with pytest.raises(UserError, match=re.escape(said)):
        Settings.from_metadata({"pretrained": "x"})


@pytest.mark.parametrize(
    "argv",
    [
        [*LM_EVAL, "--tasks", "alpaca_winrate,ruler", "--metadata", "max_seq_lengths=[4096]"],
        [*LM_EVAL, "--tasks", "alpaca_winrate", "ruler", "--metadata", "max_seq_lengths=[4096]"],
        [*LM_EVAL, "--tasks", "alpaca_winrate", "--metadata", "judge=longest", "judge_base_url=http://x", "save=y"],
        [*LM_EVAL, "--tasks", "alpaca_winrate", "--metadata", "judge=longest,save=y"],
        [*LM_EVAL, "--tasks", "alpaca_winrate", "--metadata", '{"judge": "longest"}'],
        ["/x/pytest", "--tasks", "alpaca_winrate", "--metadata", "foo=bar"],
    ],
)
def test_what_others_may_take_is_not_refused(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", argv)
    Settings.from_metadata({"pretrained": "x", "max_seq_lengths": [4096], "judge_base_url": "http://x"})


def test_default_length_is_512_and_recorded(tiny_model_folder: str, instructions: Path, reference: Path) -> None:
    with pytest.raises(UserError, match="max_gen_toks=512: the model holds 256 tokens in all"):
        run(tiny_model_folder, instructions, {"reference": str(reference)}, gen_kwargs=None)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"judge": "longset"}, "Did you mean 'longest'"),
        ({"judge": "longest", "template": "tulo"}, "Did you mean 'tulu'"),
        ({"judge": "longest", "instructions": "builtn"}, "builtin"),
        (
            {"judge": "longest", "instructions": "builtin", "reference": "absent.json"},
            "reference absent.json: no such file",
        ),
        ({"judge": "longest", "instruction": "builtin"}, "Did you mean 'instructions'"),
        ({"judge": 3}, "found int, expected text"),
    ],
)
def test_preflight_finds_bad_arguments(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(metadata)
    assert message in str(caught.value)


def test_preflight_finds_sets_that_do_not_match(instructions: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"instruction": "Something else", "output": "x", "generator": "g"}]))
    with pytest.raises(UserError, match="5 of the 5 instructions"):
        check({"judge": "longest", "instructions": str(instructions), "reference": str(other)})


@pytest.mark.parametrize(
    "text", ["{", "[]", '[{"instruction": "a"}]', '[{"instruction":"a","output":"b","generator":"g"}]' * 2]
)
def test_preflight_finds_malformed_outputs(instructions: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
        check({"judge": "longest", "instructions": str(instructions), "reference": str(path)})


def command(tiny: str, instructions: Path, *extra: str, metadata: tuple[str, ...] = ()) -> list[str]:
    return [
        *[sys.executable, "-m", "lm_eval", "run", "--model", "rules_poe"],
        *[
            "--model_args",
            f"pretrained={tiny},dtype=float32",
            "--tasks",
            "alpaca_winrate",
            "--gen_kwargs",
            "max_gen_toks=16",
        ],
        *["--metadata", "judge=longest", f"instructions={instructions}", *metadata, *extra],
    ]


def test_the_command_line_fails_before_the_model_loads(tiny_model_folder: str, instructions: Path) -> None:
    failed = subprocess.run(
        command("no/such-model", instructions, metadata=("judge=longset",)), capture_output=True, text=True, timeout=120
    )
    assert failed.returncode != 0
    assert "Did you mean 'longest'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "no/such-model" not in failed.stderr.split("Traceback")[-1]


@pytest.mark.slow
def test_kill_and_resume_with_use_cache(tiny_model_folder: str, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"instruction": f"Question {i}?"}) + "\n" for i in range(400)))
    arguments = command(tiny_model_folder, many, "--use_cache", str(tmp_path / "cache"), "--batch_size", "2")
    arguments[arguments.index("max_gen_toks=16")] = "max_gen_toks=48"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if "generate_until requests" in line:
            break
    time.sleep(4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    taken = [line for line in done.stderr.splitlines() if "Cached requests:" in line]
    assert int(taken[0].split("Cached requests: ")[1].split(",")[0]) > 0
    assert "| 400" in done.stdout.replace("400.0000", "400")


@pytest.mark.slow
def test_two_processes_share_the_work_and_give_the_same_results(
    tiny_model_folder: str, instructions: Path, reference: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_model_folder, instructions, metadata=(f"reference={reference}",))[1:]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = []
    for start in ([sys.executable], launcher):
        out = tmp_path / str(len(start))
        done = subprocess.run(
            [*start, *arguments, "--log_samples", "--output_path", str(out)],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results = json.loads(next(out.rglob("results_*.json")).read_text())
        samples = [json.loads(line) for line in next(out.rglob("samples_*.jsonl")).read_text().splitlines()]
        answers = {s["doc"]["instruction_id"]: (s["filtered_resps"][0], s["doc"]["preference"]) for s in samples}
        found.append((scores(results), answers))
    assert len(found[0][1]) == len(INSTRUCTIONS)
    assert found[0][1] == found[1][1]
    rates = ("attempt_rate", "win_rate", "length_controlled_win_rate")
    names = {
        "n_judged",
        "finish_rate",
        *(rate + end for rate in rates for end in ("", "_stderr", "_ci_low", "_ci_high")),
    }
    assert {n: found[0][0][n] for n in names} == pytest.approx({n: found[1][0][n] for n in names})
