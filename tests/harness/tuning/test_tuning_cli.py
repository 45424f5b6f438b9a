"""`implicit-if tune` as a user types it."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import cli, epoch_selection
from implicit_if.harness.tuning.recipe import recipe_names


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(words)


def recipe_file(folder: Path, tiny: Path) -> str:
    path = folder / "mine.yaml"
    path.write_text(
        f"base: {tiny}\ndata: {{format: pairs}}\nencoding: {{max_length: 100}}\n"
        "train: {epochs: 1, learning_rate: 0.01, batch: 4, autocast: false}\n"
    )
    return str(path)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(parse("--list")) == 0
    out = capsys.readouterr().out
    for name in (*recipe_names(), "llama2-7b/reference", "olmo-7b/paper", "gemma-3-270m/embedded"):
        assert name in out


def test_dry_run(tmp_path: Path, tiny: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [recipe_file(tmp_path, tiny), "--data", str(pairs_file), "--dry-run", "--set", "encoding.max_length=40"]
    assert cli.run(parse(*words)) == 0
    out = capsys.readouterr().out
    assert f"mine: 8 rows of {pairs_file}" in out
    assert "truncated at 40 tokens: " in out
    assert out.count("\n--- ") == 3
    assert "<bos><|user|>\nWhy is the sky blue?\n<|assistant|>\n[[" in out
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


def test_dry_run_loads_no_torch(tmp_path: Path, tiny: Path, pairs_file: Path) -> None:
    code = (
        "import sys, argparse; from implicit_if.harness.tuning import cli; p = argparse.ArgumentParser();"
        "cli.add_arguments(p); assert cli.run(p.parse_args(sys.argv[1:])) == 0; assert 'trl' not in sys.modules"
    )
    words = [recipe_file(tmp_path, tiny), "--data", str(pairs_file), "--dry-run"]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def test_nothing_heavy_is_imported_for_the_help() -> None:
    code = (
        "import sys; import implicit_if.harness.tuning.cli, implicit_if.harness.tuning.epoch_selection;"
        "assert not {'torch', 'transformers', 'datasets', 'pandas', 'trl', 'accelerate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ('{"instruction": "a"}', "", "no field 'response'"),
        (None, "", "no such file"),
        ('{"instruction": "a", "response": "b"}', "--set train.batch=5 --set train.micro_batch=2", "micro_batch"),
        ('{"instruction": "a", "response": "b"}', "--out ..", "name of a new folder"),
        ('{"instruction": "a", "response": "b"}', "--out /dev/null/x", "/dev/null/x.work: cannot be made"),
        ('{"instruction": "a", "response": "b"}', "--out /tmp", "exists and is no tuned model of ours"),
        ('{"messages": []}', "--set data.format=messages --dry-run", "'messages' is"),
    ],
)
def test_what_needs_no_model_is_refused_before_libraries_load(
    tmp_path: Path, tiny: Path, rows: str | None, words: str, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    if rows is not None:
        path.write_text(rows + "\n")
    code = (
        "import sys; from implicit_if.harness.cli import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'transformers', 'accelerate', 'datasets'} & set(sys.modules); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "tune", recipe_file(tmp_path, tiny), "--data", str(path), *words.split()]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def test_tune(tmp_path: Path, tiny: Path, pairs_file: Path) -> None:
    out = tmp_path / "out"
    words = [recipe_file(tmp_path, tiny), "--data", str(pairs_file), "--out", str(out), "--seed", "5"]
    assert cli.run(parse(*words, "--keep-checkpoints")) == 0
    assert (out / "model.safetensors").exists()
    assert "seed: 5" in (out / "recipe.yaml").read_text()
    assert (tmp_path / "out.work" / "checkpoint-2" / "trainer_state.json").exists()


def test_several_seeds(tmp_path: Path, tiny: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [recipe_file(tmp_path, tiny), "--data", str(pairs_file), "--set", "train.lora.r=2"]
    assert cli.run(parse(*words, "--out", str(tmp_path / "out"), "--seeds", "2,1")) == 0
    assert cli.run(parse(*words, "--out", str(tmp_path / "alone"), "--seed", "2")) == 0
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("out-1", "out-2", "alone")}
    assert weights["out-2"] == weights["alone"] != weights["out-1"]
    for text in ("1;2", "-1", ""):
        with pytest.raises(UserError, match=r"--seeds is '.*', expected numbers from 0 on"):
            cli.run(parse(*words, "--seeds", text))
    with pytest.raises(UserError, match="--seed and --seeds are both given"):
        cli.run(parse(*words, "--seeds", "1,2", "--seed", "3"))


def test_default_folder(tmp_path: Path, tiny: Path) -> None:
    recipe = cli.recipe_from(parse(recipe_file(tmp_path, tiny), "--seed", "3"), 3)
    assert cli.default_folder(recipe) == Path("tuned") / f"mine-{tiny.name}-3"
    other = cli.recipe_from(parse("gsm", "--base", "meta-llama/Llama-2-7b-hf"))
    assert cli.default_folder(other) == Path("tuned/gsm-Llama-2-7b-hf-42")


def test_a_path_is_taken_as_it_is(tmp_path: Path, tiny: Path) -> None:
    for name in ("rows: a.jsonl", "1.5", "null", "~/[x].csv"):
        recipe = cli.recipe_from(parse(recipe_file(tmp_path, tiny), "--data", name))
        assert recipe.data.path == name


def test_no_recipe() -> None:
    with pytest.raises(UserError, match=r"no recipe given\. Expected one of: chess, gsm"):
        cli.run(parse())


DOCUMENT = Path(__file__).parents[3] / "docs" / "tuning.md"
COMMANDS = re.findall(
    r"(?:implicit-if|implicit_if\.harness\.cli) (tune|select) (.*)", DOCUMENT.read_text().replace("\\\n", " ")
)


@pytest.mark.parametrize(("name", "words"), [pair for pair in COMMANDS if "`" not in pair[1]])
def test_documented_commands_are_real(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("base: a/b\ndata: {format: pairs}\ntrain: {epochs: 1, learning_rate: 1}\n")
    parser = argparse.ArgumentParser()
    module = {"tune": cli, "select": epoch_selection}[name]
    module.add_arguments(parser)
    arguments = parser.parse_args([word for word in shlex.split(words) if word != "..."])
    if arguments.recipe is not None:
        assert cli.recipe_from(arguments).name


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 7
