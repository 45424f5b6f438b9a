"""Special tokens that users write stay text; ordinary text and the template's own tokens are encoded as ever."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.generation import Prompt
from implicit_if.harness.instructions import load_instructions
from implicit_if.model_wrappers.chat.systems import TurnTemplate
from implicit_if.model_wrappers.prompt_tokens import encode, special_tokens, spells_special
from implicit_if.model_wrappers.rules.tokens import scope_start
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.model_wrappers.urial import load_prefix

MODEL_TEMPLATE = (
    "{% for m in messages %}<s>[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}[go]"
    "{% endif %}"
)


@pytest.fixture(scope="module")
def model(tiny_model_folder: str) -> RulesPoE:
    return RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=4)


def test_ordinary_text_has_the_tokenizer_s_own_tokens(model: RulesPoE) -> None:
    template = load_template("tulu")
    for item in load_instructions("builtin").items:
        prompt = template.render_prompt(item.text)
        assert prompt[slice(*prompt.users[0])] == item.text.strip()  # type: ignore[attr-defined]
        assert model.encode(prompt) == model.tokenizer(str(prompt))["input_ids"]


@pytest.mark.parametrize("eos", ["</s>", "<s>", "a</s>b<s>", "</s></s>"])
def test_a_special_token_in_an_instruction_stays_text(model: RulesPoE, eos: str) -> None:
    tokenizer, template = model.tokenizer, load_template("tulu")
    special = set(tokenizer.all_special_ids)
    prompts = [
        template.render_prompt(f"What does {eos} mean?"),
        load_prefix("default").prompt(eos),
        TurnTemplate(template).prompt(model, [{"role": "user", "content": eos}]),
    ]
    for prompt in prompts:
        assert spells_special(tokenizer, prompt)
        ids = model.encode(prompt)
        assert [i for i in ids if i in special] == [tokenizer.bos_token_id], "the tokenizer's own"
        assert tokenizer.decode(ids, skip_special_tokens=True) == str(prompt)
        assert special & set(tokenizer(str(prompt))["input_ids"][1:]), "it would be a token"


def test_the_template_s_own_special_tokens_stay(model: RulesPoE) -> None:
    own = copy.copy(model)
    own.tokenizer = copy.deepcopy(model.tokenizer)
    own.tokenizer.chat_template = MODEL_TEMPLATE
    turns = TurnTemplate(None)
    messages = [{"role": "user", "content": "Say </s>."}]
    prompt = turns.prompt(own, messages)
    assert prompt == "<s>[user]Say </s>.</s>[go]"
    ids = own.encode(prompt)
    bos, eos = own.tokenizer.bos_token_id, own.tokenizer.eos_token_id
    assert [i for i in ids if i in (bos, eos)] == [bos, eos]
    assert ids.index(eos) > len(ids) - 6
    plain = turns.prompt(own, [{"role": "user", "content": "Say it."}])
    assert own.encode(plain) == own.tokenizer(str(plain), add_special_tokens=False)["input_ids"]


def test_used_tokens_are_counted_in_the_same_encoding(model: RulesPoE) -> None:
    prompt = load_template("tulu").render_prompt("x</s>y")
    special = special_tokens(model.tokenizer, prompt, None)
    start, tokens = scope_start(model.tokenizer, prompt, "<|user|>\n", special)
    ids = model.encode(prompt)
    assert tokens == len(ids)
    assert model.tokenizer.decode(ids[start:]).startswith("x</s>y")
    assert encode(model.tokenizer, prompt, special, offsets=True)[0] == ids


def test_an_answer_is_to_the_text_and_remembered_as_such(
    model: RulesPoE, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path))
    prompt = load_template("tulu").render_prompt("x</s>y")

    def answer(context: str) -> str:
        request = Instance("generate_until", {}, (context, {"max_gen_toks": 12, "rules": "none"}), 0)
        return str(model.generate_until([request], disable_tqdm=True)[0])

    as_token, as_text = answer(str(prompt)), answer(prompt)
    assert as_token != as_text, "the two prompts are two"
    assert answer(prompt) == as_text, "from memory"
    prompts = model.encode_prompts([prompt], 12)
    plain = model.model.generate(
        input_ids=prompts.ids, attention_mask=prompts.mask, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    new = plain[0, len(model.encode(prompt)) :]
    assert as_text == model.tokenizer.decode(new, skip_special_tokens=True)


def test_messages_are_found_in_order_and_stripped() -> None:
    prompt = Prompt.of("[u] a [v] b [u] a [v]", [" a ", "b", "", "a", "missing"])
    assert [prompt[s:e] for s, e in prompt.users] == ["a", "b", "a"]
    assert prompt.users == ((4, 5), (10, 11), (16, 17))
