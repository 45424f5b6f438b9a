"""Choosing the epochs: the sweep, the choice, and what is refused."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.scores import Interval, Score
from implicit_if.harness.storage import write_json
from implicit_if.harness.tuning import epoch_selection as module
from implicit_if.harness.tuning.epoch_selection import METRIC, lm_eval_evaluator, read_score, select
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import tune

MakeRecipe = Callable[..., Recipe]
SIGNATURE = "set:builtin|n:80|ref:gpt@0123abcd|judge:longest@0123abcd|orders:1|lc:offline|v:0.1.0"


def score(value: float | None, judged: int = 80, signature: str = SIGNATURE) -> Score:
    return Score(value=value, interval=None, n_judged=judged, n_expected=80, signature=signature)


def sweep(recipe: Recipe, out: Path, scores: dict[int, Score], trained: list[int] | None = None) -> module.Cell:
    def train(own: Recipe, folder: Path) -> Path:
        if trained is not None:
            trained.append(own.train.epochs)
        assert own.train.seed == recipe.train.seed
        return folder

    return select(recipe, out, lambda model: scores[int(model.name.removeprefix("epochs-"))], train, sorted(scores))


def test_the_best_is_chosen_and_recorded(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[int] = []
    scores = {5: score(20.0), 7: score(31.5), 10: score(31.5), 15: score(12.0)}
    best = sweep(make_recipe(seed=42), tmp_path, scores, trained)
    assert best.epochs == 7  # of equal scores, the fewest epochs
    assert trained == [5, 7, 10, 15]
    record = json.loads((tmp_path / "selection.json").read_text())
    assert (record["chosen_epochs"], record["seed"], record["metric"]) == (7, 42, METRIC)
    assert [(c["epochs"], c["score"]["value"]) for c in record["cells"]] == [(5, 20), (7, 31.5), (10, 31.5), (15, 12)]
    out = capsys.readouterr().out
    assert "     7  31.5 (n 80)  <- chosen\n" in out
    assert SIGNATURE in out


def test_a_choice_that_is_none_is_said(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(make_recipe(), tmp_path, {5: score(20.0), 7: score(31.5), 10: score(31.5)})
    assert "note: 7 and 10 epochs have equal scores; the fewest were taken" in capsys.readouterr().err
    assert "equal scores" in json.loads((tmp_path / "selection.json").read_text())["notes"][0]
    with pytest.raises(UserError, match=r"all 2 models score 31\.5 .*no choice"):
        sweep(make_recipe(), tmp_path / "equal", {5: score(31.5), 7: score(31.5)})
    with pytest.raises(UserError, match=r"train\.max_steps is 1: .* would be equal"):
        sweep(make_recipe(max_steps=1), tmp_path / "ended", {5: score(1.0), 7: score(2.0)})
    assert not (tmp_path / "equal").exists()
    assert not (tmp_path / "ended").exists()


def test_overlapping_intervals_are_said(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_interval(value: float, low: float, high: float) -> Score:
        return score(value).model_copy(update={"interval": Interval(low=low, high=high, method="mean", level=0.95)})

    apart, near = with_interval(12, 8, 16), with_interval(28, 22, 34)
    sweep(make_recipe(), tmp_path, {5: apart, 7: with_interval(31, 25, 37), 10: near})
    assert "note: the interval of 7 epochs overlaps those of 10 epochs; other" in capsys.readouterr().err
    sweep(make_recipe(), tmp_path, {5: apart, 7: near})
    assert "overlaps" not in capsys.readouterr().err
    assert json.loads((tmp_path / "selection.json").read_text())["notes"] == []


def test_the_paper_s_sweep() -> None:
    assert (module.EPOCHS, module.SEED) == ((5, 7, 10, 15, 20), 42)


def test_unequal_or_partial_judging_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    other = SIGNATURE.replace("gpt@0123abcd", "gpt@ffffffff")
    with pytest.raises(UserError, match="the models were judged differently"):
        sweep(make_recipe(), tmp_path, {5: score(1.0), 7: score(2.0, signature=other)})
    with pytest.raises(UserError, match="79 of 80 validation instructions were judged"):
        sweep(make_recipe(), tmp_path, {5: score(1.0), 7: score(2.0, judged=79)})
    assert not (tmp_path / "selection.json").exists()


def test_each_cell_is_a_run_of_its_own(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(batch=8)
    best = select(recipe, tmp_path, lambda model: score(float(model.name[-1])), tune, (1, 2))
    assert best.epochs == 2
    for epochs in (1, 2):
        log = (tmp_path / f"epochs-{epochs}" / "training_log.jsonl").read_text().splitlines()
        rates = [entry["learning_rate"] for entry in map(json.loads, log) if "learning_rate" in entry]
        assert rates == [0.01 * (epochs - n) / epochs for n in range(epochs)]  # each decays to its own end


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, str]:
    """What a sweep is judged by: two instructions and stored answers to them."""
    instructions, reference = tmp_path / "val.json", tmp_path / "r.json"
    write_json(instructions, [{"instruction": "Say hello."}, {"instruction": "Name a colour."}])
    write_reference(reference, "Red.")
    return {"judge": "longest", "reference": str(reference), "instructions": str(instructions), "template": "tulu"}


def write_reference(path: Path, colour: str) -> None:
    answers = {"Say hello.": "Hello!", "Name a colour.": colour}
    write_json(path, [{"instruction": i, "output": o, "generator": "gpt"} for i, o in answers.items()])


def tuned(folder: Path, recipe: str = "aa") -> Path:
    """As much of a tuned model as its judging depends on."""
    write_json(folder / "tuning.json", {})
    (folder / "model.safetensors").write_text(recipe)
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; each gives the score 40, 41, ..."""
    seen: list[list[str]] = []

    def run(command: list[str], check: bool) -> argparse.Namespace:
        folder = next(word for word in command if word.startswith("save=")).removeprefix("save=")
        write_json(Path(folder) / "scores.json", {METRIC: score(40.0 + len(seen)).model_dump()})
        seen.append(command)
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr("subprocess.run", run)
    return seen


