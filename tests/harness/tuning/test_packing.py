"""Rows that share a sequence: no row sees another, so loss and gradient are those of the rows alone."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
)
from tuning_runs import gradient_by_hand, gradient_of_last_step, losses, weights

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import row_attention
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.dry_run import preview
from implicit_if.harness.tuning.preflight import check_model
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.runner import build_trainer, tune

MakeRecipe = Callable[..., Recipe]
WAYS = [("packed", 1), ("packed", 2), ("padding_free", 4)]
SMALL: dict[str, Any] = {"vocab_size": 400, "hidden_size": 16}


@pytest.fixture(scope="module")
def gemma(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3, which attends to a window of eight tokens in every other layer."""
    folder = tmp_path_factory.mktemp("gemma")
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        **SMALL,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        eos_token_id=0,
        bos_token_id=1,
        pad_token_id=0,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


def whole_set(make_recipe: MakeRecipe, loss_average: str = "token", **train: Any) -> Recipe:
    """Every row in one step."""
    return make_recipe(epochs=1, batch=8, loss_average=loss_average, clip=1e9, **train)


@pytest.mark.parametrize("average", ["token", "example"])
@pytest.mark.parametrize("attention", [None, "sdpa", "eager"])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("packing", "micro_batch"), WAYS)
def test_rows_do_not_see_each_other(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packing: str,
    micro_batch: int,
    fast: bool,
    attention: str | None,
    average: str,
) -> None:
    monkeypatch.setattr("implicit_if.harness.tuning.cpu_loss.can_patch", lambda _: fast)
    recipe = whole_set(make_recipe, average, packing=packing, micro_batch=micro_batch, attention=attention)
    prepared = prepare(recipe, recipe.base)
    trainer = build_trainer(prepared, recipe.base, tmp_path)
    assert (trainer.model.config._attn_implementation == row_attention.NAME) == (attention is None)
    batches = list(trainer.get_train_dataloader())
    assert len(batches) < len(prepared.encoded)  # rows were joined
    assert all(len(batch["input_ids"]) == 1 for batch in batches)
    trained = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
    assert trained == sum(row.loss_tokens for row in prepared.encoded)
    gradient = gradient_of_last_step(trainer)
    for name, expected in gradient_by_hand(recipe, per_example=average == "example").items():
        torch.testing.assert_close(gradient[name].double(), expected, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("micro_batch", [2, 8])
def test_padded_rows_keep_their_weight(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int, fast: bool
) -> None:
    monkeypatch.setattr("implicit_if.harness.tuning.cpu_loss.can_patch", lambda _: fast)
    recipe = whole_set(make_recipe, "example", micro_batch=micro_batch)
    gradient = gradient_of_last_step(build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path))
    for name, expected in gradient_by_hand(recipe, per_example=True).items():
        torch.testing.assert_close(gradient[name].double(), expected, rtol=1e-4, atol=1e-7, msg=name)


def test_joined_rows_train_the_same_model_step_by_step(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    # Steps of 3 rows, of which the last of an epoch has 2, in passes of 2 and 1.
    apart = tune(make_recipe(epochs=3, batch=3), tmp_path / "apart")
    joined = tune(make_recipe(epochs=3, batch=3, micro_batch=3, packing="padding_free"), tmp_path / "joined")
    assert losses(joined) == pytest.approx(losses(apart), rel=2e-5)
    for name, tensor in weights(joined).items():
        torch.testing.assert_close(tensor, weights(apart)[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("window", [None, 3, 5, 100])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention_by_row_equals_a_softmax_over_what_may_be_seen(window: int | None, heads: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(3)
    ends, (queries, keys), d = [0, 1, 8, 12], heads, 6
    q, k, v = (torch.randn(1, n, ends[-1], d, generator=random, dtype=torch.float64) for n in (queries, keys, keys))
    layer = torch.nn.Module()
    layer.num_key_value_groups = queries // keys
    found, _ = row_attention.attend(
        layer, q, k, v, None, cu_seq_lens_q=torch.tensor(ends), sliding_window=window, scaling=0.5
    )
    for head in range(queries):
        for n in range(ends[-1]):
            start = max(end for end in ends if end <= n)
            seen = range(max(start, n + 1 - (window or n + 1)), n + 1)
            keyed = head // layer.num_key_value_groups
            scores = torch.stack([0.5 * q[0, head, n] @ k[0, keyed, m] for m in seen]).softmax(0)
            expected = sum(p * v[0, keyed, m] for p, m in zip(scores, seen, strict=True))
            torch.testing.assert_close(found[0, n, head], expected)


@pytest.mark.parametrize(("packing", "micro_batch"), WAYS)
@pytest.mark.parametrize("checkpointing", [True, False])
def test_windows_of_attention_end_at_a_row(
    make_recipe: MakeRecipe, gemma: Path, tmp_path: Path, packing: str, micro_batch: int, checkpointing: bool
) -> None:
    recipe = whole_set(
        make_recipe, packing=packing, micro_batch=micro_batch, gradient_checkpointing=checkpointing
    ).model_copy(update={"base": str(gemma)})
    gradient = gradient_of_last_step(build_trainer(prepare(recipe, gemma), str(gemma), tmp_path))
    for name, expected in gradient_by_hand(recipe, per_example=False).items():
        torch.testing.assert_close(gradient[name].double(), expected, rtol=1e-3, atol=1e-6, msg=name)


def test_without_positions_rows_would_see_each_other(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """What the tests above can tell apart."""
    recipe = whole_set(make_recipe, packing="padding_free", micro_batch=8)
    batch = next(iter(build_trainer(prepare(recipe, recipe.base), recipe.base, tmp_path).get_train_dataloader()))
    model = AutoModelForCausalLM.from_pretrained(recipe.base)
    apart = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    mixed = model(input_ids=batch["input_ids"], use_cache=False).logits
    assert not torch.allclose(apart, mixed, rtol=1e-2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BloomForCausalLM(BloomConfig(**SMALL, n_layer=1, n_head=2)), "BloomForCausalLM takes no position_ids"),
        (
            MambaForCausalLM(MambaConfig(**SMALL, num_hidden_layers=1)),
            "MambaForCausalLM (takes no position_ids|keeps a state)",
        ),
    ],
)
def test_models_that_cannot_tell_rows_apart(make_recipe: MakeRecipe, tmp_path: Path, model: Any, message: str) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    train = whole_set(make_recipe, packing="padding_free").train
    with pytest.raises(UserError, match=message):
        check_model(tmp_path, None, train)
    check_model(tmp_path, None, train.model_copy(update={"packing": "none"}))


@pytest.mark.parametrize("train", [{}, {"packing": "packed"}, {"packing": "padding_free"}, {"max_steps": 1}])
def test_the_dry_run_counts_the_steps(make_recipe: MakeRecipe, tmp_path: Path, train: dict[str, Any]) -> None:
    recipe = make_recipe(epochs=3, batch=2, loss_average="token", **train)
    prepared = prepare(recipe, recipe.base)
    out = io.StringIO()
    preview(prepared, out)
    line = next(line for line in out.getvalue().splitlines() if line.startswith("training: "))
    trainer = build_trainer(prepared, recipe.base, tmp_path)
    trainer.train()
    assert f"{trainer.state.global_step} steps of 2 " in line
    assert ("epochs" in line) == ("max_steps" not in train)
    assert ("packs" in line) == (train.get("packing") == "packed")
