"""The wrapper as lm-eval drives it, on a tiny model in a folder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules_poe import RulesPoE

PROMPTS = [f"<|user|>\n{text}\n<|assistant|>\n" for text in ("What", "a list of I", "x", "the man", "!")]


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, a, i, metadata=("t", i, 1)) for i, a in enumerate(arguments)]


def generate(model: Any, **kwargs: Any) -> list[Any]:
    settings = {"until": [], "max_gen_toks": 24, "do_sample": False} | kwargs
    return list(model.generate_until(requests("generate_until", [(p, settings) for p in PROMPTS])))


@pytest.fixture(scope="module")
def wrapper(tiny_model_folder: str) -> RulesPoE:
    return RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=4)


def test_rules_none_generates_what_hf_generates(tiny_model_folder: str) -> None:
    plain = HFLM(tiny_model_folder, device="cpu", dtype="float32", batch_size=2)
    none = RulesPoE(tiny_model_folder, rules=None, device="cpu", dtype="float32", batch_size=3)
    assert generate(none) == generate(plain)
    assert generate(none, until=["a"]) == generate(plain, until=["a"])


@pytest.mark.parametrize("rules", ["paper", "reference"])
def test_batch_size_and_order_change_no_token(tiny_model_folder: str, rules: str) -> None:
    answers = [
        generate(RulesPoE(tiny_model_folder, rules=rules, device="cpu", dtype="float32", batch_size=size))
        for size in (1, 4, "auto")
    ]
    assert answers[0] == answers[1] == answers[2]
    assert [a.n_tokens for a in answers[0]] == [a.n_tokens for a in answers[2]]


def test_samples_depend_on_the_seed_and_the_prompt_alone(tiny_model_folder: str) -> None:
    def sample(prompts: Sequence[str], size: Any, seed: int | None = 3) -> list[str]:
        if seed is not None:
            torch.manual_seed(seed)
        model = RulesPoE(tiny_model_folder, rules="paper", device="cpu", dtype="float32", batch_size=size)
        settings = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.5}
        return list(model.generate_until(requests("generate_until", [(p, settings) for p in prompts])))

    twice = [*PROMPTS, PROMPTS[0]]
    answers = sample(twice, 1)
    assert answers == sample(twice, 4) == sample(twice, "auto")
    assert answers[1:-1] == sample(PROMPTS[:0:-1], 3)[::-1], "neither order nor the other prompts matter"
    assert answers[0] != answers[-1], "the same prompt, asked twice"
    assert answers != sample(twice, 4, seed=8)
    assert sample(twice, 4) != sample(twice, 4, seed=None), "as ever with torch, a second call goes on"


def test_a_request_may_choose_its_rules(wrapper: RulesPoE, tiny_model_folder: str) -> None:
    for rules in ("none", "reference"):
        own = RulesPoE(tiny_model_folder, rules=rules, device="cpu", dtype="float32", batch_size=4)
        assert generate(wrapper, rules=rules) == generate(own)
    assert generate(wrapper) != generate(wrapper, rules="none")


def test_base_answers_are_remembered_by_content(wrapper: RulesPoE, monkeypatch: pytest.MonkeyPatch) -> None:
    first = generate(wrapper, rules="none")
    monkeypatch.setattr(wrapper, "_answer", lambda *_: pytest.fail("generated anew"))
    again = generate(wrapper, rules="none")
    assert again == first
    assert [a.finish_reason for a in again] == [a.finish_reason for a in first]
    monkeypatch.undo()
    assert generate(wrapper, rules="none", max_gen_toks=5) != first, "other arguments, other answers"


def test_memory_of_another_model_is_never_used(wrapper: RulesPoE, tiny_model_folder: str, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    generate(wrapper, rules="none")
    folder = tmp_path / "other"
    shutil.copytree(tiny_model_folder, folder)
    weights = {k: v.flip(0).contiguous() for k, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    other = RulesPoE(str(folder), device="cpu", dtype="float32", batch_size=4)
    assert other.base_identity != wrapper.base_identity
    assert generate(other, rules="none") != generate(wrapper, rules="none")


def test_use_cache_keeps_finish_reasons_and_refuses_another_product(
    wrapper: RulesPoE, tiny_model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "cache.db")
    first = generate(CachingLM(wrapper, path))
    monkeypatch.setattr(wrapper, "_answer", lambda *_: pytest.fail("generated anew"))
    cached = generate(CachingLM(wrapper, path))
    assert cached == first
    assert [a.finish_reason for a in cached] == [a.finish_reason for a in first]
    other = RulesPoE(tiny_model_folder, rules="reference", device="cpu", dtype="float32")
    with pytest.raises(UserError, match="filled by another model or product"):
        CachingLM(other, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": "papr"}, "Did you mean 'paper'"),
        ({"drop": "eso"}, "Did you mean 'eos'"),
        ({"eos.maximun": 1}, "Did you mean 'maximum'"),
        ({"missing": "skip"}, "expected 'note', 'error' or 'ignore'"),
    ],
)
def test_faults_in_rules_are_found_before_the_model_loads(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        RulesPoE("no/such-model", **arguments)
    assert message in str(caught.value)


def test_a_string_without_a_token_is_an_error_unless_ignored(tiny_model_folder: str, tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "name: mine\nrules: {u: {function: token_bias, weights: [{weight: 1, strings: [' absent', '!']}]}}"
    )
    with pytest.raises(UserError, match="' absent' is no single token"):
        RulesPoE(tiny_model_folder, rules=str(preset), missing="error", device="cpu")
    ignoring = RulesPoE(tiny_model_folder, rules=str(preset), missing="ignore", device="cpu")
    assert ignoring.get_model_info()["rules_missing"] == [" absent"]


def test_the_products_name_and_identity_stand_in_the_results(wrapper: RulesPoE) -> None:
    info = wrapper.get_model_info()
    assert info["product"].startswith("rules:paper@")
    assert info["model_identity"] == wrapper.base_identity
    assert info["model_device"] == "cpu"


def test_the_rows_at_once_are_what_lm_eval_records(tiny_model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = RulesPoE(tiny_model_folder, device="cpu", dtype="float32")
    generate(model, rules="none")
    assert list(model.batch_sizes.values()) == [32]
    assert "taken from" not in capsys.readouterr().err
    generate(model, rules="none")
    assert f"{len(PROMPTS)} answers of the plain base model are taken from" in capsys.readouterr().err


# ---------------------------------------------------------------------- likelihood
CONTINUATIONS = [("What is", " the"), ("a\n", "What! I should"), ("x", " < # | !"), ("!!", "a" * 80)]


def independent(model: Any, context: list[int], continuation: list[int], with_rules: bool) -> float:
    """The definition, token by token, in float64; `paper` rules of the byte-level tokenizer."""
    total = 0.0
    for i, token in enumerate(continuation):
        with torch.no_grad():
            logits = model.model(torch.tensor([context + continuation[:i]])).logits[0, -1].double()
        if with_rules:
            vocabulary = model.tokenizer.get_vocab()
            logits[1] += 15.0 * min(i, 250) / 250
            for weight, pieces in [
                (-4, ["<", "Ġ<", "|"]),
                (-5, ["ĠI", "I"]),
                (-3, ["ĠWe", "What"]),
                (-6, ["Ġshould"]),
                (1, ["Ġ*", "Ġ-", "ĠĠĠ", "Ġ#", "Ġ##", "Ċ", "!"]),
            ]:
                for piece in pieces:
                    logits[vocabulary[piece]] += weight
            for used in set(continuation[:i]):
                logits[used] -= 1.5
        total += float(torch.log_softmax(logits, -1)[token])
    return total


def test_loglikelihood_equals_the_definition(wrapper: RulesPoE) -> None:
    answers = wrapper.loglikelihood(requests("loglikelihood", CONTINUATIONS), disable_tqdm=True)
    for (context, continuation), (value, _) in zip(CONTINUATIONS, answers, strict=True):
        ids = wrapper._encode_pair(context, continuation)
        assert value == pytest.approx(independent(wrapper, *ids, with_rules=True), abs=1e-4)


def test_loglikelihood_without_rules_equals_hf(tiny_model_folder: str) -> None:
    none = RulesPoE(tiny_model_folder, rules=None, device="cpu", dtype="float32", batch_size=3)
    plain = HFLM(tiny_model_folder, device="cpu", dtype="float32", batch_size=1)
    for a, b in zip(
        none.loglikelihood(requests("loglikelihood", CONTINUATIONS), disable_tqdm=True),
        plain.loglikelihood(requests("loglikelihood", CONTINUATIONS), disable_tqdm=True),
        strict=True,
    ):
        assert a[0] == pytest.approx(b[0], abs=1e-3)
        assert a[1] == b[1]


def test_rolling_likelihood_spans_windows(wrapper: RulesPoE, tiny_model_folder: str) -> None:
    text = "the man " * 40  # 320 bytes, longer than the model's 256 positions
    value = wrapper.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]), disable_tqdm=True)[0]
    tokens = wrapper.tok_encode(text)
    whole = wrapper.max_length
    first = independent(wrapper, [wrapper.prefix_token_id], tokens[:whole], with_rules=True)
    assert value < first, "the rest of the text must count, too"
    short = "I should < !"
    ids = wrapper.tok_encode(short)
    value = wrapper.loglikelihood_rolling(requests("loglikelihood_rolling", [(short,)]), disable_tqdm=True)[0]
    assert value == pytest.approx(independent(wrapper, [wrapper.prefix_token_id], ids, with_rules=True), abs=1e-4)


def test_reference_preset_counts_the_prompt_after_the_user_tag(tiny_model_folder: str) -> None:
    model = RulesPoE(tiny_model_folder, rules="reference", device="cpu", dtype="float32", batch_size=2)
    context, continuation = "zq<|user|>\nman\n<|assistant|>\n", "man"
    ids, _ = model._encode_pair(context, continuation)  # lm-eval moves white space at the end to the continuation
    assert model.tokenizer.decode(model._prompt_scope(context, ids)) == "man\n<|assistant|>"
    assert model._prompt_scope("no tag", model.tok_encode("no tag")) == model.tok_encode("no tag")[1:], (
        "BOS is no used token"
    )
    prompts = model.tok_batch_encode([context, "<|user|>\nlonger than the other by far\n<|assistant|>\n"])
    from implicit_if.model_wrappers.prompt_batches import Prompts

    starts = model._scope_starts(
        "<|user|>\n", [context, "<|user|>\nlonger than the other by far\n<|assistant|>\n"], Prompts(*prompts)
    )
    assert model.tokenizer.decode(prompts[0][0, starts[0] :]) == "man\n<|assistant|>\n"
    assert model.tokenizer.decode(prompts[0][1, starts[1] :]).startswith("longer than")


def random_model(vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **sizes))


# ---------------------------------------------------------------------- missing strings
MISSING = (
    "name: mine\nrules: {u: {function: token_bias, weights: [{weight: 1, strings: [%s]}]}, e: {function: eos_ramp}}"
)


def test_a_missing_string_is_left_out_printed_and_recorded(
    tiny_model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(MISSING % "' absent', '!'")
    noting = RulesPoE(tiny_model_folder, rules=str(preset), device="cpu")
    noting.bind(noting.preset)
    assert capsys.readouterr().out.count("note: rules: no token for ' absent': left out (missing=note)") == 1
    info = noting.get_model_info()
    assert info["product"].startswith("rules:mine,missing=1@")
    assert (info["system"]["preset"], info["system"]["missing"]) == ("mine", [" absent"])
    preset.write_text(MISSING % "' gone', '!'")
    other = RulesPoE(tiny_model_folder, rules=str(preset), device="cpu").get_model_info()
    assert other["product"] != info["product"]
    preset.write_text(MISSING % "'!'")
    whole = RulesPoE(tiny_model_folder, rules=str(preset), device="cpu").get_model_info()
    assert "missing" not in whole["product"]


def test_a_rule_of_which_nothing_is_left_is_an_error(tiny_model_folder: str, tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(MISSING % "' absent', ' gone'")
    with pytest.raises(UserError, match=r"none of the strings of 'u' .*\(' absent', ' gone'\).*drop=u"):
        RulesPoE(tiny_model_folder, rules=str(preset), device="cpu")
    assert RulesPoE(tiny_model_folder, rules=str(preset), missing="ignore", device="cpu").rules.missing


def test_a_head_smaller_than_the_vocabulary_leaves_its_tokens_out(tokenizer: Any, tmp_path: Path) -> None:
    width = tokenizer.get_vocab()["Ġ##"]  # this string and those after it are no tokens of the model
    random_model(width).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = RulesPoE(str(tmp_path), device="cpu", dtype="float32", batch_size=2)
    assert " ##" in model.rules.missing
    assert len(generate(model)) == len(PROMPTS)
    assert len(model.loglikelihood(requests("loglikelihood", [("x", "a < b")]), disable_tqdm=True)) == 1
    with pytest.raises(UserError, match=f"the model has {width}; use rules=paper"):
        RulesPoE(str(tmp_path), rules="reference", device="cpu")


# ---------------------------------------------------------------------- likelihoods at their edges
def test_a_continuation_longer_than_the_context_is_refused(wrapper: RulesPoE) -> None:
    fits, too_long = "a" * 256, "a" * 257
    ids = wrapper._encode_pair("x", fits)
    ((value, _),) = wrapper.loglikelihood(requests("loglikelihood", [("x", fits)]), disable_tqdm=True)
    assert value == pytest.approx(independent(wrapper, ids[0][-1:], ids[1], with_rules=True), abs=1e-3)
    with pytest.raises(UserError, match="a continuation has 257 tokens, and the model holds 256"):
        wrapper.loglikelihood(requests("loglikelihood", [("x", too_long)]), disable_tqdm=True)


def test_a_long_context_keeps_bos(wrapper: RulesPoE) -> None:
    context, continuation = wrapper._encode_pair("z" * 300, " the")
    room = 257 - len(continuation)
    shown = context[: room // 2] + context[-(room - room // 2) :]
    ((value, _),) = wrapper.loglikelihood(requests("loglikelihood", [("z" * 300, " the")]), disable_tqdm=True)
    assert shown[0] == 0
    assert value == pytest.approx(independent(wrapper, shown, continuation, with_rules=True), abs=1e-4)


def test_mixed_precision_holds_for_likelihoods(tiny_model_folder: str) -> None:
    mixed = RulesPoE(
        tiny_model_folder, rules=None, device="cpu", dtype="float32", batch_size=1, mixed_precision_dtype="bfloat16"
    )
    ((context, continuation),) = [mixed._encode_pair("What is", " the")]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = mixed.model(torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1].float()
    expected = float(logits.log_softmax(-1)[range(len(continuation)), continuation].sum())
    ((value, _),) = mixed.loglikelihood(requests("loglikelihood", [("What is", " the")]), disable_tqdm=True)
    assert value == pytest.approx(expected, abs=1e-5)
    assert value != pytest.approx(independent(mixed, context, continuation, with_rules=False), abs=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_likelihoods_under_an_adapter_equal_the_definition(tiny_model_folder: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    )
    adapted.save_pretrained(tmp_path)
    model = RulesPoE(tiny_model_folder, peft=str(tmp_path), device="cpu", dtype="float32", batch_size=2)
    plain = RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=2)
    pairs = requests("loglikelihood", CONTINUATIONS)
    values = [value for value, _ in model.loglikelihood(pairs, disable_tqdm=True)]
    for (context, continuation), value in zip(CONTINUATIONS, values, strict=True):
        ids = model._encode_pair(context, continuation)
        assert value == pytest.approx(independent(model, *ids, with_rules=True), abs=1e-4)
    assert values != [value for value, _ in plain.loglikelihood(pairs, disable_tqdm=True)]
    assert model.base_identity != plain.base_identity


def test_two_rules_may_not_disagree_on_the_prompts_scope(tiny_model_folder: str, tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    used = "{function: used_token_penalty, scope: prompt+response, prompt_after: '%s'}"
    preset.write_text(f"name: mine\nrules:\n  a: {used % 'A:'}\n  b: {used % 'B:'}\n")
    with pytest.raises(UserError, match="prompt_after texts 'A:', 'B:'"):
        RulesPoE(tiny_model_folder, rules=str(preset), device="cpu")


def test_a_merged_newline_is_in_the_scope_of_decoding_and_likelihoods_alike(tmp_path: Path, tokenizer: Any) -> None:
    from tokenizers import AddedToken

    merging = copy.deepcopy(tokenizer)
    merging.add_tokens([AddedToken("\n\n", normalized=False)])
    random_model(len(merging)).save_pretrained(tmp_path)
    merging.save_pretrained(tmp_path)
    model = RulesPoE(str(tmp_path), rules="reference", device="cpu", dtype="float32", batch_size=1)
    context = "<|user|>\n\nman"
    prompts = model.encode_prompts([context], 8)
    (start,) = model._scope_starts("<|user|>\n", [context], prompts).tolist()
    scope = model._prompt_scope(context, model.encode(context))
    assert scope == prompts.ids[0, start:].tolist()
    assert model.tokenizer.decode(scope) == "\n\nman"
