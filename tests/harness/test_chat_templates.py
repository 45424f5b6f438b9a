"""Chat templates: the paper's format letter by letter, what is trained, and what custom templates may not do."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness import chat_templates
from implicit_if.harness.chat_templates import ChatTemplate, load_template, template_names, template_sha256
from implicit_if.harness.errors import UserError

EOS = "</s>"
TAGS = {"tulu": ("<|user|>", "<|assistant|>"), "ab": ("<|A|>", "<|B|>"), "tulu_no_user": (None, "<|assistant|>")}

CHATML = r"""{{ bos_token }}{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else %}{{ message.content }}<|im_end|>{% endif %}
{{ '\n' }}
{%- endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def turns(*contents: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def released_pieces(name: str, messages: list[dict[str, Any]], newline_in_loss: bool) -> list[tuple[str, bool]]:
    """The released code's text and mask (finetune.py, `encode_with_messages_format`), written anew without Jinja."""
    user, assistant = TAGS[name]
    pieces: list[tuple[str, bool]] = []
    for position, message in enumerate(messages):
        text, last = message["content"].strip(), position == len(messages) - 1
        if message["role"] == "assistant":
            pieces += [(f"{assistant}\n", False), (text + EOS, True)]
            pieces += [] if last else [("\n", newline_in_loss)]
        elif message["role"] == "system":
            pieces.append((f"<|system|>\n{text}\n", False))
        elif user is not None:
            pieces.append((f"{user}\n{text}\n", False))
    return pieces


def characters(pieces: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    return [(character, flag) for text, flag in pieces for character in text]


# Texts that could be mistaken for the format, for Jinja, or for something to strip.
LOOKALIKES = ["<|user|>", "<|assistant|>", "<|A|>", "<|B|>", EOS, "{{ x }}", "{% endfor %}", "{# c #}", "<b>&amp;"]
SPACES = ["\n", "\r\n", " ", "\u2003", "\x1c", "\\n", "\x00"]
tricky = st.lists(st.sampled_from(LOOKALIKES + SPACES) | st.text(max_size=8), max_size=8).map("".join)
conversations = st.builds(
    lambda system, pairs: [{"role": "system", "content": s} for s in system] + turns(*(t for p in pairs for t in p)),
    st.lists(tricky, max_size=1),
    st.lists(st.tuples(tricky, tricky), min_size=1, max_size=3),
)


@pytest.mark.parametrize(
    ("name", "prompt", "answered"),
    [
        ("tulu", "<|user|>\nHi\n<|assistant|>\n", "<|user|>\nHi\n<|assistant|>\nHello.</s>"),
        ("ab", "<|A|>\nHi\n<|B|>\n", "<|A|>\nHi\n<|B|>\nHello.</s>"),
        ("tulu_no_user", "<|assistant|>\n", "<|assistant|>\nHello.</s>"),
    ],
)
def test_format_is_the_papers(name: str, prompt: str, answered: str) -> None:
    template = load_template(name)
    assert template.render_prompt(" Hi\n") == prompt
    assert template.render(turns("Hi ", "\nHello. "), eos_token=EOS) == answered
    assert (template.user_tag, template.assistant_tag) == TAGS[name]
    assert template.tags == tuple(tag for tag in TAGS[name] if tag)
    assert template.shows_user is (name != "tulu_no_user")
    assert not template.prompt_needs_eos


def test_turns_before_the_last_end_with_a_newline() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *turns("a", "b", "c", "d")]
    body = "<|system|>\nBe brief.\n<|user|>\na\n<|assistant|>\nb</s>\n<|user|>\nc\n<|assistant|>\nd</s>"
    tulu = load_template("tulu")
    assert tulu.render(messages, eos_token=EOS) == body
    assert tulu.render(messages, eos_token=EOS, add_generation_prompt=True) == body + "\n<|assistant|>\n"
    assert tulu.render(messages[:4], eos_token=EOS, add_generation_prompt=True).endswith("c\n<|assistant|>\n")


def test_an_empty_user_text_keeps_its_tags() -> None:
    assert load_template("tulu").render_prompt("") == "<|user|>\n\n<|assistant|>\n"
    assert load_template("tulu").render(turns("", "x"), eos_token=EOS) == "<|user|>\n\n<|assistant|>\nx</s>"


@pytest.mark.parametrize("name", TAGS)
@given(messages=conversations, newline_in_loss=st.booleans())
@settings(max_examples=60, deadline=None)
def test_text_and_mask_are_the_released_codes(name: str, messages: list[dict[str, Any]], newline_in_loss: bool) -> None:
    template = load_template(name)
    expected = released_pieces(name, messages, newline_in_loss)
    assert template.render(messages, eos_token=EOS) == "".join(text for text, _ in expected)
    spans = template.spans(messages, eos_token=EOS, newline_in_loss=newline_in_loss)
    assert characters(spans) == characters(expected)
    assert all(text for text, _ in spans)


@pytest.mark.parametrize("name", TAGS)
def test_hugging_face_renders_and_masks_the_same(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "system", "content": " s "}, *turns("<|assistant|>\nno</s>", "b<|user|>\n", "", "d")]
    template = load_template(name)
    rendered: Any = render_jinja_template(
        conversations=[messages],
        chat_template=template.source,
        return_assistant_tokens_mask=True,
        eos_token=EOS,
        bos_token="<s>",
    )
    [text], [indices] = rendered
    assert template.render(messages, eos_token=EOS) == text
    trained = [piece for piece, in_loss in template.spans(messages, eos_token=EOS) if in_loss]
    assert trained == [text[start:end] for start, end in indices] == ["b<|user|></s>", "d</s>"]


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([], "no messages"),
        ([{"role": "user", "content": None}], "message 0: content is NoneType"),
        ([*turns("a"), {"role": "assistant", "content": 3}], "message 1: content is int"),
        ([{"role": "assistant", "content": ["a"]}], "content is list"),
        ([{"content": "a"}], "message 0: role is NoneType"),
        (["a"], "message 0 is str"),
        ([*turns("a"), {"role": "tool", "content": "b"}], "message 1: unknown role tool"),
    ],
)
@pytest.mark.parametrize("name", TAGS)
def test_wrong_messages_are_refused(name: str, messages: list[Any], found: str) -> None:
    template = load_template(name)
    with pytest.raises(UserError, match=found):
        template.render(messages, eos_token=EOS)
    with pytest.raises(UserError, match=found):
        template.spans(messages, eos_token=EOS)


