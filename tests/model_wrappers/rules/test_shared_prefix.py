"""Continuations of one context, against one forward pass a text in which the whole text stands alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.proxy_tuned import ProxyTuned
from implicit_if.model_wrappers.rules import shared_prefix
from implicit_if.model_wrappers.rules_poe import RulesPoE

RESPONSES = [
    "the man",
    "What! I should",
    " We < # | !",
    "a",
    "an he the",
    "!" * 7,
    "<|user|>\nx",
    "   # |",
    "I",
    "man " * 9,
]

CLOSE = {"abs": 1e-5, "rel": 3e-7}  # relative for sums near -100, where float32 itself ends


def make_sliding(vocabulary: int) -> Any:
    """A Gemma 3 whose window is shorter than the prompts, with tied embeddings as the embedded model's."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(1)
    config = Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    return Gemma3ForCausalLM(config).eval()


def make_capped(vocabulary: int) -> Any:
    """A Gemma 2, which caps its logits after the head, so that head and body cannot be run apart."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(2)
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        final_logit_softcapping=2.0,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,
    )
    return Gemma2ForCausalLM(config).eval()


def brute_force(model: Any, tokenizer: Any, prompt: str, response: str, encoding: dict[str, bool]) -> float:
    """One forward pass of the whole text, no cache, no padding; the normaliser in float64."""
    context = tokenizer(prompt, **encoding)["input_ids"]
    whole = tokenizer(prompt + response, **encoding)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([whole])).logits[0].double()
    scores = logits.log_softmax(-1)
    return float(sum(scores[i - 1, whole[i]] for i in range(len(context), len(whole))))


@pytest.mark.parametrize("kind", ["llama", "sliding", "capped"])
@pytest.mark.parametrize("template", ["tulu", "ab", None])
@pytest.mark.parametrize(("side", "bos", "rows"), [("left", True, 3), ("right", None, 1), ("left", False, 100)])
def test_log_probs_equal_one_pass_a_text(
    tiny_model: Any, tokenizer: Any, kind: str, template: str | None, side: str, bos: bool | None, rows: int
) -> None:
    makers = {"sliding": make_sliding, "capped": make_capped}
    model = makers[kind](len(tokenizer)) if kind in makers else tiny_model
    tokenizer.padding_side = side
    wrapper = RulesPoE(model, tokenizer=tokenizer, rules=None, batch_size=rows, add_bos_token=bos)
    assert wrapper._head.shares == (kind != "capped")
    prompt = "What is a list?\n" if template is None else load_template(template).render_prompt("What is a list?")
    encoding = {} if bos is None else {"add_special_tokens": bos}
    expected = [brute_force(model, tokenizer, prompt, response, encoding) for response in RESPONSES]
    assert wrapper.log_probs(prompt, RESPONSES) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("rules", ["paper", "reference"])
def test_rules_apply_to_shared_prompts_as_to_single_ones(tiny_model: Any, tokenizer: Any, rules: str) -> None:
    wrapper = RulesPoE(tiny_model, tokenizer=tokenizer, rules=rules, batch_size=4)
    prompt = load_template("tulu").render_prompt("the man")
    shared = wrapper.log_probs(prompt, RESPONSES)
    alone = [wrapper.log_probs(prompt, [response])[0] for response in RESPONSES]  # too few to share
    assert shared == pytest.approx(alone, **CLOSE)
    assert shared != pytest.approx(RulesPoE(tiny_model, tokenizer=tokenizer, rules=None).log_probs(prompt, RESPONSES))


def test_three_models_shared_prompts_equal_single_ones(
    tiny_model: Any, tokenizer: Any, tiny_model_folder: str, tmp_path: Any
) -> None:
    make_sliding(len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for rules in (None, "paper"):
        wrapper = ProxyTuned(
            tiny_model_folder,
            str(tmp_path),
            tiny_model_folder,
            rules=rules,
            device="cpu",
            dtype="float32",
            batch_size=3,
        )
        assert wrapper._head.shares
        shared = wrapper.log_probs("What is a list?\n", RESPONSES)
        alone = [wrapper.log_probs("What is a list?\n", [response])[0] for response in RESPONSES]
        assert shared == pytest.approx(alone, **CLOSE)


def test_many_likelihoods_of_one_context_share_it_and_stay_the_same(
    tiny_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance

    wrapper = RulesPoE(tiny_model, tokenizer=tokenizer, rules=None, batch_size=4)
    context = "<|user|>\nWhat\n<|assistant|>"
    greedy = tokenizer.decode(int(tiny_model(torch.tensor([tokenizer(context)["input_ids"]])).logits[0, -1].argmax()))
    texts = [*RESPONSES, greedy]
    pairs = [(context, text) for text in texts] + [("x", "a"), ("y", "the man")]
    requests = [Instance("loglikelihood", {}, pair, i, metadata=("t", i, 1)) for i, pair in enumerate(pairs)]
    shared = wrapper.loglikelihood(requests, disable_tqdm=True)
    monkeypatch.setattr(shared_prefix, "LEAST", 10**6)
    alone = wrapper.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in shared] == pytest.approx([value for value, _ in alone], **CLOSE)
    assert [best for _, best in shared] == [best for _, best in alone]
    assert any(best for _, best in shared)


def test_a_prompt_is_read_once(tiny_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = RulesPoE(tiny_model, tokenizer=tokenizer, rules=None, batch_size=2)
    prompt = "What is the list that a man should have?\n"
    wrapper.log_probs(prompt, RESPONSES)
    read: list[int] = []
    handle = tiny_model.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        wrapper.log_probs(prompt, RESPONSES)
    finally:
        handle.remove()
    prompt_length = len(tokenizer(prompt)["input_ids"])
    assert read[0] == prompt_length
    longest = max(len(tokenizer(r)["input_ids"]) for r in RESPONSES)
    assert all(tokens <= 2 * longest for tokens in read[1:]), "no prompt beside the responses"


def test_a_text_that_is_too_long_is_named(tiny_model: Any, tokenizer: Any) -> None:
    wrapper = RulesPoE(tiny_model, tokenizer=tokenizer, rules=None, batch_size=2)
    with pytest.raises(UserError, match=r"Expected at most 256"):
        wrapper.log_probs("What\n", ["a" * 300])


def test_a_special_tokens_text_in_instruction_or_response_stays_text(tiny_model: Any, tokenizer: Any) -> None:
    wrapper = RulesPoE(tiny_model, tokenizer=tokenizer, rules=None, batch_size=2)
    prompt = load_template("tulu").render_prompt("the </s> man")
    context = wrapper.encode(prompt)
    response = tokenizer("a</s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert 1 not in context + response
    with torch.no_grad():
        scores = tiny_model(torch.tensor([context + response])).logits[0].double().log_softmax(-1)
    expected = sum(float(scores[len(context) - 1 + i, token]) for i, token in enumerate(response))
    assert wrapper.log_probs(prompt, ["a</s>"]) == pytest.approx([expected], **CLOSE)
