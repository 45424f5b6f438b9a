"""Tokens and labels against an encoder written from the paper's format alone: plain strings and prefix lengths."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.conversations import Conversation, places
from implicit_if.harness.tuning.data.encode import Encoder, encode_rows
from implicit_if.harness.tuning.tokenizer import load_tokenizer

TAGS = {"tulu": ("<|user|>", "<|assistant|>"), "ab": ("<|A|>", "<|B|>")}


def reference_text(messages: list[dict[str, str]], tags: tuple[str, str], eos: str) -> str:
    """All turns with their line ends, not stripped."""
    text = ""
    for message in messages:
        content = message["content"].strip()
        text += f"{tags[0]}\n{content}\n" if message["role"] == "user" else f"{tags[1]}\n{content}{eos}\n"
    return text


def reference_encoding(
    tokenizer: Any, messages: list[dict[str, str]], tags: tuple[str, str], length: int, newline: bool
) -> tuple[list[int], list[int]]:
    """The released code's way: mask each user turn with the tag after it, from prefix lengths cut at `length`."""
    eos = tokenizer.eos_token
    ids = tokenizer(reference_text(messages, tags, eos).strip()).input_ids[:length]
    labels = list(ids)
    for index, message in enumerate(messages):
        if message["role"] != "user":
            continue
        before = reference_text(messages[:index], tags, eos)
        if not newline:
            before = before[:-1]
        start = min(len(tokenizer(before).input_ids), length) if index else 0
        shown = reference_text(messages[: index + 1], tags, eos) + f"{tags[1]}\n"
        end = min(len(tokenizer(shown).input_ids), length)
        for position in range(start, min(end, len(labels))):
            labels[position] = -100
    return ids, labels


PIECES = st.sampled_from(
    "<|user|>,<|assistant|>\n,<|user|>\n,<eos>,</s>,<bos>,ß,日本,🙂,e\u0301,word,.,<,\n,\n\n,  ,\t".split(",")
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
ANSWERS = TEXTS.filter(lambda text: text.strip())
CONVERSATIONS = st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=4).map(
    lambda turns: [
        {"role": role, "content": content}
        for user, answer in turns
        for role, content in (("user", user), ("assistant", answer))
    ]
)
TRIES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def tokenizers(tiny: Path, without_bos: Path, llama_like: Path) -> dict[str, Any]:
    """With a beginning-of-sequence token, without one, and of Llama-2's make."""
    return {"bos": load_tokenizer(tiny), "no bos": load_tokenizer(without_bos), "llama": load_tokenizer(llama_like)}


class Renamed:
    """The same tokenizer with its special tokens under private names, so that their usual text is only text."""

    def __init__(self, tokenizer: Any) -> None:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        names = {t["content"]: chr(0xE100 + t["id"]) for t in content["added_tokens"] if t["special"]}
        for token in content["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = content["model"]
        model["vocab"] = {names.get(key, key): n for key, n in model["vocab"].items()}
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        self.eos_token = names[tokenizer.eos_token]
        self._tokenizer = Tokenizer.from_str(json.dumps(content))

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=self._tokenizer.encode(text).ids)


def encode_or_refuse(encoder: Encoder, messages: list[dict[str, str]]) -> tuple[list[int], list[int]] | None:
    try:
        (row,) = encode_rows(encoder, [Conversation("row 0", messages)])
    except UserError:
        return None
    return row.input_ids, row.labels


@pytest.mark.parametrize("kind", ["bos", "no bos", "llama"])
@TRIES
@given(messages=CONVERSATIONS, newline=st.booleans(), template=st.sampled_from(sorted(TAGS)))
def test_equals_the_released_encoding(
    tokenizers: dict[str, Any], kind: str, messages: list[dict[str, str]], newline: bool, template: str
) -> None:
    tokenizer = tokenizers[kind]
    ids, labels = reference_encoding(Renamed(tokenizer), messages, TAGS[template], 10**6, newline)
    found = encode_or_refuse(Encoder(tokenizer, load_template(template), 10**6, newline), messages)
    assert found == (ids, labels)


@pytest.mark.parametrize(("kind", "text"), [("bos", "<eos>"), ("bos", "<bos>"), ("llama", "</s>"), ("llama", "<s>")])
def test_a_special_token_in_a_message_is_text(tokenizers: dict[str, Any], kind: str, text: str) -> None:
    tokenizer = tokenizers[kind]
    encoder = Encoder(tokenizer, load_template("tulu"), 100)
    messages = [{"role": "user", "content": f"What is {text}?"}, {"role": "assistant", "content": f"{text} is a tag."}]
    row = encoder.encode(Conversation("row 1", messages))
    assert row.input_ids.count(tokenizer.eos_token_id) == row.labels.count(tokenizer.eos_token_id) == 1
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.bos_token_id not in row.input_ids[1:]
    assert tokenizer.decode(row.input_ids).count(text) >= 2
    assert encoder.length(Conversation("row 1", messages)) == row.full_length


