"""The task as lm-eval runs it, on a tiny model with the `longest` judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from implicit_if.harness import stats
from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import instruction_id, load_meta, load_outputs
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.length_control import offline_model
from implicit_if.tasks.alpaca_winrate.preflight import check

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


def test_predict_only_generates_and_judges_nothing(tiny_model_folder: str, instructions: Path) -> None:
    results = run(tiny_model_folder, instructions, predict_only=True)
    assert scores(results)["bypass"] == 999
    assert len(results["samples"]["alpaca_winrate"][0]["resps"]) == 1


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
    assert results["configs"]["alpaca_winrate"]["metadata"]["template"] == "model"


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
            "unknown reference 'absent.json'",
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
    names = {"win_rate", "length_controlled_win_rate", "n_judged", "finish_rate"}
    assert {n: found[0][0][n] for n in names} == pytest.approx({n: found[1][0][n] for n in names})