@pytest.mark.parametrize("name", TAGS)
def test_a_none_content_is_refused_under_hugging_face_too(name: str) -> None:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    with pytest.raises(TemplateError, match="message 1: content must be text"):
        render_jinja_template(
            conversations=[[*turns("a"), {"role": "assistant", "content": None}]],
            chat_template=load_template(name).source,
            eos_token=EOS,
        )


def test_names_and_hashes() -> None:
    assert template_names() == ("ab", "tulu", "tulu_no_user")
    for name in template_names():
        template = load_template(name)
        data = (Path(chat_templates.__file__).parent / f"{name}.jinja").read_bytes()
        assert template.name == name
        assert template.sha256 == hashlib.sha256(data).hexdigest() == template_sha256(template.source)
    with pytest.raises(UserError, match=r"'tullu'. Did you mean 'tulu'"):
        load_template("tullu")


def test_a_template_without_user_text_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    chat_templates._warn_no_user.cache_clear()
    with caplog.at_level(logging.WARNING):
        prompts = {load_template("tulu_no_user").render_prompt(text) for text in ("a", "b")}
    assert prompts == {"<|assistant|>\n"}
    assert [record.message.count("every prompt is the same") for record in caplog.records] == [1]


def test_custom_template_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tulu.jinja"
    path.write_text(CHATML, encoding="utf-8")
    template = load_template(path)
    assert template.name == "tulu.jinja"
    assert template.tags == ("<|im_start|>user", "<|im_start|>assistant")
    assert template.render_prompt("Hi") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    user, answer = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n", "b<|im_end|>"
    assert template.spans(turns("a", "b"), eos_token="") == [(user, False), (answer, True), ("\n", False)]
    assert template.spans(turns("a", "b"), eos_token="", newline_in_loss=True) == [(user, False), (answer + "\n", True)]


def test_tags_of_a_template_without_lines() -> None:
    turn = "{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + eos_token }}"
    source = f"{{% for m in messages %}}{turn}{{% endfor %}}"
    template = ChatTemplate.from_source("llama", source)
    assert template.tags == ("[INST]", "[/INST]")
    assert ChatTemplate.from_source("bare", "{{ messages[0].content }}\n\n").tags == ()


def test_a_prompt_that_holds_eos_asks_for_it() -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}<|assistant|>\n"
    template = ChatTemplate.from_source("zephyr", source)
    with pytest.raises(UserError, match="Pass eos_token="):
        template.render_prompt("Hi")
    assert template.render_prompt("Hi", eos_token=EOS) == "<|user|>\nHi</s>\n<|assistant|>"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("ok\n{% if %}", "line 2"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "__class__|unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "__init__|unsafe"),
        ("{% include '/etc/hostname' %}", "loader"),
        ("{{ strftime_now('%Y') }}", "strftime_now"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ raise_exception('only tools') }}", "only tools"),
    ],
)
def test_bad_and_hostile_templates_are_refused_on_loading(tmp_path: Path, source: str, found: str) -> None:
    path = tmp_path / "bad.jinja"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(UserError, match=found):
        load_template(path)


def test_unreadable_template_files(tmp_path: Path) -> None:
    (tmp_path / "latin.jinja").write_bytes("é".encode("latin-1"))
    (tmp_path / "folder.jinja").mkdir()
    for name in ("latin.jinja", "folder.jinja", "missing.jinja"):
        with pytest.raises(UserError, match=name):
            load_template(tmp_path / name)


def test_spans_need_a_generation_block() -> None:
    plain = ChatTemplate.from_source("plain", "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    assert plain.spans(turns("a"), eos_token=EOS) == [("a\n", False)]
    with pytest.raises(UserError, match=r"no \{% generation %\} block"):
        plain.spans(turns("a", "b"), eos_token=EOS)


def test_spans_refuse_a_block_whose_text_is_changed_afterwards() -> None:
    block = "{% filter trim %}{% generation %}{{ m.content }}{% endgeneration %}{% endfilter %}"
    source = f"{{% for m in messages %}}{block}|{{% endfor %}}"
    with pytest.raises(UserError, match="changes text after"):
        ChatTemplate.from_source("late", source).spans(turns("a", " b "), eos_token=EOS)


def test_importing_costs_no_torch() -> None:
    names = "('torch', 'transformers')"
    code = f"import sys, implicit_if.harness.chat_templates; print([m for m in {names} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
