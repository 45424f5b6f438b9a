"""What is refused before a model loads."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.prepare import prepare
from implicit_if.harness.tuning.preflight import check_model, without_known_warnings
from implicit_if.harness.tuning.recipe_schema import Recipe

MakeRecipe = Callable[..., Recipe]


def test_weights_that_are_no_safetensors(make_recipe: MakeRecipe, tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    train = make_recipe().train
    check_model(base, None, train)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no model\.safetensors \(found pytorch_model\.bin\)"):
        prepare(make_recipe(), base)
    (base / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"found no weights"):
        check_model(base, None, train)


def test_weights_in_parts(make_recipe: MakeRecipe, tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    train = make_recipe().train
    part = base / "model-00001-of-00001.safetensors"
    (base / "model.safetensors").rename(part)
    index = base / "model.safetensors.index.json"
    tensors = load_file(part)
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, part.name)}))
    check_model(base, None, train)
    tensors.pop("model.norm.weight")
    save_file(tensors, part, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights .* model\.norm\.weight"):
        check_model(base, None, train)
    part.unlink()
    with pytest.raises(UserError, match=f"{part.name} missing"):
        check_model(base, None, train)
    index.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        check_model(base, None, train)


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("model.safetensors", 0, r"no whole safetensors file"),
        ("model.safetensors", 7, r"no whole safetensors file"),
        ("model.safetensors", 500, r"no whole safetensors file"),
        ("model.safetensors", -1, r"holds \d+ bytes, expected \d+"),
        ("config.json", -9, r"config\.json: not JSON"),
        ("tokenizer.json", -9, r"its tokenizer cannot be loaded"),
    ],
)
def test_a_base_that_was_cut_off(
    make_recipe: MakeRecipe, tiny: Path, tmp_path: Path, name: str, kept: int, message: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / name).write_bytes((base / name).read_bytes()[:kept])
    with pytest.raises(UserError, match=message):
        prepare(make_recipe(), base)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.layers.1.mlp.up_proj.weight", None, "lacks 1 weights .* e.g. model.layers.1.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", None, "lacks"),
        ("model.norm.weight", (3,), "do not load as config.json says"),
    ],
)
def test_a_base_whose_weights_are_not_its_configuration_s(
    tiny: Path, tmp_path: Path, make_recipe: MakeRecipe, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    tensors = load_file(base / "model.safetensors")
    del tensors[name]
    if shape is not None:
        tensors[name] = torch.zeros(shape)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=message):
        prepare(make_recipe(), base)


def test_a_base_without_a_tokenizer(make_recipe: MakeRecipe, tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UserError, match=r"holds no tokenizer\. Copy its tokenizer\.json"):
        prepare(make_recipe(), base)
    for kind in ("LlamaTokenizer", "GPT2Tokenizer"):
        (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "eos_token": "<eos>"}))
        with pytest.raises(UserError, match="takes every text for|cannot be loaded"):
            prepare(make_recipe(), base)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"attention": "sdap"}, "unknown train.attention 'sdap'. Did you mean 'sdpa'"),
        ({"lora": {"targets": ["q_proj", "v_porj"]}}, "unknown train.lora.targets 'v_porj'. Did you mean 'v_proj'"),
        ({"lora": {"targets": "nosuch.*"}}, "unknown train.lora.targets 'nosuch"),
        ({"lora": {"targets": ["lm_head", "q_proj"]}}, "includes the language-model head"),
        ({"lora": {"targets": "("}}, "no regular expression"),
        ({"lora": {"targets": ["input_layernorm"]}}, "not supported.* Expected some of: down_proj"),
    ],
)
def test_names_that_the_model_does_not_have(
    make_recipe: MakeRecipe, tiny: Path, train: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        prepare(make_recipe(**train), tiny)


@pytest.mark.parametrize(
    "train",
    [
        {"attention": "sdpa"},
        {"attention": "eager"},
        {"attention": "flash_attention_2"},
        {"attention": "kernels-community/flash-attn2"},
        {"lora": {"targets": ["q_proj", "self_attn.v_proj"]}},
        {"lora": {"targets": r".*layers\.0\..*_proj"}},
        {"lora": {}},
    ],
)
def test_names_that_it_has(make_recipe: MakeRecipe, tiny: Path, train: dict[str, Any]) -> None:
    check_model(tiny, None, make_recipe(**train).train)


def test_log_lines_of_libraries_that_are_taken_care_of(tmp_path: Path) -> None:
    from transformers import trainer_utils

    library: Any = trainer_utils
    for name in ("checkpoint-1", "checkpoint-2"):
        (tmp_path / name).mkdir()
    logger = library.logger
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    def lines() -> list[str]:
        records.clear()
        type(logger).warning_once.cache_clear()
        library.sort_checkpoints(tmp_path, use_mtime=True)
        given = SimpleNamespace(save_steps=50, per_device_train_batch_size=1, n_gpu=0)
        library.compare_trainer_and_checkpoint_args(given, SimpleNamespace(save_steps=400, train_batch_size=1))
        logger.warning("another line")
        return [record.getMessage() for record in records]

    try:
        with without_known_warnings():
            with without_known_warnings():
                assert lines() == ["another line"]
            assert lines() == ["another line"]
        mtime, differing, _ = lines()
        assert mtime.startswith("mtime may not")
        assert "save_steps: 50" in differing
    finally:
        logger.removeHandler(handler)
