"""With several models alive in one process, as in a notebook, every answer is its own model's."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file

from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Generation
from implicit_if.model_wrappers.rules.presets import customise, load_preset
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.model_wrappers.urial import Urial

INSTRUCTIONS = ["Name three fruits.", "Why?"]
PRESET = """
name: no-hello
source: a test
rules:
  eos: {function: eos_ramp}
  greeting: {function: token_bias, weights: [{weight: -4, strings: ["!"]}]}
"""


@pytest.fixture
def urial(closing_folder: str, tmp_path: Path) -> Urial:
    prefix = tmp_path / "short.yaml"
    prefix.write_text("name: short\nprefix: ''\nquery: 'Q: {instruction} A:'\nend: ['##']\n")
    return Urial(closing_folder, prefix=str(prefix), dtype="float32", device="cpu", batch_size=4)


@pytest.fixture
def closing_folder(tiny_model_folder: str) -> str:
    return tiny_model_folder


def rules_poe(folder: str, **kwargs: Any) -> RulesPoE:
    return RulesPoE(folder, dtype="float32", device="cpu", batch_size=4, **kwargs)


def data_of(name: str, without: list[str], changes: dict[str, Any]) -> dict[str, Any]:
    digest = customise(load_preset(name), "+".join(without), changes).sha256
    return {"kind": "rules", "preset": name, "without": without, "changes": changes, "sha256": digest}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    instructions, reference = tmp_path / "questions.jsonl", tmp_path / "reference.json"
    instructions.write_text("".join(json.dumps({"instruction": i}) + "\n" for i in INSTRUCTIONS))
    rows = [{"instruction": i, "output": "x" * 30, "generator": "thirty"} for i in INSTRUCTIONS]
    reference.write_text(json.dumps(rows))
    return {"judge": "longest", "instructions": str(instructions), "reference": str(reference)}


def evaluate(model: Any, metadata: dict[str, str]) -> dict[str, Any]:
    return dict(
        simple_evaluate(
            model=model,
            tasks=["alpaca_winrate"],
            gen_kwargs={"max_gen_toks": 4},
            metadata=metadata,
            log_samples=True,
            bootstrap_iters=0,
        )
    )


def generators(results: dict[str, Any]) -> set[str]:
    return {sample["doc"]["output"]["generator"] for sample in results["samples"]["alpaca_winrate"]}


def prompts(results: dict[str, Any]) -> list[str]:
    return [sample["arguments"][0][0] for sample in results["samples"]["alpaca_winrate"]]


def test_each_of_two_wrappers_is_named_by_its_own_answers(tiny_model_folder: str, settings: dict[str, str]) -> None:
    first, second = rules_poe(tiny_model_folder), rules_poe(tiny_model_folder, drop="eos")
    assert generators(evaluate(first, settings)) == {first.product_name}
    assert generators(evaluate(second, settings)) == {second.product_name}
    assert first.product_name != second.product_name


def test_hf_beside_a_live_urial_is_neither_named_nor_asked_like_it(
    tiny_model_folder: str, urial: Urial, settings: dict[str, str], tmp_path: Path
) -> None:
    plain: Any = HFLM(tiny_model_folder, dtype="float32", device="cpu", batch_size=4)
    results = evaluate(plain, settings | {"save": str(tmp_path / "saved")})
    assert generators(results) == {"model"}
    assert all(prompt.startswith("<|user|>\n") for prompt in prompts(results))
    assert results["configs"]["alpaca_winrate"]["metadata"]["bare_instructions"] is False
    meta = json.loads((tmp_path / "saved" / "outputs.meta.json").read_text())
    assert meta["model"] == {}
    assert prompts(evaluate(urial, settings)) == INSTRUCTIONS


def test_urial_beside_a_younger_wrapper_gets_bare_instructions(
    tiny_model_folder: str, urial: Urial, settings: dict[str, str]
) -> None:
    younger = rules_poe(tiny_model_folder)
    results = evaluate(urial, settings)
    assert prompts(results) == INSTRUCTIONS
    assert generators(results) == {urial.product_name}
    assert prompts(evaluate(younger, settings))[0].startswith("<|user|>\n")


def test_an_answer_carries_who_made_it_also_from_memory_and_in_a_copy(tiny_model_folder: str) -> None:
    model = rules_poe(tiny_model_folder)
    for _ in range(2):  # the second time the base model's answers are remembered ones
        own, base = (
            model.generate_until(
                [Instance("generate_until", {}, ("x", {"max_gen_toks": 4, "rules": rules}), 0)], disable_tqdm=True
            )[0]
            for rules in ("reference", "none")
        )
        assert isinstance(own, Generation)
        assert isinstance(base, Generation)
        assert own.maker is not None
        assert base.maker is not None
        assert own.maker.name.startswith("rules:reference@")
        assert own.maker.model["system"] == data_of("reference", [], {})
        assert base.maker.model["system"] == {"kind": "base"}
        assert base.maker.model["model_identity"] == model.base_identity
    assert copy.deepcopy(own).maker == own.maker


def test_a_presets_hyphens_are_part_of_its_name(tiny_model_folder: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(PRESET)
    system = rules_poe(tiny_model_folder, rules=str(path), drop="eos").get_model_info()["system"]
    hashes = system.pop("sha256"), data_of("paper", [], {})["sha256"]
    assert system == {"kind": "rules", "preset": "no-hello", "without": ["eos"], "changes": {}}
    assert hashes[0] != hashes[1]
    changed = rules_poe(tiny_model_folder, **{"eos.maximum": 10}).get_model_info()["system"]
    assert changed == data_of("paper", [], {"eos.maximum": 10})


def changed_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")


def changed_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def changed_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("change", [changed_tokenizer, changed_template, changed_weights])
def test_files_replaced_at_the_same_path_are_another_model(
    tiny_model_folder: str, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    before = rules_poe(str(folder)).base_identity
    assert rules_poe(str(folder)).base_identity == before
    change(folder)
    assert rules_poe(str(folder)).base_identity != before


def test_another_tokenizer_or_length_is_another_model(tiny_model_folder: str, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_model_folder, folder)
    models = [rules_poe(tiny_model_folder, **kwargs) for kwargs in ({}, {"max_length": 64}, {"tokenizer": str(folder)})]
    changed_tokenizer(folder)
    models.append(rules_poe(tiny_model_folder, tokenizer=str(folder)))
    assert len({model.base_identity for model in models}) == len(models)


def test_a_loaded_model_stays_itself_when_its_files_are_replaced(tiny_model_folder: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    loaded = rules_poe(str(folder))
    changed_weights(folder)
    assert loaded.base_identity == rules_poe(tiny_model_folder).base_identity


def test_fewer_instructions_than_processes_are_refused(tiny_model_folder: str, settings: dict[str, str]) -> None:
    model = rules_poe(tiny_model_folder)
    model._world_size = 3
    with pytest.raises(UserError, match="--limit None: fewer instructions than the 3 processes"):
        evaluate(model, settings)


@pytest.mark.parametrize(
    ("given", "dtype", "suffix"),
    [({}, "float32", ""), ({"dtype": "float32"}, "float32", ""), ({"dtype": "bfloat16"}, "bfloat16", ",bfloat16")],
)
def test_the_embedded_model_answers_in_float32_and_another_type_is_in_its_name(
    tiny_model_folder: str, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], dtype: str, suffix: str
) -> None:
    monkeypatch.setattr(
        "implicit_if.model_wrappers.embedded_model.ensure_embedded_model", lambda: Path(tiny_model_folder)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = RulesPoE(batch_size=4, **given)
    assert model.model.dtype == getattr(torch, dtype)
    info = model.get_model_info()
    assert info["model_dtype"] == dtype
    assert info["product"] == f"{model.describe()['product']}{suffix}" == model.product_name
    assert model.maker("none").name == f"{model.describe('none')['product']}{suffix}"
    assert info["cpu_threads"]


def test_another_model_s_usual_type_is_its_checkpoint_s(tiny_model_folder: str) -> None:
    usual = RulesPoE(tiny_model_folder, device="cpu")
    other = RulesPoE(tiny_model_folder, device="cpu", dtype="bfloat16")
    mixed = RulesPoE(tiny_model_folder, device="cpu", mixed_precision_dtype="bfloat16")
    assert usual.name_suffix == ""
    assert other.name_suffix == ",bfloat16"
    assert mixed.get_model_info()["model_dtype"] == "bfloat16-mixed"
    assert mixed.name_suffix == ",bfloat16-mixed"
