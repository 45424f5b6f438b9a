from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_if import __version__
from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.signature import Signature, make_signature, outputs_sha256

names = st.text(min_size=1, max_size=20)
hashes = st.text("0123456789abcdef", min_size=8, max_size=8)
settings = st.builds(
    AnswerSettings,
    system_instruction=st.just("") | hashes,
    template=st.sampled_from(["", "tulu@f96a4d3f", "model"]),
    generation=st.sampled_from(["", "greedy,256", "sampled,512,seed=1,temperature=0.7"]),
    dtype=st.sampled_from(["", "float32", "bfloat16"]),
)
signatures = st.builds(
    Signature,
    instruction_set=names,
    instruction_revision=st.none() | names,
    n=st.integers(0, 10**6),
    reference=names,
    reference_hash=hashes,
    judge=names,
    judge_hash=hashes,
    orders=st.sampled_from([1, 2]),
    lc=st.none() | names,
    version=names,
    task=names,
    answers=settings,
)

PLAIN = Signature("builtin", "v1", 80, "base", "0123abcd", "openai:gpt-4.1-mini", "89ef0123", 2, None, "0.3.0")

OLD = str(PLAIN).removeprefix("task:alpaca_winrate|")
"""As version 0.1 wrote it."""


@given(signatures)
def test_parse_is_the_inverse_of_str(signature: Signature) -> None:
    text = str(signature)
    assert Signature.parse(text) == signature
    assert len(text.splitlines()) == 1
    assert text.count("|") == 6 + (signature.lc is not None) + sum(map(bool, dataclasses.astuple(signature.answers)))


@given(signatures, signatures)
def test_different_settings_have_different_signatures(one: Signature, other: Signature) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.text(max_size=60) | signatures.flatmap(lambda s: st.permutations(str(s).split("|"))).map("|".join))
def test_parse_accepts_the_canonical_form_only(text: str) -> None:
    try:
        signature = Signature.parse(text)
    except UserError:
        return
    assert text in (str(signature), str(signature).removeprefix("task:alpaca_winrate|"))


def test_the_form_people_read() -> None:
    assert str(PLAIN) == (
        "task:alpaca_winrate|set:builtin@v1|n:80|ref:base@0123abcd|judge:openai:gpt-4.1-mini@89ef0123|orders:2|v:0.3.0"
    )
    controlled = dataclasses.replace(PLAIN, lc="offline", instruction_revision=None)
    assert str(controlled) == (
        "task:alpaca_winrate|set:builtin|n:80|ref:base@0123abcd|judge:openai:gpt-4.1-mini@89ef0123|orders:2|lc:offline|v:0.3.0"
    )


def test_a_signature_names_its_task_and_one_of_version_0_1_is_the_win_rate_s() -> None:
    assert OLD.startswith("set:")
    assert Signature.parse(OLD) == Signature.parse(str(PLAIN)) == PLAIN
    audit = dataclasses.replace(PLAIN, task="chatbot_audit")
    assert str(audit) == f"task:chatbot_audit|{OLD}"
    assert Signature.parse(str(audit)) == audit != PLAIN


def test_an_attempt_rate_names_its_judge_and_no_reference() -> None:
    rate = dataclasses.replace(PLAIN, reference=None, reference_hash=None, orders=None, judge="embedded")
    assert str(rate) == "task:alpaca_winrate|set:builtin@v1|n:80|attempts:embedded@89ef0123|v:0.3.0"
    assert Signature.parse(str(rate)) == rate != PLAIN
    made = make_signature(instruction_set="a", instruction_revision=None, n=1, judge="openai:x", fingerprint="ab" * 32)
    assert str(made) == f"task:alpaca_winrate|set:a|n:1|attempts:openai:x@abababab|v:{__version__}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": None}, "part of a reference"),
        ({"orders": None}, "part of a reference"),
        ({"reference": None, "reference_hash": None, "orders": None, "lc": "offline"}, "without a reference"),
    ],
)
def test_half_of_a_reference_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PLAIN, **change)  # type: ignore[arg-type]
    for text in (f"{PLAIN}|attempts:a@89ef0123", str(PLAIN).replace("|ref:base@0123abcd", "")):
        with pytest.raises(UserError, match="not a signature"):
            Signature.parse(text)


def test_what_shaped_the_answers_stands_between_orders_and_length_control() -> None:
    answers = AnswerSettings("0123abcd", "tulu@f96a4d3f", "greedy,256", "float32")
    told = dataclasses.replace(PLAIN, answers=answers, lc="offline")
    assert str(told).endswith(
        "|orders:2|sys:0123abcd|tpl:tulu@f96a4d3f|gen:greedy,256|dtype:float32|lc:offline|v:0.3.0"
    )
    assert Signature.parse(str(told)) == told
    assert Signature.parse(OLD).answers == AnswerSettings(), "version 0.1 told nothing of it"


def test_a_name_cannot_forge_another_field() -> None:
    forged = dataclasses.replace(PLAIN, reference="x|judge:human@00000000", judge="a@b%7C\n")
    assert "|judge:human" not in str(forged)
    assert Signature.parse(str(forged)) == forged


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing 'set'"),
        ("-1.0", "missing"),
        (str(PLAIN).replace("|n:80", ""), "missing 'n'"),
        (str(PLAIN) + "|tok:13a", "unknown 'tok'"),
        (str(PLAIN).replace("n:80", "n:eighty"), "eighty"),
        (str(PLAIN).replace("n:80", "n:080"), "canonical form"),
        (str(PLAIN).replace("n:80", "n:-1"), "n is -1"),
        (str(PLAIN).replace("orders:2", "orders:3"), "orders is 3"),
        (str(PLAIN).replace("0123abcd", "0123ABCD"), "8 hex digits"),
        (str(PLAIN).replace("@89ef0123", ""), "8 hex digits"),
        (str(PLAIN).replace("set:builtin", "set:"), "instruction_set is empty"),
        (str(PLAIN) + "|v:0.3.0", "canonical form"),
        ("task:|" + OLD, "task is empty"),
        ("task:audit|" + str(PLAIN), "canonical form"),
        (OLD.replace("|n:80", "|n:80|task:audit"), "canonical form"),
    ],
)
def test_malformed_signatures_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Signature.parse(text)


def test_make_signature_shortens_hashes_and_knows_the_version() -> None:
    signature = make_signature(
        instruction_set="alpaca_eval",
        instruction_revision="2edc6fad" + "0" * 32,
        n=805,
        reference="sibling",
        reference_sha256="ab" * 32,
        judge="embedded",
        fingerprint="cd" * 32,
        orders=1,
        lc="offline",
    )
    assert str(signature) == (
        f"task:alpaca_winrate|set:alpaca_eval@2edc6fad|n:805|ref:sibling@abababab|judge:embedded@cdcdcdcd|orders:1|"
        f"lc:offline|v:{__version__}"
    )


def test_outputs_sha256_depends_on_the_answers_only() -> None:
    a = Output(instruction="one", output="1", generator="x")
    b = Output(instruction="two", output="2", generator="x")
    renamed = Output(instruction_id=a.instruction_id, output="1", generator="y")
    assert outputs_sha256([a, b]) == outputs_sha256([b, renamed])
    assert outputs_sha256([a, b]) != outputs_sha256([a])
    assert outputs_sha256([a]) != outputs_sha256([Output(instruction="one", output="2", generator="x")])
