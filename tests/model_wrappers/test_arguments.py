"""What is given is kept, noted or refused in one sentence, before weights are loaded where that can be known."""

from __future__ import annotations

import copy
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers import arguments
from implicit_if.model_wrappers.arguments import read_generation
from implicit_if.model_wrappers.rules_poe import RulesPoE


@pytest.fixture
def without_weights(tiny_model_folder: str, tmp_path: Path) -> Path:
    folder = tmp_path / "no-weights"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"foo": 1}, "unknown model argument 'foo'"),
        ({"rule": "paper"}, "Did you mean 'rules'"),
        ({"dtpye": "float32"}, "Did you mean 'dtype'"),
        ({"missings": "note"}, "Did you mean 'missing'"),
    ],
)
def test_an_unknown_model_argument_is_named(without_weights: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        RulesPoE(str(without_weights), device="cpu", **given)
    assert message.lower() in str(caught.value).lower()


@pytest.mark.parametrize("given", [{"softmax_dtype": "float64"}, {"truncation": True}, {"logits_cache": False}])
def test_an_argument_without_effect_is_refused(without_weights: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(given))}=.*has no effect here"):
        RulesPoE(str(without_weights), device="cpu", **given)


@pytest.mark.parametrize(
    "argv",
    [
        ["--gen_kwargs", "max_gen_toks=0"],
        ["--gen_kwargs", "temperature=0.5,max_new_tokens=0.5", "--limit", "3"],
        ["--gen_kwargs=max_tokens=-1"],
        ["--gen_kwargs", '{"max_gen_toks": 0}'],
        ["--gen_kwargs", "do_sample=true", "num_return_sequences=2"],
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_before_the_weights_load(
    without_weights: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lm_eval", "run", "--model", "rules_poe", *argv])
    with pytest.raises(
        UserError, match=r"(max_gen_toks|max_new_tokens|max_tokens|num_return_sequences)=\S+: .*xpected"
    ):
        RulesPoE(str(without_weights), device="cpu")


def test_settings_of_the_models_configuration_are_accepted(tiny_model_folder: str) -> None:
    model = RulesPoE(tiny_model_folder, device="cpu", attention_dropout=0.5, attn_implementation="eager")
    assert model.config.attention_dropout == 0.5 or model.model.config.attention_dropout == 0.5


def test_no_chat_template_is_said_before_the_weights_load(
    without_weights: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lm_eval", "run", "--apply_chat_template"])
    with pytest.raises(UserError, match="has no chat template of its own"):
        RulesPoE(str(without_weights), device="cpu")
    monkeypatch.undo()
    model = RulesPoE(tiny_model_folder, device="cpu")
    with pytest.raises(UserError, match="--apply_chat_template: .*Leave it out"):
        model.apply_chat_template([{"role": "user", "content": "x"}])


def test_a_tokenizer_without_eos_is_refused_before_the_weights_load(without_weights: Path) -> None:
    config = without_weights / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "</s>"', '"eos_token": null'))
    with pytest.raises(UserError, match="has no EOS token"):
        RulesPoE(str(without_weights), device="cpu")


def test_a_loaded_model_without_eos_is_refused_as_well(tiny_model: Any, tokenizer: Any) -> None:
    without = copy.deepcopy(tokenizer)
    without.eos_token = None
    with pytest.raises(UserError, match="has no EOS token"):
        RulesPoE(tiny_model, tokenizer=without)


@pytest.mark.parametrize(
    "given",
    [
        *({"max_gen_toks": 0}, {"max_new_tokens": -1}, {"max_tokens": True}, {"max_gen_toks": "many"}),
        *({"max_gen_toks": 1.5}, {"num_return_sequences": 2}),
    ],
)
def test_what_cannot_be_kept_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(given))}={next(iter(given.values()))}: "):
        read_generation(given, 256)


@pytest.mark.parametrize(
    ("given", "until"),
    [
        ({}, []),
        ({"stop": "x"}, ["x"]),
        ({"stop_strings": ["x", "y"], "until": "z"}, ["z", "x", "y"]),
        ({"until": ["a"], "stop": ["b"]}, ["a", "b"]),
        ({"until": None, "stop": None}, []),
    ],
)
def test_every_name_of_stop_strings_works(given: dict[str, Any], until: list[str]) -> None:
    settings = read_generation(given, 256)
    assert settings["until"] == until
    assert not settings.keys() & {"stop", "stop_strings"}
    assert settings["max_gen_toks"] == 256


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"max_gen_toks": 16, "max_new_tokens": 99}, "max_new_tokens=99: not used, max_gen_toks=16 counts"),
        ({"do_sample": False, "temperature": 0.7}, "temperature=0.7: not used, as decoding is greedy"),
        ({"do_sample": False, "top_p": 0.9}, "top_p=0.9: not used, as decoding is greedy"),
    ],
)
def test_what_has_no_effect_is_noted_once(
    given: dict[str, Any], note: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "_noted", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            read_generation(given, 256)
    assert [r.getMessage() for r in caplog.records if r.name == arguments.__name__].count(f"note: {note}") <= 1
    assert any(note in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("name", "environment", "why"),
    [
        ("no/such-model", {}, ""),
        ("../nowhere", {}, "no such folder"),
        ("org/model", {"HTTPS_PROXY": "proxy.example:8080"}, ""),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_sentence(
    name: str, environment: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0" if environment else "1")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=rf"model '{name}' cannot be loaded \({why}[^\n]*\)\. Expected"):
        RulesPoE(name, device="cpu")


@pytest.mark.parametrize("config", ["[" * 200_000, "{", "\0"])
def test_a_model_with_a_broken_configuration_is_one_sentence(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"cannot be loaded \([^\n]*\)\. Expected"):
        RulesPoE(str(tmp_path), device="cpu")


def test_use_cache_refuses_rules_whose_content_its_keys_do_not_hold(tiny_model_folder: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nrules: {eos: {function: eos_ramp}}\n")
    model = CachingLM(RulesPoE(tiny_model_folder, device="cpu", dtype="float32"), str(tmp_path / "cache.db"))
    for rules, refused in ((str(path), True), ("reference", False), ("none", False)):
        requests = [Instance("generate_until", {}, ("x", {"max_gen_toks": 4, "rules": rules}), 0)]
        if refused:
            with pytest.raises(UserError, match="--use_cache: its keys hold the path"):
                model.generate_until(requests)
        else:
            assert len(model.generate_until(requests)) == 1


def test_cache_requests_never_serves_requests_of_another_template(tiny_model_folder: str, tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"instruction": "Why?"}\n{"instruction": "How?"}\n')
    model: Any = RulesPoE(tiny_model_folder, device="cpu", dtype="float32")
    seen = []
    for template, limit in (("tulu", 1), ("ab", 2)):
        results: Any = simple_evaluate(
            model=model,
            tasks=["alpaca_winrate"],
            gen_kwargs={"max_gen_toks": 2},
            metadata={"judge": "longest", "instructions": str(questions), "template": template},
            cache_requests=True,
            predict_only=True,
            log_samples=True,
            limit=limit,
        )
        seen.append([s["arguments"][0][0][:6] for s in results["samples"]["alpaca_winrate"]])
    assert seen == [["<|user"], ["<|A|>\n", "<|A|>\n"]]
