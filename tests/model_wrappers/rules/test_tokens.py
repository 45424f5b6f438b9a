from __future__ import annotations

import copy
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules.tokens import resolve_strings, token_surfaces

STRINGS = ["<", " <", "|", " I", "I", " We", "What", " should", " *", " -", "   ", " #", " ##", "\n", "!"]


def test_byte_level_strings_resolve_to_the_pieces_spelled_with_g_dot(tokenizer: Any) -> None:
    vocabulary = tokenizer.get_vocab()
    spelled = {" <": "Ġ<", " We": "ĠWe", "   ": "ĠĠĠ", "\n": "Ċ", "!": "!", "What": "What"}
    found = resolve_strings(tokenizer, STRINGS)
    assert {s: found[s] for s in spelled} == {s: [vocabulary[piece]] for s, piece in spelled.items()}
    assert all(len(ids) == 1 for ids in found.values())


def test_sentencepiece_strings_resolve_like_llama_2(sentencepiece_like: Any) -> None:
    vocabulary = sentencepiece_like.get_vocab()
    found = resolve_strings(sentencepiece_like, STRINGS)
    assert found["<"] == [vocabulary["<"]], "the byte token <0x3C> is never made by the encoder"
    assert found["\n"] == [vocabulary["<0x0A>"]], "a byte token counts where nothing else spells the string"
    assert found[" ##"] == [vocabulary["▁##"]]
    assert found["   "] == [vocabulary["▁▁▁"]]


@pytest.mark.parametrize("kind", ["tokenizer", "sentencepiece_like"])
def test_every_id_decodes_to_its_string_in_a_text(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    anchor = tokenizer("x", add_special_tokens=False)["input_ids"]
    for string, ids in resolve_strings(tokenizer, STRINGS).items():
        for i in ids:
            assert tokenizer.decode([*anchor, i]) == "x" + string


def test_a_missing_string_is_an_error_that_names_it_and_the_nearest_tokens(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"' What' is no single token.*'What'.*missing=ignore"):
        resolve_strings(tokenizer, ["I", " What"])
    assert resolve_strings(tokenizer, ["I", " What"], ignore_missing=True)[" What"] == []


def test_special_tokens_have_no_surface(tokenizer: Any) -> None:
    assert not set(tokenizer.all_special_ids) & token_surfaces(tokenizer).keys()


@pytest.fixture
def gemma_like(sentencepiece_like: Any) -> Any:
    """As Gemma 3's tokenizer stands on the hub: runs of spaces and newlines are added tokens, spelled as pieces are."""
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(sentencepiece_like)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("▁▁", "▁▁▁", "▁▁▁▁", "\n\n")])
    return tokenizer


@pytest.mark.parametrize("string", ["  ", "   ", "    ", "\n\n"])
def test_added_tokens_count_by_what_they_decode_to(gemma_like: Any, string: str) -> None:
    found = resolve_strings(gemma_like, [string])[string]
    anchor = gemma_like("x", add_special_tokens=False)["input_ids"]
    assert found
    assert all(gemma_like.decode([*anchor, i]) == "x" + string for i in found)
    spelled = string.replace(" ", "▁")
    assert gemma_like.get_vocab()[spelled] in found


def test_ids_beyond_the_models_head_do_not_count(tokenizer: Any) -> None:
    (last,) = resolve_strings(tokenizer, ["!"])["!"]
    assert resolve_strings(tokenizer, ["!"], width=last + 1) == {"!": [last]}
    with pytest.raises(UserError, match="no single token"):
        resolve_strings(tokenizer, ["!"], width=last)
