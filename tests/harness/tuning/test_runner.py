"""The runner with the real trainer on a tiny model: what is learned, averaged, resumed, refused and written."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from tuning_runs import assert_same, gradient_by_hand, gradient_of_last_step, losses, weights

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import runner, saved_model
from implicit_if.harness.tuning.base_model import Base, weights_identity
from implicit_if.harness.tuning.checkpoints import last_checkpoint
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.preflight import without_known_warnings
from implicit_if.harness.tuning.recipe import load_recipe, recipe_names
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import build_trainer, tune
from implicit_if.harness.tuning.trainer import NonFiniteLossError

MakeRecipe = Callable[..., Recipe]


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
    assert text == "<bos><|user|>\nHi\n<|assistant|>\n"
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert prompt["input_ids"] == tokenizer("<|user|>\nHi\n<|assistant|>\n").input_ids  # as it was trained
    assert model.dtype == torch.float32
    assert not all(torch.equal(a, b) for a, b in zip(weights(out).values(), weights(tiny).values(), strict=True))


def test_everything_about_the_model_stands_beside_it(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1, seed=7)
    out = tune(recipe, tmp_path / "out")
    assert load_recipe(out / "recipe.yaml") == recipe
    found = json.loads((out / "tuning.json").read_text())
    prepared = prepare(recipe, recipe.base)
    assert found["identity"] == {
        "recipe": recipe.fingerprint,
        "seed": "7",
        "data": prepared.sha256,
        "base": weights_identity(Base("", recipe.base), None),
    }
    assert found["data"]["conversations_sha256"] == prepared.rows.sha256
    assert found["template"] == {"name": "tulu", "sha256": prepared.template.sha256}
    assert (found["training"]["steps"], found["training"]["device"]) == (2, "cpu")
    assert found["training"]["tokens"] == sum(len(row.input_ids) for row in prepared.encoded)
    card = (out / "README.md").read_text()
    for part in (prepared.rows.sha256, "--tasks alpaca_winrate", "seed 7", "8 (0 multi-turn, 0 cut)", "# small of"):
        assert part in card


@pytest.mark.parametrize("average", ["example", "token"])
@pytest.mark.parametrize("fast", [True, False])
def test_the_loss_is_averaged_as_the_recipe_says(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: str, fast: bool
) -> None:
    # Every row in one step, whose gradient is caught before it is used.
    recipe = make_recipe(epochs=1, batch=8, loss_average=average, clip=1e9)
    monkeypatch.setattr("implicit_if.harness.tuning.cpu_loss.can_patch", lambda _: fast)
    trainer = build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path)
    assert trainer.head_on_loss_positions == fast
    caught = gradient_of_last_step(trainer)
    expected = gradient_by_hand(recipe, average == "example")
    other = gradient_by_hand(recipe, average != "example")
    for name, gradient in expected.items():
        torch.testing.assert_close(caught[name].double(), gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert any(not torch.allclose(expected[name], other[name], rtol=0.05) for name in expected)


def test_a_loss_that_is_no_number_stops_and_names_the_row(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(epochs=3)
    prepared = prepare(recipe, recipe.base)
    poisoned = prepared.encoded[5].input_ids
    from implicit_if.harness.tuning.trainer import RecipeTrainer

    original = RecipeTrainer._own_loss

    def poison(self: RecipeTrainer, model: Any, inputs: Any, items: Any) -> torch.Tensor:
        loss = original(self, model, inputs, items)
        bad = self.state.global_step >= 2 and inputs["input_ids"][0].tolist() == poisoned
        return loss * float("nan") if bad else loss

    monkeypatch.setattr(RecipeTrainer, "_own_loss", poison)
    with pytest.raises(NonFiniteLossError, match=r"step [34]: the loss is nan.* line 6\. Nothing of this"):
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


@pytest.mark.parametrize("targets", [["embed_tokens"], ["embed_tokens", "v_proj"], ["q_proj"]])
def test_the_saved_model_computes_what_was_trained(
    tiny: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: list[str]
) -> None:
    seen: list[torch.Tensor] = []
    original = saved_model.save

    def save(trainer: Any, prepared: Any, *rest: Any) -> None:
        trainer.model.eval()
        seen.append(trainer.model(input_ids=torch.tensor([prepared.encoded[3].input_ids])).logits.detach())
        original(trainer, prepared, *rest)

    monkeypatch.setattr(saved_model, "save", save)
    recipe = make_recipe(epochs=2, learning_rate=0.1, lora={"r": 4, "targets": targets})
    out = tune(recipe, tmp_path / "out")
    row = prepare(recipe, recipe.base).encoded[3].input_ids
    saved = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(saved(input_ids=torch.tensor([row])).logits, seen[0], rtol=1e-3, atol=1e-4)
    assert saved.config.tie_word_embeddings == (targets == ["q_proj"])
    assert json.loads((out / "tuning.json").read_text())["training"]["saved_difference"] < 1e-3


def test_a_model_that_was_saved_wrong_is_not_finished(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = saved_model._whole_model

    def spoiled(*arguments: Any) -> Any:
        model = original(*arguments)
        with torch.no_grad():
            model.get_input_embeddings().weight[:] += torch.randn_like(model.get_input_embeddings().weight)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "_whole_model", spoiled)
        with pytest.raises(UserError, match=r"the saved model's logits differ from the trained model's by \d+%"):
            tune(make_recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert last_checkpoint(tmp_path / "out.work") is not None
    tune(make_recipe(), tmp_path / "out")


@pytest.mark.parametrize(
    "train", [{}, {"lora": {"r": 2}}, {"packing": "packed"}, {"packing": "padding_free", "micro_batch": 2}]
)
def test_held_out_rows_are_not_trained_on_and_their_loss_is_told(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], train: Any
) -> None:
    recipe = make_recipe(epochs=2, batch=2, **train)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"held_out": 2})})
    prepared = prepare(recipe, recipe.base)
    assert [row.where.rpartition(", ")[2] for row in prepared.held_out] == ["line 3", "line 7"]
    assert [row.where.rpartition(", ")[2] for row in prepared.encoded] == [f"line {n}" for n in (1, 2, 4, 5, 6, 8)]
    out = tune(recipe, tmp_path / "out")
    training = json.loads((out / "tuning.json").read_text())["training"]
    model = AutoModelForCausalLM.from_pretrained(out)
    by_hand = [
        model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss.item()
        for row in prepared.held_out
    ]
    assert training["held_out_loss"] == pytest.approx(sum(by_hand) / 2, rel=1e-3)
    assert "held-out loss after epoch 1.00: " in capsys.readouterr().err
    assert (
        f"| held-out loss | {training['held_out_loss']:.4f} of 2 rows at the end |" in (out / "README.md").read_text()
    )


def test_more_rows_than_there_are_cannot_be_held_out(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"held_out": 8})})
    with pytest.raises(UserError, match=r"data\.held_out is 8, expected fewer than the 8 rows"):
        prepare(recipe, recipe.base)


def test_adapters_that_are_not_merged_load_as_the_model(tiny: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    adapters = {"r": 4, "alpha": 8}
    out = tune(make_recipe(epochs=2, lora={**adapters, "merge": False}), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tune(make_recipe(epochs=2, lora=adapters), tmp_path / "merged"))
    assert not (out / "model.safetensors").exists()
    assert all("lora_" in name for name in load_file(out / "adapter_model.safetensors"))
    assert json.loads((out / "tuning.json").read_text())["training"]["saved_difference"] < 1e-5
    card = (out / "README.md").read_text()
    assert "LoRA r=4, not merged" in card
    assert f"pretrained={tiny.name},peft=<this folder>,tokenizer=<this folder> " in card
    ids = torch.tensor([prepare(make_recipe(), tiny).encoded[0].input_ids])
    loaded = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(loaded(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(tiny)
    assert not torch.allclose(loaded(input_ids=ids).logits, base(input_ids=ids).logits, rtol=1e-2)
    with without_known_warnings():
        by_hand = PeftModel.from_pretrained(base, str(out))  # what lm_eval's peft=<folder> does
    torch.testing.assert_close(by_hand(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


def test_quantized_weights_are_asked_of_bitsandbytes(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than what is asked for: the quantization itself needs bitsandbytes."""
    recipe = make_recipe(lora={"r": 4}, weights="bfloat16", quantize="nf4")
    found = runner.quantization_config(recipe.train)
    assert (found.load_in_4bit, found.bnb_4bit_quant_type, found.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert found.bnb_4bit_compute_dtype == torch.bfloat16
    assert runner.quantization_config(make_recipe(lora={"r": 4}).train) is None
    caught: dict[str, Any] = {}
    monkeypatch.setattr("implicit_if.harness.tuning.trainer.RecipeTrainer", lambda **kwargs: caught.update(kwargs))
    with pytest.raises(AttributeError):  # what stands for the trainer has no callbacks
        build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path)
    assert caught["quantization_config"].load_in_4bit


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


