"""Runs that ended early, are done already, or are somebody else's: continued exactly, or refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from tuning_runs import Interrupted, assert_same, interrupt_at, losses, weights

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import runner, saved_model
from implicit_if.harness.tuning.checkpoints import last_checkpoint
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.preflight import without_known_warnings
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import StoppedError, build_trainer, tune
from implicit_if.harness.tuning.trainer import RecipeTrainer

MakeRecipe = Callable[..., Recipe]


def tokens(folder: Path) -> list[float]:
    """`num_tokens` after each step, and the number in the model's provenance."""
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    total = json.loads((folder / "tuning.json").read_text())["training"]["tokens"]
    return [entry["num_tokens"] for entry in map(json.loads, lines) if "loss" in entry] + [total]


def train_loss(folder: Path) -> float:
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    return next(float(entry["train_loss"]) for entry in map(json.loads, lines) if "train_loss" in entry)


def terminate_in(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends SIGTERM to this process while a step is computed."""
    original = RecipeTrainer.compute_loss

    def compute_loss(self: RecipeTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(RecipeTrainer, "compute_loss", compute_loss)


@pytest.mark.parametrize(
    ("step", "save_steps", "train"),
    [
        (3, None, {}),  # in the middle of the second epoch, two steps an epoch
        (5, 3, {}),  # from a checkpoint in the middle of an epoch
        (3, None, {"lora": {"r": 4, "dropout": 0.1}, "save_dtype": "float32"}),
        (5, 2, {"steps_across_epochs": True, "batch": 3, "gradients": "bfloat16"}),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, save_steps: int, train: Any
) -> None:
    recipe = make_recipe(epochs=3, save_steps=save_steps, **train)
    whole = tune(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "resumed")
    work = tmp_path / "resumed.work"
    assert last_checkpoint(work) is not None
    assert not (tmp_path / "resumed").exists()
    # What a kill during the writing of the next checkpoint leaves behind.
    shutil.copytree(str(last_checkpoint(work)), work / "checkpoint-99")
    (work / "checkpoint-99" / "trainer_state.json").unlink()
    resumed = tune(recipe, tmp_path / "resumed")
    assert_same(weights(whole), weights(resumed))
    assert losses(whole) == losses(resumed)
    assert tokens(whole) == tokens(resumed)
    assert train_loss(resumed) == train_loss(whole) == pytest.approx(sum(losses(whole)) / len(losses(whole)))


@pytest.mark.parametrize("train", [{}, {"lora": {"r": 4, "dropout": 0.1}, "save_dtype": "float32"}])
@pytest.mark.parametrize("step", [1, 3, 4])  # two steps an epoch
def test_sigterm_leaves_a_checkpoint_after_the_step(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, train: Any
) -> None:
    recipe = make_recipe(epochs=3, **train)
    whole = tune(recipe, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        terminate_in(patch, step)
        with pytest.raises(StoppedError, match=f"stopped after step {step} of 6, which is saved. Run the same command"):
            tune(recipe, tmp_path / "out")
    assert signal.getsignal(signal.SIGTERM) == before
    assert last_checkpoint(tmp_path / "out.work") == tmp_path / "out.work" / f"checkpoint-{step}"
    resumed = tune(recipe, tmp_path / "out")
    assert_same(weights(whole), weights(resumed))
    assert losses(whole) == losses(resumed)


def test_sigterm_in_the_last_step_ends_with_a_model(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminate_in(monkeypatch, 6)
    assert len(losses(tune(make_recipe(epochs=3), tmp_path / "out"))) == 6


def test_in_a_thread_training_leaves_signals_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(tune, make_recipe(epochs=1), tmp_path / "out").result() == tmp_path / "out"


@pytest.mark.parametrize(
    "change",
    [{"save_steps": 1}, {"gradient_checkpointing": True}, {"save_steps": 3, "lora": {"r": 4, "merge": False}}],
)
def test_what_changes_no_number_may_change_before_a_resume(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    lora = {"lora": {"r": 4}} if "lora" in change else {}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            tune(make_recipe(epochs=2, **lora), tmp_path / "out")
    resumed = tune(make_recipe(epochs=2, **change), tmp_path / "out")
    whole = tune(make_recipe(epochs=2, **lora), tmp_path / "whole")
    assert losses(whole) == losses(resumed)
    if not lora:
        assert_same(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 0.02}, "recipe (train.learning_rate was 0.01, is now 0.02)"),
        ({"seed": 1}, "seed"),
        ({"micro_batch": 2, "packing": "padding_free"}, "recipe (train.micro_batch was 1, is now 2; train.packing was"),
        ({"lora": {"r": 2}, "save_steps": 1}, "recipe (train.lora.alpha was None, is now 32; train.lora.dropout"),
    ],
)
def test_what_differs_is_named(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    done = tune(make_recipe(epochs=1), tmp_path / "done")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(Interrupted):
            tune(make_recipe(epochs=1), tmp_path / "begun")
    for out, what in ((done, "a model"), (tmp_path / "begun", "an unfinished run")):
        with pytest.raises(UserError) as caught:
            tune(make_recipe(epochs=1, **change), out)
        assert f"holds {what} of another {named}" in str(caught.value)


def test_a_finished_model_in_another_form_is_not_taken_for_this_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    out = tune(make_recipe(epochs=1), tmp_path / "out")
    with pytest.raises(UserError, match=r"another recipe \(train.save_dtype was None, is now bfloat16\)\. Choose"):
        tune(make_recipe(epochs=1, save_dtype="bfloat16"), out)


@pytest.mark.parametrize("train", [{}, {"lora": {"r": 4}}, {"lora": {"r": 4, "merge": False}}])
def test_disk_space_is_reckoned_before_training(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    train: dict[str, Any],
) -> None:
    recipe = make_recipe(epochs=2, **train)
    with without_known_warnings():
        trainer = build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path / "trial")
    checkpoint, after = runner._bytes_on_disk(trainer, recipe)
    out = tune(recipe, tmp_path / "out", keep_checkpoints=True)
    assert "GB are free" in capsys.readouterr().err
    last = tmp_path / "out.work" / "checkpoint-4"
    weights_saved = sum(file.stat().st_size for file in last.glob("*.safetensors"))
    moments = (last / "optimizer.pt").stat().st_size
    finished_model = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    headers = 40_000  # names and shapes, which no real model's weights make visible
    assert checkpoint <= weights_saved + moments <= checkpoint + headers
    assert after <= weights_saved + finished_model <= after + headers
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=checkpoint + max(checkpoint, after) - 10_000)
    )
    monkeypatch.setattr(runner, "_train", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"GB are free\. Make room, or choose another --out"):
        tune(recipe, tmp_path / "full")


def test_what_is_finished_is_not_done_again(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(epochs=1)
    # Killed after the last checkpoint, before the model was written.
    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "save", lambda *_: (_ for _ in ()).throw(Interrupted()))
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "out")
    out = tune(recipe, tmp_path / "out")
    before = weights(out)
    assert "continuing from" in capsys.readouterr().err
    monkeypatch.setattr(runner, "build_trainer", lambda *_: pytest.fail("trained again"))
    tune(recipe, out)
    assert "is already tuned" in capsys.readouterr().err
    (tmp_path / "out.work").mkdir()  # a kill between the model's rename and the clean-up
    tune(recipe, out)
    assert f"`rm -r {tmp_path}/out.work` removes them" in capsys.readouterr().err
    assert_same(before, weights(out))
    with pytest.raises(UserError, match="holds a model of another recipe"):
        tune(make_recipe(epochs=2), out)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is no tuned model of ours"):
        tune(recipe, tmp_path / "mine")


def test_an_unfinished_run_of_another_recipe_is_not_continued(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            tune(make_recipe(epochs=2), tmp_path / "out")
    with pytest.raises(UserError, match="holds an unfinished run of another seed"):
        tune(make_recipe(epochs=2, seed=1), tmp_path / "out")


def test_two_processes_do_not_tune_into_one_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from implicit_if.harness.locks import locked

    with locked(tmp_path / "out.work" / "run"), pytest.raises(UserError, match="another process is tuning there"):
        tune(make_recipe(), tmp_path / "out")


def test_a_full_disk_leaves_the_last_checkpoint(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(epochs=2)
    original = RecipeTrainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if folder.endswith("checkpoint-4"):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(RecipeTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(UserError, match=r"the disk is full .*\. checkpoint-2 is whole; make room and run the same"):
            tune(recipe, tmp_path / "out")
    resumed = tune(recipe, tmp_path / "out")
    assert_same(weights(resumed), weights(tune(recipe, tmp_path / "whole")))


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_checkpoint_whose_state_is_torn_is_not_whole(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kept: float,
) -> None:
    from transformers import TrainerState

    original = TrainerState.save_to_json

    def torn(self: TrainerState, path: str) -> None:
        original(self, path)
        if self.global_step == 4:
            content = Path(path).read_bytes()
            Path(path).write_bytes(content[: int(len(content) * kept)])
            raise OSError(errno.ENOSPC, "No space left on device")

    recipe, work = make_recipe(epochs=3), tmp_path / "out.work"
    with monkeypatch.context() as patch:
        patch.setattr(TrainerState, "save_to_json", torn)
        with pytest.raises(UserError, match=r"the disk is full .*\. checkpoint-2 is whole; make room and run the same"):
            tune(recipe, tmp_path / "out")
    assert (work / "checkpoint-4" / "trainer_state.json").exists()
    assert last_checkpoint(work) == work / "checkpoint-2"
    resumed = tune(recipe, tmp_path / "out")
    errors = capsys.readouterr().err
    assert f"note: removing {work}/checkpoint-4, which was not written to its end" in errors
    assert f"continuing from {work}/checkpoint-2" in errors
    assert_same(weights(resumed), weights(tune(recipe, tmp_path / "whole")))


def test_a_checkpoint_of_another_step_is_not_whole(tmp_path: Path) -> None:
    for step, content in ((2, '{"global_step": 2}'), (4, '{"global_step": 2}'), (6, "[]"), (8, "\udcff")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "checkpoint-last").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_another_base_under_the_same_name_is_noticed(
    tiny: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    recipe = make_recipe(epochs=2).model_copy(update={"base": str(base)})
    done = tune(recipe, tmp_path / "done")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "begun")
    save_file(
        {name: tensor + 1 for name, tensor in weights(tiny).items()}, base / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=r"done: holds a model of another base\. Choose"):
        tune(recipe, done)
    with pytest.raises(UserError, match=r"begun\.work: holds an unfinished run of another base\. Choose"):
        tune(recipe, tmp_path / "begun")


def test_names_and_places_do_not_make_another_run(
    tiny: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(epochs=1)
    out = tune(recipe, tmp_path / "out")
    rows = tmp_path / "copy.jsonl"
    shutil.copy(str(recipe.data.path), rows)
    shutil.copytree(tiny, tmp_path / "copy")
    moved = recipe.model_copy(
        update={
            "name": "other",
            "summary": "the same",
            "base": str(tmp_path / "copy"),
            "data": recipe.data.model_copy(update={"path": str(rows)}),
        }
    )
    monkeypatch.setattr(runner, "build_trainer", lambda *_: pytest.fail("trained again"))
    assert tune(moved, out) == out
    rows.write_text(rows.read_text().replace("seven minutes", "nine minutes"))
    with pytest.raises(UserError, match="holds a model of another data"):
        tune(moved, out)
    with pytest.raises(UserError, match="holds a model of another recipe"):
        tune(make_recipe(epochs=1, learning_rate=0.02), out)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/x", r"file/x\.work: cannot be made"),
        ("x/..", r"expected the name of a new folder at its end"),
        ("", "expected the name of a new folder at its end"),
        ("dangling", "dangling: exists and is no tuned model of ours"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_training(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.setattr(runner, "build_trainer", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=message):
        tune(make_recipe(), out)
