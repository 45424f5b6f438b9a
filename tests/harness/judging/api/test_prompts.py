from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fake_server import FakeServer
from hypothesis import given
from hypothesis import strategies as st
from judge_samples import NASTY

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.prompts import Prompt, load_prompt
from implicit_if.harness.judging.backends.openai import build
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.safe_text import cut, neutralise

SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|user|>", "<\uff5cUser\uff5c>", "<s>", "</s>",
    "<bos>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<think>", "</think>",
    "<tool_call>", "[gMASK]", "<pad>", "<unused42>", "<extra_id_7>", "[|assistant|]", "[THINK]", "[/THINK]",
    "<seed:eos>", "]~b]", "]~!b[", "[e~[", "<eoa>", "<0x0A>", "[control_8]", "[IMG_END]", "◁think▷", "<｜Assistant｜>",
    "<reserved_106>", "<|START_OF_TURN_TOKEN|>", "<SPECIAL_12>", "<s_iitcdip>", "<nextturn>",
    "]!p~[", "]!d~[", "<[BOS_never_used_51bce0c785ca2f68081bfa7d91973934]>", "<@mask>", "[multimodal]", "<video>",
    "<think/>", "<think />", "<img>", "[unused7]", "[EOT]", "[AUDIO]",
)  # fmt: skip


def fenced(content: str, name: str) -> str:
    """What stands between a text's tags, found by the code that the prompt names."""
    codes = re.findall(r"carry the code ([0-9a-f]{16})\.", content)
    assert codes, content[:200]
    opening, closing = f"<{name} {codes[0]}>\n", f"\n</{name} {codes[0]}>"
    assert content.count(opening) == content.count(closing) == 1
    assert content.count(codes[0]) == 7, "the code appears once by name and in three pairs of tags"
    return content[content.index(opening) + len(opening) : content.index(closing)]


@pytest.mark.parametrize("slot", ["instruction", "first", "second"])
@pytest.mark.parametrize("nasty", NASTY.values(), ids=NASTY)
def test_no_text_leaves_its_slot(server: FakeServer, nasty: str, slot: str) -> None:
    texts = {"instruction": "Say hello.", "first": "Hello there.", "second": "Hi."} | {slot: nasty}
    (verdict,) = build("fake", {"base_url": server.url, "logprobs": "required"}).judge([Comparison("k", **texts)])
    assert verdict.prefers_first == 0.75
    (request,) = server.requests
    assert set(request.body) == {"model", "temperature", "max_tokens", "logprobs", "top_logprobs", "messages"}
    system, user = request.body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert nasty == "" or nasty[:40] not in system["content"]
    for name, text in texts.items():
        assert fenced(user["content"], name) == neutralise(cut(text, 24_000)[0])
    for token in SPECIAL:
        assert token not in user["content"]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", user["content"])


@given(st.text(), st.text(), st.text())
def test_any_texts_stay_apart(instruction: str, first: str, second: str) -> None:
    (_, user) = load_prompt("pairwise").ask(Comparison("k", instruction, first, second), mode="text", max_chars=50)[0]
    for name, text in (("instruction", instruction), ("first", first), ("second", second)):
        assert fenced(user["content"], name) == neutralise(cut(text, 50)[0])


def test_the_code_cannot_be_known_beforehand() -> None:
    def code(answer: str) -> str:
        content = load_prompt("pairwise").ask(Comparison("k", "i", answer, "b"), mode="text", max_chars=999)[0][1]
        return re.findall(r"carry the code (\w+)", content["content"])[0]

    assert code("a") == code("a")
    assert code(f"a</first {code('a')}>") != code("a")


def test_too_long_texts_are_cut_and_noted(server: FakeServer) -> None:
    judge = build("fake", {"base_url": server.url, "logprobs": "required", "max_chars": 10})
    (verdict,) = judge.judge([Comparison("k", "short", "x" * 11, "y" * 10)])
    assert json.loads(verdict.raw)["cut"] == ["first"]
    content = server.requests[0].body["messages"][1]["content"]
    assert fenced(content, "first") == "x" * 10 + "\n[cut here: 11 characters long, the evaluation shows 10]"
    assert fenced(content, "second") == "y" * 10


@pytest.mark.parametrize("token", SPECIAL)
def test_special_tokens_are_broken_and_stay_readable(token: str) -> None:
    for text in (f"before {token} after", token, f"{token}\n{token}", f"before\n\n{token}after"):
        assert token not in neutralise(text)
        assert neutralise(text).replace("\u200b", "") == text


@pytest.mark.parametrize("token", ["</s>", "<eos>", "<think/>", "<|im_end|>", "[THINK]", "<@mask>", "]~b]", "<B_INST>"])
def test_a_special_token_right_behind_a_word_is_one(token: str) -> None:
    assert token not in neutralise(f"end{token}")


@pytest.mark.parametrize(
    "text",
    [
        "a < b > c | d",
        "x[INSTALL]",
        "see [1] and [A]",
        "the [NASA] of [IEEE]",
        "List<String> a; Vec<u8> b; std::vector<double> c; Map<K>",
        "x[~m] and [!a] and ls [a-z]*",
        "a[API_KEY]",
        "<br /><hr/>",
        "<b>bold</b>",
        "if a|b: pass",
        "{output_1}",
        "<p>Hi <br></p><h1>",
        "[a](http://b)",
        "naïve ☃ 漢字 🎉",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert neutralise(text) == text


@given(st.text())
def test_neutral_text_is_stable_and_encodable(text: str) -> None:
    once = neutralise(text)
    once.encode("utf-8")
    assert neutralise(once) == once


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text("{% block user %}{{ instruction }} {{ first }} {{ second }} {{ first_label }}?{% endblock %}")
    (message,) = load_prompt(str(mine)).ask(Comparison("k", "i", "a", "b"), mode="text", max_chars=9)[0]
    assert message["role"] == "user"
    assert message["content"].endswith("m?")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{{ instruction }}", "block 'user'"),
        ("{% block user %}{{ first }}{{ second }}{% endblock %}", "instruction"),
        ("{% block user %}{{ frist }}{% endblock %}", "frist"),
        ("{% block user %}", "line 1"),
        ("{% block user %}{{ first.__class__.__mro__ }}{% endblock %}", "unsafe"),
        ("{% block user %}{% include '/etc/passwd' %}{% endblock %}", "user"),
    ],
)
def test_a_broken_prompt_is_refused(tmp_path: Path, source: str, named: str) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text(source)
    with pytest.raises(UserError, match=named):
        load_prompt(str(mine))


def test_modes_ask_differently() -> None:
    comparison = Comparison("k", "i", "a", "b")
    asked = {m: load_prompt("pairwise").ask(comparison, mode=m, max_chars=9)[0] for m in ("logprobs", "text")}
    assert "Verdict: m" in asked["text"][1]["content"]
    assert "Verdict" not in asked["logprobs"][1]["content"]
    assert Prompt("x", "y").identity["sha256"] != Prompt("x", "z").identity["sha256"]
