"""The runner with the real trainer on a tiny model: what is learned, averaged, resumed, refused and written."""

from __future__ import annotations

import errno
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import artefact, runner
from implicit_if.harness.tuning.prepare import prepare
from implicit_if.harness.tuning.recipe import load_recipe, recipe_names
from implicit_if.harness.tuning.runner import build_trainer, last_checkpoint, tune
from implicit_if.harness.tuning.schema import Recipe
from implicit_if.harness.tuning.trainer import NonFiniteLossError, Progress

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning",  # peft reads transformers' old name
    "ignore:.*pin_memory:UserWarning",
)
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Equal sums in equal order, and no fight over cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def losses(folder: Path) -> list[float]:
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def test_the_loss_falls_and_the_model_loads_anywhere(tiny: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    out = tune(make_recipe(epochs=6, batch=2), tmp_path / "out")
    assert len(losses(out)) == 24
    assert sum(losses(out)[-4:]) < 0.9 * sum(losses(out)[:4])
    assert not any(path.suffix in (".bin", ".pt", ".pth", ".pkl") for path in out.iterdir())
    assert not (tmp_path / "out.work").exists()
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o044 for path in out.iterdir())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>\nHi\n<|assistant|>\n"
    assert model.dtype == torch.float32
    assert not all(torch.equal(a, b) for a, b in zip(weights(out).values(), weights(tiny).values(), strict=True))


def test_everything_about_the_model_stands_beside_it(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1, seed=7)
    out = tune(recipe, tmp_path / "out")
    assert load_recipe(out / "recipe.yaml") == recipe
    found = json.loads((out / "tuning.json").read_text())
    prepared = prepare(recipe, recipe.base)
    assert found["identity"] == {"recipe": recipe.fingerprint, "data": prepared.sha256}
    assert found["data"]["conversations_sha256"] == prepared.rows.sha256
    assert found["template"] == {"name": "tulu", "sha256": prepared.template.sha256}
    assert (found["training"]["steps"], found["training"]["device"]) == (2, "cpu")
    assert found["training"]["tokens"] == sum(len(row.input_ids) for row in prepared.encoded)
    card = (out / "README.md").read_text()
    for part in (prepared.rows.sha256, "--tasks alpaca_winrate", "seed 7", "8 (0 multi-turn, 0 cut)", "# small of"):
        assert part in card