def test_steps_may_go_on_across_epochs(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    lima = make_recipe(epochs=15, batch=64).train
    across = lima.model_copy(update={"steps_across_epochs": True})
    assert (lima.steps(1030), across.steps(1030)) == (255, 241)
    recipe = make_recipe(epochs=3, batch=5, steps_across_epochs=True, learning_rate=1e-9)
    prepared = prepare(recipe, recipe.base)
    seen: list[tuple[int, ...]] = []
    trainer = build_trainer(prepared, recipe.base, tmp_path / "work")
    original = trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, *rest, **options: (  # type: ignore[method-assign]
        seen.append(tuple(inputs["input_ids"][0].tolist())) or original(model, inputs, *rest, **options)
    )
    trainer.train()
    assert trainer.state.global_step == 4  # 24 rows make four steps of 5; the last 4 rows make none
    rows = sorted(tuple(row.input_ids) for row in prepared.encoded)
    assert sorted(seen[:8]) == sorted(seen[8:16]) == rows
    assert len(set(seen[16:20])) == 4
    assert seen[:8] != seen[8:16]
    with pytest.raises(ValueError, match="steps_across_epochs counts rows"):
        make_recipe(steps_across_epochs=True, packing="packed")


def test_gradients_may_be_summed_in_bfloat16(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    caught = {
        kind: gradient_of_last_step(build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path / kind))
        for kind in ("float32", "bfloat16")
        if (recipe := make_recipe(epochs=1, batch=8, clip=1e9, gradients=kind))
    }
    for name, rounded in caught["bfloat16"].items():
        assert torch.equal(rounded, rounded.bfloat16().float())
        torch.testing.assert_close(rounded, caught["float32"][name], rtol=0.05, atol=1e-3)
    assert any(not torch.equal(g, g.bfloat16().float()) for g in caught["float32"].values())


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
        "gsm": [{"question": "2+2?", "answer": "#### 4"}],
        "mbpp": [{"text": "Add.", "code": "a + b"}],
        "recipes": [{"Title": "Tea", "Cleaned_Ingredients": "['leaves']", "Instructions": "Pour."}],
        "poetry": [{"poem name": "Dusk", "content": "It falls."}],
        "chess": [{"text": line} for line in ('[WhiteElo "1"]', '[BlackElo "2"]', "1. e4 1-0")],
    }
    for profile in ("llama2-7b/reference", "llama2-7b/paper", "gemma-3-270m/embedded"):
        overrides = ["train.max_steps=1", "train.epochs=1", "train.batch=1", "train.autocast=false"]
        overrides += [
            "train.warmup=0",
            "train.save_dtype=float32",
            "train.micro_batch=1",
        ]  # a warm-up's first step changes nothing
        if name not in ("response", "instruction") and profile.startswith("llama2"):
            continue  # the profiles are the same for all recipes; two of them are enough
        recipe = load_recipe(name, overrides, base=str(tiny), profile=profile)
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.get(name, rows["lima"])))
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(path)})})
        out = tune(recipe, tmp_path / profile.replace("/", "-"))
        assert len(losses(out)) == 1
        assert math.isfinite(losses(out)[0])
        kind = getattr(torch, load_recipe(out / "recipe.yaml").train.weights)
        before = {name: t.to(kind).float() for name, t in weights(tiny).items()}
        assert any(not torch.equal(before[name], tensor) for name, tensor in weights(out).items())
        assert (out / "rephrasing.jsonl").exists() == (name == "response_no_rephrasing")


def test_a_run_of_one_warm_up_step_says_that_it_learns_nothing(
    tiny: Path, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tune(make_recipe(max_steps=1, warmup=0.03), tmp_path / "warm")
    assert_same(weights(out), weights(tiny))
    assert "learning rate is 0: no weight will change. Set train.warmup=0" in capsys.readouterr().err
    for name, train in (("cold", {"warmup": 0.0}), ("flat", {"warmup": 0.03, "schedule": "constant"})):
        tune(make_recipe(max_steps=1, **train), tmp_path / name)
        assert "no weight will change" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"batch": 5, "micro_batch": 2, "loss_average": "token"}, r"expected a multiple .* 2 x 1. Set train.batch=6"),
        ({"optimizer": "adamw_torch_8bit"}, "needs torchao, which is not installed. Run `pip install torchao`"),
        ({"optimizer": "adamw_bnb_8bit"}, "needs bitsandbytes"),
        ({"quantize": "nf4", "lora": {}}, "train.quantize=nf4 needs bitsandbytes"),
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
