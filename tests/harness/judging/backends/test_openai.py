from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply, Request, chat, error
from hypothesis import given
from hypothesis import strategies as st
from judge_samples import KEY, comparisons

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.verdict_text import parse_text, weigh_letters
from implicit_if.harness.judging.backends.openai import AutoJudge, build
from implicit_if.harness.judging.cost_limit import CostLimitError
from implicit_if.harness.judging.pairs import Pair, make_pairs
from implicit_if.harness.judging.protocol import Comparison, JudgeError, Verdict
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.outputs import Output


def judge(server: FakeServer, model: str = "fake", **options: Any) -> Any:
    return build(model, {"base_url": server.url, "backoff": 0.01, "logprobs": "required"} | options)


def some_pairs(n: int) -> list[Pair]:
    return make_pairs(
        *([Output(instruction=f"q {i}", output=f"{g} {i}", generator=g) for i in range(n)] for g in ("s", "r"))
    )


def by_key(verdicts: Iterator[Verdict]) -> dict[str, Verdict]:
    return {v.key: v for v in verdicts}


# What a verdict is


def test_letters_are_weighted_and_blanks_around_them_ignored(server: FakeServer) -> None:
    server.respond = lambda _: chat("m", {"m": 0.3, " m": 0.2, "M": 0.1, "\u2581M": 0.05, "The": 0.3, "x": 0.05})
    (verdict,) = judge(server).judge(comparisons(1))
    assert verdict.prefers_first == pytest.approx(0.5 / 0.65)
    assert verdict.error is None
    assert verdict.latency is not None
    assert verdict.latency < 5


def test_what_is_kept_gives_the_verdict_again(server: FakeServer) -> None:
    words = {f"w{n}": 0.1 - n / 1000 for n in range(6)}
    server.respond = lambda _: chat("w0", words | {"m": 0.2, " M": 0.05, "x": 0.01, "M": 0.02})
    (verdict,) = judge(server).judge(comparisons(1))
    kept = json.loads(verdict.raw)["top_logprobs"]
    assert set(kept) == {*list(words)[:5], "m", " M", "M"}
    assert weigh_letters(kept.items(), 0.1)[0] == verdict.prefers_first == pytest.approx(0.2 / 0.27)


def test_the_first_token_that_is_not_blank_is_weighed(server: FakeServer) -> None:
    answer = json.loads(chat("\nM", {"M": 0.9, "m": 0.1}).body)
    blank = {"token": "\n", "logprob": 0.0, "top_logprobs": [{"token": "m", "logprob": 0.0}]}
    answer["choices"][0]["logprobs"]["content"].insert(0, blank)
    server.respond = lambda _: Reply(json.dumps(answer).encode())
    (verdict,) = judge(server).judge(comparisons(1))
    assert verdict.prefers_first == pytest.approx(0.1)


def test_the_request_is_as_documented(server: FakeServer) -> None:
    list(judge(server, "some/model").judge([Comparison("k", "Do it.", "One.", "Two.")]))
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = request.body
    assert (body["model"], body["temperature"], body["logprobs"], body["top_logprobs"]) == ("some/model", 0.0, True, 20)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert request.prompt.index("Do it.") < request.prompt.index("One.") < request.prompt.index("Two.")


@given(st.lists(st.tuples(st.sampled_from(["m", "M", " m", "M ", "x"]), st.floats(-20, 0)), min_size=1))
def test_swapping_the_letters_swaps_the_probability(top: list[tuple[str, float]]) -> None:
    there, error_there = weigh_letters(top, 0.0)
    back, _ = weigh_letters([(token.swapcase(), logprob) for token, logprob in top], 0.0)
    if there is None:
        assert error_there
        assert not any(token.strip() in "mM" for token, _ in top)
    else:
        assert back == pytest.approx(1 - there)
        first = sum(math.exp(p) for t, p in top if t.strip() == "m")
        assert there == pytest.approx(first / sum(math.exp(p) for t, p in top if t.strip() in "mM"))