def test_lm_eval_is_run_once_a_model(tmp_path: Path, asked: dict[str, str], commands: list[list[str]]) -> None:
    model = tuned(tmp_path / "epochs-5")
    evaluate = lm_eval_evaluator(asked, ["--batch_size", "4"])
    assert evaluate(model) == evaluate(model) == score(40.0)
    assert lm_eval_evaluator(asked, ["--batch_size", "4"])(model) == score(40.0)
    (command,) = commands
    line = " ".join(command)
    (folder,) = tmp_path.glob("epochs-5.validation-*")
    assert f"-m lm_eval --model hf --model_args pretrained={model} --tasks alpaca_winrate --metadata" in line
    assert f"judge=longest reference={tmp_path}/r.json instructions={tmp_path}/val.json template=tulu" in line
    assert f"save={folder} --output_path {folder} --batch_size 4" in line
    assert json.loads((folder / "asked.json").read_text())["settings"] == asked


def test_whatever_a_score_depends_on_is_judged_anew(
    tmp_path: Path, asked: dict[str, str], commands: list[list[str]]
) -> None:
    model = tuned(tmp_path / "epochs-5")
    lm_eval_evaluator(asked)(model)
    write_json(tmp_path / "one.json", [{"instruction": "Say hello."}])
    template = tmp_path / "mine.jinja"
    template.write_text(load_template("tulu").source.replace("<|user|>", "<|person|>"))
    changed: list[tuple[dict[str, str], list[str]]] = [
        ({"judge": "embedded"}, []),
        ({"instructions": str(tmp_path / "one.json")}, []),
        ({"instructions": "builtin", "reference": "gemma-3-270m/instruction"}, []),
        ({"template": str(template)}, []),
        ({}, ["--limit", "1"]),
    ]
    for number, (settings, extra) in enumerate(changed, start=1):
        assert lm_eval_evaluator(asked | settings, extra)(model).value == 40.0 + number
    # The same names for other contents.
    write_reference(tmp_path / "r.json", "Blue.")
    assert lm_eval_evaluator(asked)(model).value == 46.0
    tuned(model, recipe="another")
    assert lm_eval_evaluator(asked)(model).value == 47.0
    # Asked as at first, no judging is needed.
    write_reference(tmp_path / "r.json", "Red.")
    tuned(model)
    assert lm_eval_evaluator(asked)(model).value == 40.0
    assert len(commands) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge": "nosuchjudge"}, "nosuchjudge"),
        ({"reference": "nosuch.json"}, r"nosuch\.json"),
        ({"instructions": "nosuch"}, "nosuch"),
        ({"instructions": "builtin"}, "have no answer there"),
        ({"template": "nosuch"}, "nosuch"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_a_model_is_there(
    asked: dict[str, str], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lm_eval_evaluator(asked | settings)


def test_training_is_a_command_of_its_own(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, bool]:
        seen.append(command)
        return len(seen) - 1, False

    monkeypatch.setattr(module, "run_stoppable", run)
    recipe = make_recipe(epochs=5)
    train = module.command_trainer(["accelerate", "launch"])
    assert train(recipe, tmp_path / "epochs-5") == tmp_path / "epochs-5"
    path = tmp_path / "epochs-5.yaml"
    words = ["tune", str(path), "--out", str(tmp_path / "epochs-5")]
    assert seen == [["accelerate", "launch", "-m", "implicit_if.harness.cli", *words]]
    assert load_recipe(path) == recipe
    with pytest.raises(UserError, match="tuning ended with status 1"):
        train(recipe, tmp_path / "epochs-5")


def test_a_launcher_that_is_missing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--launcher no-such-program launch: cannot be started"):
        module.command_trainer(["no-such-program", "launch"])(make_recipe(), tmp_path / "epochs-5")


def stand_in(folder: Path, text: str) -> str:
    """A launcher that is a shell script."""
    path = folder / "launcher"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_stopped_training_stops_the_sweep_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "lm_eval_evaluator", lambda *_: lambda _: pytest.fail("an unfinished model is judged"))
    words = ["response", "--base", "embedded", "--out", str(tmp_path / "sweep"), "--reference", "auto", "--epochs", "1"]
    launchers = (
        "exit 75",
        # As torchrun: the signal that `select` gets and hands on ends in status 1.
        "trap 'echo handed on; exit 1' TERM; kill -TERM $PPID; while :; do sleep 0.1; done",
    )
    for text in launchers:
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        arguments = parser.parse_args([*words, "--launcher", stand_in(tmp_path, text)])
        before = signal.getsignal(signal.SIGTERM)
        assert module.run(arguments) == 75
        assert signal.getsignal(signal.SIGTERM) is before
        out, errors = capfd.readouterr()
        assert "epochs-1: tuning was stopped. Run the same command to continue." in errors
        assert ("handed on" in out) == ("trap" in text)


def test_a_failed_evaluation_stops(tmp_path: Path, asked: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: argparse.Namespace(returncode=3))
    with pytest.raises(UserError, match="lm_eval ended with status 3"):
        lm_eval_evaluator(asked)(tuned(tmp_path / "epochs-5"))
    with pytest.raises(UserError, match=r"epochs-7: no tuning\.json of ours"):
        lm_eval_evaluator(asked)(tmp_path / "epochs-7")
    path = tmp_path / "scores.json"
    for content in ("{}", "[]", "no json", json.dumps({METRIC: {"value": 1}})):
        path.write_text(content)
        with pytest.raises(UserError, match=f"holds no {METRIC}"):
            read_score(path)


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    words = (
        "response_no_rephrasing --base meta-llama/Llama-2-7b-hf --out sweep --reference gpt.json --epochs 2,3".split()
    )
    seen: dict[str, object] = {}

    def note(recipe: Recipe, out: str, evaluate: object, train: object, epochs: list[int]) -> None:
        seen.update(recipe=recipe, out=out, evaluate=evaluate, epochs=epochs)

    monkeypatch.setattr(module, "select", note)
    monkeypatch.setattr(module, "lm_eval_evaluator", lambda metadata, extra: (metadata, extra))
    assert module.run(parser.parse_args([*words, "--lm-eval-args", "--batch_size 8"])) == 0
    recipe = seen["recipe"]
    assert isinstance(recipe, Recipe)
    assert (recipe.train.seed, seen["epochs"], seen["out"]) == (42, [2, 3], "sweep")
    expected = {"instructions": "validation", "reference": "gpt.json", "judge": "embedded", "template": "tulu"}
    assert seen["evaluate"] == (expected, ["--batch_size", "8"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs five", "--epochs is 'five', expected numbers from 1 on, such as 5,7,10"),
        ("--epochs 5,0", "--epochs is '5,0', expected numbers from 1 on"),
        ("--epochs 5,-1", "expected numbers from 1 on"),
        ("--set train.seed=7", "--set train.seed=7: the sweep sets train.seed. Give it with --seed"),
        ("--set train.epochs=7", "the sweep sets train.epochs. Give it with --epochs"),
        ("--reference base", "--reference base: a tuned model cannot answer as its base"),
        ("--judge nosuchjudge", "nosuchjudge"),
        ("--reference nosuch.json", "nosuch"),
        ("--instructions nosuch", "nosuch"),
    ],
)
def test_a_mistyped_argument_costs_no_training(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    for name in ("subprocess.run", "subprocess.Popen"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("something was started"))
    given = "response --base meta-llama/Llama-2-7b-hf --reference gemma-3-270m/instruction-full-s1".split()
    with pytest.raises(UserError, match=message):
        module.run(parser.parse_args([*given, "--out", str(tmp_path / "sweep"), *words.split()]))
    assert not (tmp_path / "sweep").exists()


def test_auto_is_settled_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    seen: list[Mapping[str, str]] = []
    monkeypatch.setattr(module, "select", lambda *_: None)
    monkeypatch.setattr(module, "lm_eval_evaluator", lambda metadata, _: seen.append(metadata))
    module.run(parser.parse_args("response --base embedded --out sweep --reference auto --seed 3".split()))
    assert seen[0]["reference"] == "gemma-3-270m/instruction-full-s1"
    assert seen[0]["instructions"] == "validation"
    errors = capsys.readouterr().err
    assert "reference: gemma-3-270m/instruction-full-s1 (reference=auto: the same base model" in errors
    assert "base embedded, seed 3, epochs [5, 7, 10, 15, 20]" in errors
