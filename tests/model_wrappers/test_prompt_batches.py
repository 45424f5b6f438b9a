"""Every row of a batch is encoded by itself, and a prompt that is too long keeps its beginning and its end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.prompt_batches import cut_middle, place_after_cut
from implicit_if.model_wrappers.prompt_tokens import special_tokens
from implicit_if.model_wrappers.rules_poe import RulesPoE

LONG = "<|user|>\n" + "".join(chr(97 + i % 26) for i in range(500)) + "\n<|assistant|>\n"


@pytest.fixture(scope="module")
def model(tiny_model_folder: str) -> RulesPoE:
    return RulesPoE(tiny_model_folder, device="cpu", dtype="float32", batch_size=4)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_first_and_the_last_tokens_stay(length: int, room: int) -> None:
    tokens = list(range(length))
    kept = cut_middle(tokens, room)
    assert len(kept) == min(length, room)
    assert kept == sorted(kept)
    assert kept[: room // 2] == tokens[: room // 2]
    assert kept[::-1][: room // 2] == tokens[::-1][: room // 2]
    for position in range(length):
        after = [place for place, token in enumerate(kept) if token >= position]
        assert place_after_cut(position, length, len(kept)) == (after[0] if after else len(kept))


def test_a_long_prompt_keeps_bos_and_both_tags(model: RulesPoE) -> None:
    prompts = model.encode_prompts([LONG, "<|user|>\nx\n<|assistant|>\n"], 16)
    assert prompts.ids.shape == (2, 240)
    text = model.tokenizer.decode(prompts.ids[0])
    assert text.startswith("<s><|user|>\nabc")
    assert text.endswith("xyzabcdef\n<|assistant|>\n")
    assert list(prompts.cuts) == [len(model.encode(LONG)) - 240, 0]


def test_the_cut_is_recorded_with_the_answer_also_from_memory(model: RulesPoE) -> None:
    request = Instance("generate_until", {}, (LONG, {"max_gen_toks": 8, "rules": "none"}), 0)
    cut = len(model.encode(LONG)) - (256 - 8)
    for _ in range(2):
        (answer,) = model.generate_until([request], disable_tqdm=True)
        assert answer.prompt_tokens_cut == cut  # type: ignore[attr-defined]


def test_used_tokens_of_a_cut_prompt_are_those_that_are_shown(tiny_model_folder: str) -> None:
    reference = RulesPoE(tiny_model_folder, rules="reference", device="cpu", dtype="float32", batch_size=1)
    prompts = reference.encode_prompts([LONG], 16)
    (start,) = reference._scope_starts("<|user|>\n", [LONG], prompts).tolist()
    assert reference.tokenizer.decode(prompts.ids[0, start:]).startswith("abc")
    late = "y" * 300 + "<|user|>\n" + "z" * 20
    prompts = reference.encode_prompts([late], 16)
    (start,) = reference._scope_starts("<|user|>\n", [late], prompts).tolist()
    assert reference.tokenizer.decode(prompts.ids[0, start:]) == "z" * 20


@pytest.mark.parametrize("rows", [["abc", "<s>abc"], ["<s>abc", "abc"], ["<s>", "", "<s>x"]])
def test_each_row_has_one_bos_whatever_stands_beside_it(model: RulesPoE, rows: list[str]) -> None:
    prompts = model.encode_prompts(rows, 8)
    for text, ids, mask in zip(rows, prompts.ids, prompts.mask, strict=True):
        own = ids[mask.bool()].tolist()
        assert own.count(0) == 1
        assert own == model.encode(text)


def test_a_users_wish_for_no_bos_is_kept(tokenizer: Any) -> None:
    assert special_tokens(tokenizer, "x", None) == {}
    assert special_tokens(tokenizer, "x", False) == {"add_special_tokens": False}
    assert special_tokens(tokenizer, "<s>x", True) == {"add_special_tokens": False}


@pytest.mark.parametrize("new", [256, 300])
def test_more_new_tokens_than_the_model_holds_are_refused(model: RulesPoE, new: int) -> None:
    with pytest.raises(UserError, match=f"max_gen_toks={new}: the model holds 256 tokens"):
        model.encode_prompts(["x"], new)