@pytest.mark.parametrize(
    "text", ["m", " m\n", '"m"', "`m`", "**m**", "m.", "(m)", "Because.\n\nVerdict: m", "Verdict: **m**."]
)
def test_text_that_is_a_verdict(text: str) -> None:
    assert parse_text(text) == (1.0, None)
    swapped = text.replace("m", "M") if "Because" not in text else "Because.\n\nVerdict: M"
    assert parse_text(swapped) == (0.0, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "M is better",
        "The best is m",
        "m or M",
        "m\nM",
        "m\nbecause it is right",
        "Verdict: m\nVerdict: M",
        "Verdict: m\nbut on reflection I am not sure",
        "Verdict: neither",
        "mM",
        "m!",
        "Verdict:",
        "My verdict: m",
        "A",
        "<think>",
    ],
)
def test_text_that_is_none(text: str) -> None:
    preference, why = parse_text(text)
    assert preference is None
    assert why


@given(st.text())
def test_only_the_identifiers_are_verdicts(text: str) -> None:
    preference, why = parse_text(text)
    assert (preference is None) == (why is not None)
    if preference is not None:
        assert ("m" if preference == 1.0 else "M") in text


# auto


def test_auto_finds_logprobs_and_says_so(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    auto = judge(server, logprobs="auto")
    assert isinstance(auto, AutoJudge)
    assert not server.requests, "a judge was built, nothing was to be asked yet"
    assert auto.fingerprint == judge(server).fingerprint
    assert auto.fingerprint == auto.fingerprint
    assert len(server.requests) == 1
    assert "logprobs=required" in caplog.text
    assert [v.prefers_first for v in auto.judge(comparisons(2))] == [0.75, 0.75]


def _refuse_logprobs(request: Request) -> Reply:
    return error(400, "logprobs are not supported") if "logprobs" in request.body else chat("M")


@pytest.mark.parametrize("respond", [_refuse_logprobs, lambda _: chat("M")], ids=["refused", "left out"])
def test_auto_falls_back_to_text_and_says_so(
    server: FakeServer, respond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.respond = respond
    auto = judge(server, logprobs="auto")
    assert auto.fingerprint == judge(server, logprobs="text").fingerprint
    assert "logprobs=text" in caplog.text
    assert [v.prefers_first for v in auto.judge(comparisons(2))] == [0.0, 0.0]
    assert ["logprobs" in r.body for r in server.requests] == [True, False, False, False]


def test_one_run_never_mixes_modes(server: FakeServer) -> None:
    auto = judge(server, logprobs="auto")
    _ = auto.fingerprint
    server.respond = lambda r: chat("M") if "answer 1 of" in r.prompt else chat("M", {"M": 0.6, "m": 0.4})
    verdicts = by_key(auto.judge(comparisons(3)))
    assert [verdicts[k].prefers_first for k in "012"] == [pytest.approx(0.4), None, pytest.approx(0.4)]


def test_auto_with_a_wrong_key_stops(server: FakeServer) -> None:
    server.respond = lambda _: error(401)
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        _ = judge(server, logprobs="auto").fingerprint


# Identity, options, cost


def test_the_fingerprint_covers_what_shapes_a_verdict(server: FakeServer, tmp_path: Path) -> None:
    from implicit_if.harness.judging.api.prompts import load_prompt

    other_prompt = tmp_path / "mine.jinja"
    other_prompt.write_text(load_prompt("pairwise").source.replace("careful", "very careful"))
    same = [{}, {"concurrency": 3}, {"timeout": 9}, {"rpm": 5}, {"price_in": 1, "price_out": 1}, {"key_env": "KEY"}]
    different: list[dict[str, Any]] = [
        {"model": "other"},
        {"logprobs": "text"},
        {"temperature": 0.5},
        {"max_tokens": 7},
        {"top_logprobs": 5},
        {"min_mass": 0.5},
        {"max_chars": 100},
        {"revision": "abc"},
        {"body": {"seed": 1}},
        {"prompt": str(other_prompt)},
    ]
    prints = [judge(server, **options).fingerprint for options in same]
    assert len(set(prints)) == 1
    everywhere = {prints[0], *(judge(server, **options).fingerprint for options in different)}
    assert len(everywhere) == 1 + len(different)
    elsewhere = build("fake", {"base_url": "http://127.0.0.1:9/v1", "logprobs": "required"})
    assert elsewhere.fingerprint == prints[0]


def test_options_from_a_command_line_are_converted(server: FakeServer) -> None:
    asked = judge(server, concurrency="3", temperature="0.5", body='{"seed": 1, "max_tokens": null}')
    assert asked.limits.concurrency == 3
    list(asked.judge(comparisons(1)))
    body = server.requests[0].body
    assert (body["temperature"], body["seed"], "max_tokens" in body) == (0.5, 1, False)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"concurency": 3}, "concurrency"),
        ({"api_key": "sk-very-secret"}, "environment"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"logprobs": "maybe"}, "logprobs"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"timeout": "inf"}, "timeout"),
        ({"body": "[" * 100_000}, "nested too deep"),
        ({"deadline": "nan"}, "deadline"),
        ({"price_in": float("inf"), "price_out": 1}, "price_in"),
        ({"prompt": "x" * 300}, "unknown judge prompt"),
        ({"prompt": "~nobody-of-this-name/x.jinja"}, "unknown judge prompt"),
        ({"base_url": "https://user:sk-very-secret@host/v1"}, "credentials"),
        ({"prompt": "pairwize"}, "pairwise"),
        ({"price_in": 1}, "price_out"),
        ({"body": "{"}, "body"),
        ({"body": {"model": "another"}}, "the model belongs to the judge's name"),
    ],
)
def test_a_wrong_option_is_named_and_a_key_is_not_shown(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        build("fake", options)
    assert "sk-very-secret" not in str(caught.value)


def test_a_missing_key_is_an_error_only_elsewhere(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert next(judge(server).judge(comparisons(1))).prefers_first == 0.75
    assert "authorization" not in server.requests[0].headers
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        get_judge("openai:gpt-4.1-mini")


def test_a_placeholder_for_a_key_is_no_secret(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "m")
    assert '"said": "m"' in next(judge(server).judge(comparisons(1))).raw


def test_another_variable_can_hold_the_key(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-other-0123456789")
    list(judge(server, key_env="OTHER_KEY").judge(comparisons(1)))
    assert server.requests[0].headers["authorization"] == "Bearer sk-other-0123456789"


def test_the_address_comes_from_the_environment(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    list(build("fake", {"logprobs": "required"}).judge(comparisons(1)))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    config = tmp_path / "clients.yaml"
    config.write_text(f"fake:\n  - default\ndefault:\n  - base_url: {server.url}\n    api_key: sk-of-the-file\n")
    monkeypatch.setenv("OPENAI_CLIENT_CONFIG_PATH", str(config))
    list(build("fake", {"logprobs": "required"}).judge(comparisons(1)))
    assert [r.headers["authorization"] for r in server.requests] == [f"Bearer {KEY}", "Bearer sk-of-the-file"]
    config.write_text("other: []\n")
    with pytest.raises(UserError, match="OPENAI_CLIENT_CONFIG_PATH"):
        build("fake", {})


def test_costs_are_estimated_and_counted(server: FakeServer) -> None:
    priced = judge(server, price_in=2.0, price_out=8.0)
    assert priced.paid
    verdicts = list(priced.judge(comparisons(2)))
    assert [v.cost for v in verdicts] == [pytest.approx((100 * 2.0 + 2 * 8.0) / 1e6)] * 2
    tokens = sum(len(r.prompt.strip().encode()) for r in server.requests) / 4
    estimate = priced.estimate(comparisons(2))
    assert estimate.calls == 2
    assert estimate.cost == pytest.approx((tokens * 2.0 + 2 * 4 * 8.0) / 1e6, rel=0.01)


def test_prices_are_known_or_unknown_never_guessed(server: FakeServer) -> None:
    local, listed, unlisted = judge(server), build("gpt-4.1-mini", {}), build("gpt-9-turbo", {})
    assert (local.paid, local.estimate(comparisons(1)).cost) == (False, 0.0)
    assert listed.paid
    assert unlisted.paid
    assert build("gpt-9-turbo", {"logprobs": "text"}).estimate(comparisons(1)).cost is None
    assert (build("gpt-4.1-mini", {"logprobs": "text"}).estimate(comparisons(1)).cost or 0) > 0


@pytest.mark.slow
def test_memory_is_flat(server: FakeServer) -> None:
    import tracemalloc

    server.keep_requests = False
    peaks = []
    for n in (300, 3000):
        tracemalloc.start()
        for verdict in judge(server).judge(comparisons(n)):
            assert verdict.prefers_first == 0.75
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("max_cost", [None, 0.0])
def test_a_dry_run_asks_nothing(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], max_cost: float | None
) -> None:
    pairs = some_pairs(3)
    auto = judge(server, logprobs="auto", price_in=1, price_out=10)
    done = annotate(pairs, auto, tmp_path / "a.jsonl", dry_run=True, max_cost=max_cost)
    assert server.requests == []
    assert done.estimate is not None
    text = judge(server, logprobs="text", price_in=1, price_out=10)
    by_text = annotate(pairs, text, tmp_path / "b.jsonl", dry_run=True)
    assert done.estimate == by_text.estimate
    assert "6 verdicts to obtain, 6 calls, estimated cost" in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_a_dry_run_of_a_judge_that_knows_its_mode_is_exact(server: FakeServer, tmp_path: Path) -> None:
    auto = judge(server, logprobs="auto", price_in=1, price_out=10)
    assert auto.fingerprint == judge(server).fingerprint
    done = annotate(some_pairs(3), auto, tmp_path / "a.jsonl", dry_run=True)
    weighted = judge(server, price_in=1, price_out=10)
    assert done.estimate == annotate(some_pairs(3), weighted, tmp_path / "b.jsonl", dry_run=True).estimate
    assert len(server.requests) == 1


# auto and cost under the runner


def usage(reply: Reply, read: int, written: int) -> Reply:
    """The reply with other counts of tokens."""
    body = json.loads(reply.body) | {"usage": {"prompt_tokens": read, "completion_tokens": written}}
    return Reply(json.dumps(body).encode())


@pytest.mark.parametrize("mode", ["required", "text"])
def test_auto_asks_nothing_where_every_verdict_is_stored(
    server: FakeServer, tmp_path: Path, free_port: int, mode: str
) -> None:
    stored = annotate(some_pairs(3), judge(server, logprobs=mode), tmp_path / "a.jsonl", progress=False)
    nobody = {"base_url": f"http://127.0.0.1:{free_port}/v1", "backoff": 0.01, "price_in": 1, "price_out": 1}
    auto = build("fake", nobody)
    for dry_run in (True, False):
        again = annotate(some_pairs(3), auto, tmp_path / "a.jsonl", progress=False, max_cost=0.0, dry_run=dry_run)
        assert again.complete
        assert (again.fingerprint, list(again.preferences)) == (stored.fingerprint, list(stored.preferences))
        assert again.spent == 0.0
    assert auto.fingerprint == stored.fingerprint, "it is settled"
    with pytest.raises(JudgeError, match="base_url"):
        annotate(some_pairs(4), build("fake", nobody), tmp_path / "a.jsonl", progress=False)


@pytest.mark.filterwarnings("ignore:the system's answers are the reference's")
def test_ties_alone_do_not_settle_auto(server: FakeServer, tmp_path: Path) -> None:
    server.respond = lambda _: chat("M")
    auto = judge(server, logprobs="auto")
    ties = make_pairs(*([Output(instruction="q", output="a", generator=g)] for g in ("s", "r")))
    assert annotate(ties, auto, tmp_path / "a.jsonl", progress=False).complete
    assert not server.requests
    assert annotate(some_pairs(3), auto, tmp_path / "a.jsonl", progress=False).complete
    assert auto.fingerprint == judge(server, logprobs="text").fingerprint


def test_the_cost_is_printed_and_the_limit_kept_before_auto_asks(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    priced = {"price_in": 1, "price_out": 10}
    auto = judge(server, logprobs="auto", **priced)
    with pytest.raises(CostLimitError, match=r"above the limit \$0\.0001; nothing was asked"):
        annotate(some_pairs(3), auto, tmp_path / "a.jsonl", progress=False, max_cost=0.0001)
    assert not server.requests
    assert "6 verdicts to obtain, 6 calls, estimated cost about $0.0" in capsys.readouterr().err

    printed: list[str] = []

    def respond(_: Request) -> Reply:
        printed.append(capsys.readouterr().err)
        return chat("m", {"m": 0.75, "M": 0.25})

    server.respond = respond
    done = annotate(some_pairs(3), auto, tmp_path / "a.jsonl", progress=False, max_cost=1)
    assert "6 calls, estimated cost about $0.0" in printed[0]
    assert len(server.requests) == 7
    assert done.spent == pytest.approx(7 * (100 * 1 + 2 * 10) / 1e6), "the trial question is paid for too"
    assert done.cost == pytest.approx(6 * (100 * 1 + 2 * 10) / 1e6)


def test_a_cheap_mode_within_the_limit_is_found_and_a_dear_one_refused(server: FakeServer, tmp_path: Path) -> None:
    priced = {"logprobs": "auto", "price_in": 1, "price_out": 1000}  # 4 tokens a weighted verdict, 512 a text
    done = annotate(some_pairs(3), judge(server, **priced), tmp_path / "a.jsonl", progress=False, max_cost=0.1)
    assert done.complete
    server.respond = lambda _: chat("M")
    server.requests.clear()
    with pytest.raises(CostLimitError, match=r"estimated cost \$3.* \$0.0042 were spent on asking"):
        annotate(some_pairs(3), judge(server, **priced), tmp_path / "b.jsonl", progress=False, max_cost=0.1)
    assert len(server.requests) == 2


def test_auto_takes_text_where_the_first_token_is_no_letter(server: FakeServer, tmp_path: Path) -> None:
    server.respond = lambda _: chat("<think>\nm or M?\n</think>\n\nm", {"<think>": 1.0})
    done = annotate(some_pairs(30), judge(server, logprobs="auto"), tmp_path / "a.jsonl", progress=False)
    assert (done.n_judged, len(server.requests)) == (30, 62)
    assert done.fingerprint == judge(server, logprobs="text").fingerprint


def test_auto_stops_where_neither_mode_gives_a_verdict(server: FakeServer, tmp_path: Path) -> None:
    server.respond = lambda _: chat("Answer m is better.", {"Answer": 1.0})
    auto = judge(server, logprobs="auto")
    with pytest.raises(JudgeError, match=r"logprobs=required, the letters .* logprobs=text, no verdict in.*max_tokens"):
        annotate(some_pairs(30), auto, tmp_path / "a.jsonl", progress=False)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("mode", "option"), [("required", "needs logprobs=text"), ("text", "Raise max_tokens")])
def test_a_judge_without_a_single_verdict_is_stopped_soon(
    server: FakeServer, tmp_path: Path, mode: str, option: str
) -> None:
    server.respond, server.latency = lambda _: chat("Answer m is better.", {"Answer": 1.0}), 0.01
    with pytest.raises(JudgeError, match=f"none of 16 answers held a verdict.*{option}.* 0 of 200"):
        annotate(some_pairs(100), judge(server, logprobs=mode), tmp_path / "a.jsonl", progress=False)
    assert len(server.requests) == len((tmp_path / "a.jsonl").read_text().splitlines()) == 16


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_at_the_limit_every_verdict_that_is_paid_for_is_kept(server: FakeServer, tmp_path: Path, limit: float) -> None:
    """Each verdict costs $0.14, 57 times its estimate, and 64 may be in flight."""
    server.respond, server.latency = lambda _: usage(chat("m", {"m": 0.75, "M": 0.25}), 5000, 3000), 0.02
    dear = judge(server, price_in=10, price_out=30)
    with pytest.raises(CostLimitError) as caught:
        annotate(some_pairs(50), dear, tmp_path / "a.jsonl", progress=False, max_cost=limit)
    kept = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(kept) == len(server.requests) == int(limit / 0.14)
    assert sum(k["cost"] for k in kept) == pytest.approx(0.14 * len(kept))
    assert f"this run has cost ${0.14 * len(kept):.2f}," in str(caught.value)


def test_a_limit_that_is_high_enough_slows_nothing_down(server: FakeServer, tmp_path: Path) -> None:
    server.latency = 0.2
    priced = judge(server, price_in=1, price_out=1)
    assert annotate(some_pairs(100), priced, tmp_path / "a.jsonl", progress=False, max_cost=1).complete
    assert server.most_in_flight > 48


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, 512),
        ({"max_tokens": 16000}, 16000),
        ({"max_tokens": None, "max_completion_tokens": 2000, "temperature": None}, 2000),
        ({"max_completion_tokens": 2000}, 2000),
        ({"max_tokens": None}, None),
        ({"max_tokens": "2000"}, None),
    ],
)
def test_the_estimate_knows_how_long_answers_may_be(
    server: FakeServer, tmp_path: Path, body: dict[str, Any], most: int | None
) -> None:
    priced = judge(server, logprobs="text", price_in=0, price_out=10, body=body)
    estimate = priced.estimate(comparisons(3))
    assert estimate.cost == (None if most is None else pytest.approx(3 * most * 10 / 1e6))
    free = judge(server, logprobs="text", body=body)
    assert (free.paid, free.estimate(comparisons(3)).cost) == (False, 0.0)
    if most is None:
        with pytest.raises(CostLimitError, match="not how long its answers may be"):
            annotate(some_pairs(3), priced, tmp_path / "a.jsonl", progress=False, max_cost=100)
        assert not server.requests