def gradient_by_hand(recipe: Recipe, per_example: bool) -> dict[str, torch.Tensor]:
    """The gradient of the first step, from the rows and the model alone, in float64."""
    model = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=torch.float64)
    encoded = prepare(recipe, recipe.base).encoded
    sums, counts = [], []
    for row in encoded:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        targets = torch.tensor(row.labels[1:])
        sums.append(F.cross_entropy(logits, targets, reduction="sum", ignore_index=-100))
        counts.append(int((targets != -100).sum()))
    if per_example:
        loss = sum(s / c for s, c in zip(sums, counts, strict=True)) / len(encoded)
    else:
        loss = sum(sums) / sum(counts)
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("average", ["example", "token"])
@pytest.mark.parametrize("fast", [True, False])
def test_the_loss_is_averaged_as_the_recipe_says(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: str, fast: bool
) -> None:
    # Every row in one step, whose gradient is caught before it is used.
    recipe = make_recipe(epochs=1, batch=8, loss_average=average, clip=1e9)
    monkeypatch.setattr("implicit_if.harness.tuning.head.can_patch", lambda _: fast)
    trainer = build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path)
    assert trainer.head_on_loss_positions == fast
    caught: dict[str, torch.Tensor] = {}

    class Catch(Progress):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            caught.update({name: p.grad.clone() for name, p in model.named_parameters()})

    trainer.add_callback(Catch())
    trainer.train()
    expected = gradient_by_hand(recipe, average == "example")
    other = gradient_by_hand(recipe, average != "example")
    for name, gradient in expected.items():
        torch.testing.assert_close(caught[name].double(), gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert any(not torch.allclose(expected[name], other[name], rtol=0.05) for name in expected)


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Progress.on_log

    def on_log(self: Progress, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        original(self, args, state, control, logs, **kwargs)
        if state.global_step == step:
            raise Interrupted

    monkeypatch.setattr(Progress, "on_log", on_log)


@pytest.mark.parametrize(
    ("step", "save_steps", "train"),
    [
        (3, None, {}),  # in the middle of the second epoch, two steps an epoch
        (5, 3, {}),  # from a checkpoint in the middle of an epoch
        (3, None, {"lora": {"r": 4, "dropout": 0.1}, "save_dtype": "float32"}),
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


def test_what_is_finished_is_not_done_again(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(epochs=1)
    # Killed after the last checkpoint, before the model was written.
    with monkeypatch.context() as patch:
        patch.setattr(artefact, "save", lambda *_: (_ for _ in ()).throw(Interrupted()))
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "out")
    out = tune(recipe, tmp_path / "out")
    before = weights(out)
    assert "continuing from" in capsys.readouterr().err
    monkeypatch.setattr(runner, "build_trainer", lambda *_: pytest.fail("trained again"))
    tune(recipe, out)
    assert "is already tuned" in capsys.readouterr().err
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
    with pytest.raises(UserError, match="holds an unfinished run of another recipe"):
        tune(make_recipe(epochs=2, seed=1), tmp_path / "out")


def test_two_processes_do_not_tune_into_one_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from implicit_if.harness.files import locked

    with locked(tmp_path / "out.work" / "run"), pytest.raises(UserError, match="another process is tuning there"):
        tune(make_recipe(), tmp_path / "out")


def test_a_loss_that_is_no_number_stops_and_names_the_row(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(epochs=3)
    prepared = prepare(recipe, recipe.base)
    poisoned = prepared.encoded[5].input_ids
    from implicit_if.harness.tuning.trainer import RecipeTrainer

    original = RecipeTrainer._loss_on_positions

    def poison(self: RecipeTrainer, model: Any, inputs: Any, items: Any) -> torch.Tensor:
        loss = original(self, model, inputs, items)
        bad = self.state.global_step >= 2 and inputs["input_ids"][0].tolist() == poisoned
        return loss * float("nan") if bad else loss

    monkeypatch.setattr(RecipeTrainer, "_loss_on_positions", poison)
    with pytest.raises(NonFiniteLossError, match=r"step [34]: the loss is nan.* row 5\. Nothing of this"):
        tune(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    checkpoint = last_checkpoint(tmp_path / "out.work")
    assert checkpoint is not None
    assert all(torch.isfinite(tensor).all() for tensor in weights(checkpoint).values())
    monkeypatch.undo()
    tune(recipe, tmp_path / "out")


def test_a_gradient_that_is_no_number_stops_before_it_is_saved(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    original = Trainer.training_step

    def spoil(self: Any, model: Any, inputs: Any, items: Any = None) -> torch.Tensor:
        loss = original(self, model, inputs, items)
        if self.state.global_step == 1:
            next(model.parameters()).grad[0] = float("inf")
        return loss

    monkeypatch.setattr(Trainer, "training_step", spoil)
    with pytest.raises(NonFiniteLossError, match=r"step 2: the gradient's norm is (inf|nan).* and|row \d"):
        tune(make_recipe(epochs=1), tmp_path / "out")
    assert last_checkpoint(tmp_path / "out.work") is None


def test_a_full_disk_leaves_the_last_checkpoint(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from implicit_if.harness.tuning.trainer import RecipeTrainer

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


def test_lora_is_merged(tiny: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=2, lora={"r": 4, "alpha": 8}, weights="bfloat16", save_dtype="float32")
    out = tune(recipe, tmp_path / "out")
    merged, base = weights(out), weights(tiny)
    assert merged.keys() == base.keys()
    changed = {name for name in merged if not torch.equal(merged[name], base[name].bfloat16().float())}
    assert changed
    assert all("_proj" in name for name in changed)
    for name in changed:
        rank = torch.linalg.matrix_rank(merged[name] - base[name].bfloat16().float(), atol=1e-6)
        assert 1 <= rank <= 4, name
    assert "LoRA r=4, merged" in (out / "README.md").read_text()


def test_weights_are_saved_in_the_type_asked_for(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    out = tune(make_recipe(epochs=1, save_dtype="bfloat16"), tmp_path / "out")
    assert {tensor.dtype for tensor in weights(out).values()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_gradient_checkpointing_and_token_batches_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1, micro_batch=2, loss_average="token", gradient_checkpointing=True, batch=8)
    plain = make_recipe(epochs=1, micro_batch=1, loss_average="token", batch=8)
    left, right = tune(recipe, tmp_path / "a"), tune(plain, tmp_path / "b")
    for name, tensor in weights(left).items():
        torch.testing.assert_close(tensor, weights(right)[name], rtol=1e-3, atol=1e-4, msg=name)


def test_the_seed_orders_the_rows(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first, again, other = (
        tune(make_recipe(seed=seed), tmp_path / name) for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert_same(weights(first), weights(again))
    assert losses(first) == losses(again) != losses(other)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_runs_one_step(name: str, tiny: Path, tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "lima": [{"conversations": ["Say hello to a friend", "Good morning.", "Again", "Hi."]}],
        "gsm8k": [{"question": "2+2?", "answer": "#### 4"}],
        "mbpp": [{"text": "Add.", "code": "a + b"}],
        "kaggle_food_recipes": [{"Title": "Tea", "Cleaned_Ingredients": "['leaves']", "Instructions": "Pour."}],
        "poetry": [{"poem name": "Dusk", "content": "It falls."}],
        "chess": [{"text": line} for line in ('[WhiteElo "1"]', '[BlackElo "2"]', "1. e4 1-0")],
    }
    for profile in ("llama2-7b/reference", "llama2-7b/paper", "gemma-3-270m/embedded"):
        overrides = ["train.max_steps=1", "train.epochs=1", "train.batch=1", "train.autocast=false"]
        if name not in ("response", "instruction") and profile.startswith("llama2"):
            continue  # the profiles are the same for all recipes; two of them are enough
        recipe = load_recipe(name, overrides, base=str(tiny), profile=profile)
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[recipe.data.source]))
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(path)})})
        out = tune(recipe, tmp_path / profile.replace("/", "-"))
        assert len(losses(out)) == 1
        assert (out / "rephrasing.jsonl").exists() == (name == "response_no_rephrasing")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"batch": 5, "micro_batch": 2, "loss_average": "token"}, r"expected a multiple .* 2 x 1. Set train.batch=6"),
        ({"optimizer": "adamw_torch_8bit"}, "needs torchao, which is not installed. Run `pip install torchao`"),
        ({"optimizer": "adamw_bnb_8bit"}, "needs bitsandbytes"),
        ({"attention": "flash_attention_2"}, "needs flash-attn"),
        ({"report_to": "trackio"}, "needs trackio"),
        ({"report_to": "wandb"}, "needs wandb"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_loads(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any, message: str
) -> None:
    find = runner.check_train.__globals__["importlib"].util.find_spec
    optional = ("torchao", "bitsandbytes", "flash_attn", "trackio", "wandb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in optional else find(name, *rest))
    monkeypatch.setattr(runner, "prepare", lambda *_: pytest.fail("rows were read"))
    with pytest.raises(UserError, match=message):
        tune(make_recipe(**train), tmp_path / "out")
    assert not (tmp_path / "out.work").exists()
