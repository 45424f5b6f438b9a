"""What an answer's envelope says: finish reasons, open thoughts, several parts, usage of useless answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply, chat, message
from judge_samples import comparisons

from implicit_if.harness.judging.backends import alpaca_eval, anthropic, openai
from implicit_if.harness.judging.cost_limit import CostLimitError
from implicit_if.harness.judging.pairs import make_pairs
from implicit_if.harness.judging.protocol import JudgeError, Verdict
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.outputs import Output


def ask(server: FakeServer, reply: Reply, **options: Any) -> Verdict:
    server.respond = lambda _: reply
    judge = openai.build("fake", {"base_url": server.url, "backoff": 0.01, "logprobs": "text", "retries": 1} | options)
    (verdict,) = judge.judge(comparisons(1))
    return verdict


def changed(reply: Reply, *path: Any, value: Any) -> Reply:
    body = json.loads(reply.body)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return Reply(json.dumps(body).encode())


def said_in_parts(*parts: Any) -> Reply:
    return changed(chat(""), "choices", 0, "message", "content", value=list(parts))


@pytest.mark.parametrize("finish", ["length", "content_filter", "refusal", "error"])
def test_an_answer_that_did_not_end_by_itself_is_no_verdict(server: FakeServer, finish: str) -> None:
    verdict = ask(server, chat("m", finish=finish))
    assert verdict.prefers_first is None
    assert finish in (verdict.error or "")
    assert len(server.requests) == 1


@pytest.mark.parametrize("end", ["MAX_TOKENS", "LENGTH", "SAFETY", "RECITATION", "OTHER", "model_length", "abort",
                                 "repetition", "load", ["stop"], {"type": "stop"}, 7, True])  # fmt: skip
@pytest.mark.parametrize("mode", ["text", "required"])
def test_only_known_reasons_leave_a_verdict(server: FakeServer, end: Any, mode: str) -> None:
    reply = changed(chat("m", {"m": 0.75, "M": 0.25}), "choices", 0, "finish_reason", value=end)
    verdict = ask(server, reply, logprobs=mode)
    cut = mode == "required" and end in ("MAX_TOKENS", "LENGTH", "model_length")  # the first letter is there
    assert verdict.prefers_first == (0.75 if cut else None)
    assert cut or "ended by" in (verdict.error or "")


@pytest.mark.parametrize("end", ["stop", "STOP", "eos", "eos_token", "COMPLETE", "end_turn", "stop_sequence", "", None])
def test_servers_call_an_end_differently(server: FakeServer, end: str | None) -> None:
    assert ask(server, changed(chat("m"), "choices", 0, "finish_reason", value=end)).prefers_first == 1.0


def test_one_letter_with_logprobs_may_be_cut_but_not_filtered(server: FakeServer) -> None:
    letters = {"m": 0.75, "M": 0.25}
    assert ask(server, chat("m", letters, finish="length"), logprobs="required").prefers_first == 0.75
    assert ask(server, chat("m", letters, finish="content_filter"), logprobs="required").prefers_first is None


def test_a_refusal_in_a_field_of_its_own_is_no_verdict(server: FakeServer) -> None:
    refusal = changed(chat(""), "choices", 0, "message", value={"content": None, "refusal": "I cannot."})
    assert "refusal" in (ask(server, refusal).error or "")


@pytest.mark.parametrize(
    "text",
    [
        "<think>Let me see.\nVerdict: m",
        "[THINK]Verdict: m",
        "<think>a</think>Well.\n<reasoning>\nVerdict: m",
        "<|channel|>analysis<|message|>Hm.\nVerdict: m",
        "<|channel>thought\nVerdict: m",
        "> Verdict: m",
        "He said:\n> Verdict: m",
    ],
)
def test_open_thoughts_and_quotes_are_no_verdict(server: FakeServer, text: str) -> None:
    verdict = ask(server, chat(text))
    assert verdict.prefers_first is None
    assert verdict.error


def test_a_closed_thought_does_not_count_and_the_verdict_does(server: FakeServer) -> None:
    assert ask(server, chat("<seed:think>Verdict: M</seed:think>\nVerdict: m")).prefers_first == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        said_in_parts({"type": "text", "text": "m"}),
        said_in_parts({"type": "reasoning", "text": "M is better"}, {"type": "text", "text": "m"}),
        said_in_parts({"type": "text", "text": "Verdict:"}, {"type": "output_text", "text": " m"}, 7, {"type": "text"}),
    ],
)
def test_a_content_of_several_parts_is_understood(server: FakeServer, reply: Reply) -> None:
    assert ask(server, reply).prefers_first == 1.0
    assert len(server.requests) == 1


@pytest.mark.parametrize("stop", ["max_tokens", "refusal", "pause_turn", "guardrail_intervened", ["end_turn"]])
def test_anthropic_says_why_it_stopped(server: FakeServer, stop: Any) -> None:
    server.respond = lambda _: changed(message("m"), "stop_reason", value=stop)
    (verdict,) = anthropic.build("claude", {"base_url": server.url}).judge(comparisons(1))
    assert verdict.prefers_first is None
    assert str(stop) in (verdict.error or "").replace("'", "") or str(stop) in (verdict.error or "")


@pytest.mark.parametrize(
    ("finish", "text"),
    [("length", "(a)"), ("content_filter", "Output (a)"), ("abort", "(a)"), ("stop", "<think>Output (a)")],
)
def test_alpaca_evals_parsers_see_whole_answers_only(server: FakeServer, finish: str, text: str) -> None:
    server.respond = lambda _: chat(text, finish=finish)
    (verdict,) = alpaca_eval.build("alpaca_eval_gpt4", {"base_url": server.url}).judge(comparisons(1))
    assert verdict.prefers_first is None
    assert verdict.error
    assert json.loads(verdict.raw)["finish_reason"] == finish


# Money

BROKEN = [
    Reply(b'{"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}'),
    Reply(b'{"choices": "m", "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}'),
    changed(
        changed(chat(""), "choices", 0, "message", "content", value={"text": "m"}),
        "usage", value={"prompt_tokens": 1000, "completion_tokens": 1000},
    ),
]  # fmt: skip


@pytest.mark.parametrize("reply", BROKEN)
def test_a_charged_answer_counts_whether_it_parses_or_not(server: FakeServer, reply: Reply) -> None:
    verdict = ask(server, reply, price_in=1000, price_out=1000, retries=8)
    assert verdict.prefers_first is None
    assert verdict.cost == pytest.approx(2.0)
    assert len(server.requests) == 1, "what is charged is not asked again within a run"


def pairs(n: int) -> list[Any]:
    return make_pairs(
        *([Output(instruction=f"q {i}", output=f"{g} {i}", generator=g) for i in range(n)] for g in ("s", "r"))
    )


def test_max_cost_holds_against_broken_answers(server: FakeServer, tmp_path: Path) -> None:
    """Each costs $2; after some good ones all are broken."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
    good = changed(chat("m"), "usage", value=usage)
    server.respond = lambda _: good if len(server.requests) <= 4 else BROKEN[0]
    options = {"base_url": server.url, "logprobs": "text", "price_in": 1000, "price_out": 1000, "max_tokens": 1}
    judge = openai.build("fake", options)
    with pytest.raises(CostLimitError, match=r"stopped at the limit \$61.00"):
        annotate(pairs(50), judge, tmp_path / "a.jsonl", progress=False, max_cost=61)
    assert 2 * len(server.requests) <= 61


def test_a_judge_whose_every_charged_answer_is_broken_is_stopped(server: FakeServer, tmp_path: Path) -> None:
    server.respond = lambda _: BROKEN[0]
    options = {"base_url": server.url, "logprobs": "text", "price_in": 1, "price_out": 1}
    with pytest.raises(JudgeError, match="none of .* answers held a verdict"):
        annotate(pairs(100), openai.build("fake", options), tmp_path / "a.jsonl", progress=False)
    assert len(server.requests) <= 32