@pytest.mark.parametrize("kind", ["bos", "llama"])
@pytest.mark.parametrize("newline", [True, False])
def test_rows_cut_at_every_position(tokenizers: dict[str, Any], kind: str, newline: bool) -> None:
    tokenizer = tokenizers[kind]
    messages = [
        {"role": "user", "content": " Why? <|assistant|>\n"},
        {"role": "assistant", "content": "Because.\nSo it is."},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "ß 🙂"},
    ]
    whole = len(reference_encoding(tokenizer, messages, TAGS["tulu"], 10**6, newline)[0])
    for length in range(2, whole + 2):
        ids, labels = reference_encoding(tokenizer, messages, TAGS["tulu"], length, newline)
        found = encode_or_refuse(Encoder(tokenizer, load_template("tulu"), length, newline), messages)
        if set(labels[1:]) == {-100}:
            assert found is None
        else:
            assert found == (ids, labels)


def test_the_loss_is_on_answers_and_their_end_only(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bos"]
    messages = [
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Air scatters blue light."},
        {"role": "user", "content": "Add 2 and 3."},
        {"role": "assistant", "content": "5"},
    ]
    row = Encoder(tokenizer, load_template("tulu"), 200).encode(Conversation("row 0", messages))
    trained = tokenizer.decode([label for label in row.labels if label != -100])
    assert trained == "Air scatters blue light.<eos>5<eos>"
    quirk = Encoder(tokenizer, load_template("tulu"), 200, newline_in_loss=True).encode(Conversation("row 0", messages))
    assert tokenizer.decode([n for n in quirk.labels if n != -100]) == "Air scatters blue light.<eos>\n5<eos>"
    assert row.input_ids == quirk.input_ids
    assert row.input_ids[0] == tokenizer.bos_token_id
    assert row.input_ids[-1] == tokenizer.eos_token_id


def test_counts(tokenizers: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "Name two rivers."}, {"role": "assistant", "content": "Elbe, Danube."}]
    encoder = Encoder(tokenizers["bos"], load_template("tulu"), 1000)
    row = encoder.encode(Conversation("row 0", messages))
    assert not row.truncated
    assert row.full_length == len(row.input_ids) == encoder.length(Conversation("row 0", messages))
    assert row.loss_tokens == sum(label != -100 for label in row.labels)
    shorter = Encoder(tokenizers["bos"], load_template("tulu"), len(row.input_ids) - 1)
    cut = shorter.encode(Conversation("row 0", messages))
    assert cut.truncated
    assert cut.loss_tokens == row.loss_tokens - 1
    assert cut.labels[-1] != tokenizers["bos"].eos_token_id


def test_prompts_that_fill_the_row_are_refused_by_name(tokenizers: dict[str, Any]) -> None:
    texts = [("word " * 50, "yes"), ("a", "b"), ("a", "long " * 50), ("word " * 60, "no")]
    conversations = [
        Conversation(
            f"data, 1.jsonl, line {n}",
            [{"role": "user", "content": user}, {"role": "assistant", "content": answer}],
        )
        for n, (user, answer) in enumerate(texts, start=7)
    ]
    encoder = Encoder(tokenizers["bos"], load_template("tulu"), 40)
    with pytest.raises(UserError) as caught:
        encode_rows(encoder, conversations)
    told = str(caught.value)
    assert told.startswith("data, 1.jsonl: the prompt alone fills the 40 tokens")
    assert "in 2 of 4 rows (line 7, line 10)" in told
    assert "data.max_tokens=40: these, and 1 that would only be cut" in told
    assert len(encode_rows(encoder, conversations[1:3])) == 2


def test_places_are_named_up_to_a_limit() -> None:
    assert places(["a, line 1", "b, c, row 2"]) == "line 1, row 2"
    assert places([f"a, line {n}" for n in range(5)], most=2) == "line 0, line 1 and 3 more"


def test_a_template_that_writes_bos_again_is_refused(tokenizers: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "double.jinja"
    path.write_text(
        "<bos>{% for m in messages %}{{ '<|user|>\n' if m.role == 'user' else '<|assistant|>\n' }}{% generation %}"
        "{{ m.content }}{{ eos_token }}{% endgeneration %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(UserError, match="begins with two '<bos>'"):
        Encoder(tokenizers["bos"], load_template(str(path)), 100).encode(Conversation("row 0", messages))
