"""The ablation on a tiny model: every system is the model it says it is, and nothing that stops the run changes it."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.protocol import Comparison, Estimate, Verdict
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.locks import locked
from implicit_if.harness.outputs import Output, instruction_id, load_meta, load_outputs
from implicit_if.harness.signature import Signature
from implicit_if.model_wrappers.ablation import cli
from implicit_if.model_wrappers.ablation.ablation import Ablation, Variant, alone_in, systems_of
from implicit_if.model_wrappers.rules.presets import Preset, customise, load_preset
from implicit_if.model_wrappers.rules_poe import RulesPoE

TEXTS = ["Name three fruits.", "Say hello\nin two lines.", "¿Qué es el agua?", "List: a, b", "Why?"]
EOS_SOON = {"eos.maximum": 400}  # so that the rule ends some answers within a few tokens
TOKENS = 12


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("set") / "five.jsonl"
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def lm(tiny_model_folder: str) -> RulesPoE:
    return RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=2, **EOS_SOON)


def ablation(lm: RulesPoE, instructions: str, folder: Path, **kwargs: Any) -> Ablation:
    generation = {"max_gen_toks": kwargs.pop("max_gen_toks", TOKENS)}
    chosen = load_instructions(instructions)
    return Ablation(lm, chosen, load_template("tulu"), folder, generation=generation, **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("table.*"), *(folder / "outputs").iterdir()]
    return {path.name: path.read_bytes() for path in files}


# ---------------------------------------------------------------------- which systems
def test_the_papers_rules_make_eight_systems() -> None:
    systems = systems_of(load_preset("paper"))
    rules = {s.name: [r.name for r in s.preset.rules] for s in systems}
    assert rules == {
        "base": [],
        "rules": ["eos", "uniform", "diversity"],
        "without eos": ["uniform", "diversity"],
        "without uniform": ["eos", "diversity"],
        "without diversity": ["eos", "uniform"],
        "only eos": ["eos"],
        "only uniform": ["uniform"],
        "only diversity": ["diversity"],
    }


def test_tokens_leaves_out_each_string_and_nothing_else() -> None:
    full = load_preset("paper")
    systems = systems_of(full, tokens=True)[8:]
    weights = dict(full.rules[1].options["weights"])
    assert len(systems) == len(weights) == 15
    for system, string in zip(systems, weights, strict=True):
        assert system.name == f"without {json.dumps(string)}"
        eos, uniform, diversity = system.preset.rules
        assert dict(uniform.options["weights"]) == {s: w for s, w in weights.items() if s != string}
        assert (eos, diversity) == (full.rules[0], full.rules[2])
    assert len(systems_of(full, tokens=True, missing=["!", "\n"])) == 8 + 13


def test_no_system_comes_twice() -> None:
    two, one = (customise(load_preset("paper"), drop) for drop in ("eos", "eos+uniform"))
    assert [s.name for s in systems_of(two)] == ["base", "rules", "without uniform", "without diversity"]
    assert [s.name for s in systems_of(one)] == ["base", "rules"]


def test_without_rules_there_is_nothing_to_leave_out() -> None:
    with pytest.raises(UserError, match="no rules, so there is none to leave out"):
        systems_of(load_preset("none"))


def test_file_names_are_safe_and_different() -> None:
    names = ["base", "without eos", 'without " <"', 'without "/"', 'without "../x"', "without a b", "without a-b"]
    files = [Variant(name, Preset(name, "", ())).file for name in names]
    assert len(set(files)) == len(names)
    assert not any(set(file) & set("/ \\<>\"'") for file in files)


# ---------------------------------------------------------------------- what they answer
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("base", {"rules": None}),
        ("rules", EOS_SOON),
        ("without-eos", {"drop": "eos"}),
        ("only-eos", {"drop": "uniform+diversity", **EOS_SOON}),
        ("without-%22%21%22", {"uniform.!": 0, **EOS_SOON}),
    ],
)
def test_each_system_answers_as_a_wrapper_of_its_own(
    tiny_model_folder: str, outputs: Path, name: str, arguments: dict[str, Any]
) -> None:
    own = RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=1, **arguments)
    settings = {"until": [], "max_gen_toks": TOKENS, "do_sample": False}
    prompts = [load_template("tulu").render_prompt(text) for text in TEXTS]
    requests = [Instance("generate_until", {}, (p, settings), i, metadata=("t", i, 1)) for i, p in enumerate(prompts)]
    answers = own.generate_until(requests, disable_tqdm=True)
    stored = load_outputs(outputs / f"{name}.json")
    assert [o.output for o in stored] == answers
    assert [(o.finish_reason, o.n_tokens) for o in stored] == [(a.finish_reason, a.n_tokens) for a in answers]


@pytest.fixture(scope="module")
def outputs(lm: RulesPoE, instructions: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    assert ablation(lm, instructions, folder).run(get_judge("longest"), tokens=True) == 0
    return folder / "outputs"


def test_the_tables_say_what_the_outputs_say(outputs: Path) -> None:
    rows = list(csv.DictReader((outputs.parent / "table.csv").read_text(encoding="utf-8").splitlines()))
    table = json.loads((outputs.parent / "table.json").read_text(encoding="utf-8"))
    base = {o.instruction_id: o for o in load_outputs(outputs / "base.json")}
    assert len(rows) == len(table["rows"]) == 23
    finished = set()
    for row, entry in zip(rows, table["rows"], strict=True):
        assert row["system"] == entry["system"]
        own = load_outputs(outputs / f"{Variant(row['system'], load_preset('none')).file}.json")
        assert {o.generator for o in own} == {row["system"]}
        finished.add(float(row["finish_rate"]))
        assert float(row["finish_rate"]) == 20 * sum(o.finish_reason == "eos" for o in own)
        assert float(row["avg_length"]) == pytest.approx(sum(len(o.output) for o in own) / 5)
        if row["system"] == "base":
            assert row["win_rate"] == ""
            continue
        wins = [len(o.output) - len(base[o.instruction_id].output) for o in own]
        expected = 20 * sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in wins)
        assert float(row["win_rate"]) == entry["scores"]["win_rate"]["value"] == pytest.approx(expected)
        assert float(row["win_rate_low"]) <= expected <= float(row["win_rate_high"])
        assert (row["n_judged"], row["n_expected"]) == ("5", "5")
        signature = Signature.parse(row["length_controlled_win_rate_signature"])
        assert (signature.reference, signature.judge, signature.n) == ("base", "longest", 5)
        assert signature.lc is not None
    assert len(finished) > 1, "some system must stop and some not, or the columns were not compared"


def test_against_a_given_reference_the_base_has_a_win_rate_too(lm: RulesPoE, instructions: str, tmp_path: Path) -> None:
    answers = [Output(instruction_id=instruction_id(t), output="x" * 30, generator="thirty") for t in TEXTS]
    assert ablation(lm, instructions, tmp_path, reference=answers).run(get_judge("longest")) == 0
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0]["system"] == "base"
    for row in rows:
        own = load_outputs(tmp_path / "outputs" / f"{Variant(row['system'], load_preset('none')).file}.json")
        lengths = [len(o.output) for o in own]
        assert float(row["win_rate"]) == pytest.approx(20 * sum((n > 30) + (n == 30) / 2 for n in lengths))
        assert Signature.parse(row["win_rate_signature"]).reference == "thirty"
    assert "Win rates are against thirty." in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_the_page_holds_every_name_as_it_is(outputs: Path) -> None:
    page = (outputs.parent / "table.md").read_text(encoding="utf-8")
    for name in ("`base`", "`only eos`", '`without " <"`', r'`without "\|"`', r'`without "\n"`', '`without " *"`'):
        assert f"| {name} " in page
    assert all(line.count("|") - line.count(r"\|") == 10 for line in page.splitlines() if line.startswith("|"))
    assert "signature: `task:alpaca_winrate|set:five@" in page


def test_the_sidecars_name_model_rules_and_template(outputs: Path, lm: RulesPoE) -> None:
    meta = load_meta(outputs / "without-eos.json")
    assert meta is not None
    assert meta.model["model_identity"] == lm.base_identity
    assert meta.model["product"].startswith("rules:paper,eos.maximum=400-eos@")
    assert meta.template["name"] == "tulu"
    assert meta.generation["max_gen_toks"] == TOKENS


# ---------------------------------------------------------------------- what stops a run
def test_an_interrupted_run_goes_on_with_the_same_batches_and_ends_in_the_same_bytes(
    lm: RulesPoE, instructions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = get_judge("longest")
    ablation(lm, instructions, tmp_path / "whole").run(judge)
    generate, calls = lm._answer, []

    def stop_at_the_fifth(contexts: list[str], *rest: Any) -> Any:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(contexts)
        return generate(contexts, *rest)

    monkeypatch.setattr(lm, "_answer", stop_at_the_fifth)
    monkeypatch.setattr("implicit_if.model_wrappers.implicit_lm.cache_dir", lambda: tmp_path / "none")
    with pytest.raises(KeyboardInterrupt):
        ablation(lm, instructions, tmp_path / "cut").run(judge)
    torn = tmp_path / "cut" / "answers" / "rules.jsonl"
    torn.write_bytes(torn.read_bytes()[:-9])  # killed amid the write: one of the fourth batch's two rows is whole
    resumed: list[list[str]] = []
    monkeypatch.setattr(lm, "_answer", lambda contexts, *rest: resumed.append(contexts) or generate(contexts, *rest))
    ablation(lm, instructions, tmp_path / "cut").run(judge)
    assert resumed[0] == calls[3], "the torn batch is generated anew as a whole"
    assert len(calls) - 1 + len(resumed) == 8 * 3
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    monkeypatch.setattr(lm, "_answer", lambda *_: pytest.fail("generated again"))
    ablation(lm, instructions, tmp_path / "cut").run(judge)


def test_other_settings_are_never_answered_from_the_folder(lm: RulesPoE, instructions: str, tmp_path: Path) -> None:
    judge = get_judge("longest")
    ablation(lm, instructions, tmp_path).run(judge)
    before = contents(tmp_path)
    ablation(lm, instructions, tmp_path, max_gen_toks=4).run(judge)
    assert max(o.n_tokens or 0 for o in load_outputs(tmp_path / "outputs" / "rules.json")) == 4
    ablation(lm, instructions, tmp_path).run(judge)
    assert contents(tmp_path) == before


def test_a_limit_takes_the_first_instructions(lm: RulesPoE, instructions: str, tmp_path: Path) -> None:
    assert ablation(lm, instructions, tmp_path, limit=2).run(get_judge("longest")) == 0
    assert (tmp_path / "table.md").read_text(encoding="utf-8").count("2 of 5") == 7
    assert [o.instruction for o in load_outputs(tmp_path / "outputs" / "rules.json")] == TEXTS[:2]


def test_a_damaged_answer_names_file_and_line(lm: RulesPoE, instructions: str, tmp_path: Path) -> None:
    path = tmp_path / "answers" / "rules.jsonl"
    path.parent.mkdir()
    path.write_text('{"key": "x", "text": "y"}\n')
    with pytest.raises(UserError, match=r"rules\.jsonl, line 1: not an answer"):
        ablation(lm, instructions, tmp_path).run(get_judge("longest"))


class Moody:
    """Prefers every system, but gives no verdict on answers to one instruction."""

    name, fingerprint, ordered, paid = "moody", "0" * 64, True, False

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for c in comparisons:
            if c.instruction == TEXTS[3]:
                yield Verdict(c.key, None, error="no mood")
            else:
                yield Verdict(c.key, 0.75)

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        return Estimate(0)


def test_missing_verdicts_are_shown_and_counted_for_their_system_only(
    lm: RulesPoE, instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ablation(lm, instructions, tmp_path)
    systems = systems_of(lm.preset)
    outputs = run.generate(systems)
    differs = [own[3].output != outputs[0][3].output for own in outputs[1:]]
    assert {True, False} <= set(differs), "identical answers are ties without a call, others are asked"
    assert run.run(Moody()) == 1
    assert "4 of 5" in capsys.readouterr().out
    for row, missing in zip(json.loads((tmp_path / "table.json").read_text())["rows"][1:], differs, strict=True):
        assert row["scores"]["win_rate"]["n_judged"] == 5 - missing
        assert row["scores"]["win_rate"]["n_expected"] == 5


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    message = "another process is at work there"
    with locked(tmp_path / "ablate"), pytest.raises(UserError, match=message), alone_in(tmp_path):
        pytest.fail("let in")


def test_a_folder_that_cannot_be_written_is_named_before_a_model_loads(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out .*cannot be written"), alone_in(tmp_path / "file" / "x"):
        pytest.fail("let in")


# ---------------------------------------------------------------------- the command
def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--judge", "longst"], "Did you mean 'longest'"),
        (["--judge", "longest", "--template", "tullu"], "Did you mean 'tulu'"),
        (["--judge", "longest", "--instructions", "biultin"], "Did you mean 'builtin'"),
        (["--judge", "longest", "--instructions", "builtin", "--model-args", "pretrained=x,rules=papr"], "'paper'"),
        (["--judge", "longest", "--instructions", "builtin", "--model-args", "pretrained=x,rules=none"], "no rules"),
    ],
)
def test_mistakes_are_found_before_a_model_loads(argv: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        cli.run(arguments(*argv, "--out", str(tmp_path)))
    assert message in str(caught.value)


def test_kill_9_loses_at_most_one_batch(
    tiny_model_folder: str, instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"--model-args pretrained={tiny_model_folder},dtype=float32,device=cpu --batch-size 1 --max-gen-toks 60"
    argv = [*options.split(), "--judge", "longest", "--instructions", instructions, "--out", str(tmp_path / "killed")]
    code = (
        "import argparse, sys; from implicit_if.model_wrappers.ablation import cli as c; "
        "p = argparse.ArgumentParser(); c.add_arguments(p); c.run(p.parse_args(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code, *argv], env=environment, stderr=subprocess.DEVNULL)
    answers = tmp_path / "killed" / "answers" / "rules.jsonl"
    deadline = time.monotonic() + 120
    while not (answers.exists() and answers.read_bytes().count(b"\n") >= 2):
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = answers.read_bytes()
    assert cli.run(arguments(*argv)) == 0
    assert answers.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]), "what was kept is still there"
    assert len({json.loads(line)["key"] for line in answers.read_text().splitlines()}) == 5
    assert len(answers.read_text().splitlines()) == 5, "nothing that was kept was generated again"
    assert "only diversity" in capsys.readouterr().out
    cli.run(arguments(*argv[:-1], str(tmp_path / "whole")))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
