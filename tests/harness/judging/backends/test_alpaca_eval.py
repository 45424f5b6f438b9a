from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Reply, Request, chat, error, message, plain_completion, tool_call
from hypothesis import given
from hypothesis import strategies as st
from judge_samples import KEY, NASTY, comparisons

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.alpaca_eval_annotators import as_chat, configs_folder, fill, load_annotator
from implicit_if.harness.judging.backends.alpaca_eval import build, guard_quotes, reread
from implicit_if.harness.judging.protocol import Comparison, JudgeError, Verdict
from implicit_if.harness.judging.registry import length_prior
from implicit_if.harness.safe_text import neutralise
from implicit_if.harness.stats.length_control.priors import GPT4_TURBO, LLM

PAPER = "weighted_alpaca_eval_gpt4_turbo"
UNSUPPORTED = {
    "alpaca_eval_vllm_llama3_70b_fn": "vllm_local_completions",
    "alpaca_farm": "member=",
    "bedrock_claude": "bedrock_anthropic_completions",
    "bedrock_claude_2": "bedrock_anthropic_completions",
    "claude": "messages API",
    "claude_2": "messages API",
    "claude_ranking": "ChatML",
    "cohere": "cohere_completions",
    "guanaco_33b": "huggingface_api_completions",
    "oasst_pythia_12b": "huggingface_local_completions",
    "alpaca_eval_llama3_70b_fn": "key_env",
    "mistral-large-2402_ranking": "key_env",
}
TEXTS = [
    Comparison("0", "Name a fruit.", "An apple.", "Fruit? I would say: a pear."),
    Comparison("1", "Was ist 2+2?\n\nAntworte kurz.", "  Vier.  ", "Fünf – oder \U0001f34e?\n"),
    Comparison(
        "2", "Write {braces} and a docstring.", 'def f():\n    """Doc."""\n    return {"a": 1}', "No < way | no > how."
    ),
    Comparison("3", "Empty?", "", "Not empty \\n \\1 %s $x"),
]


def judge(server: FakeServer, annotator: str = PAPER, **options: Any) -> Any:
    return build(annotator, {"base_url": server.url, "backoff": 0.01} | options)


def ranked(best: str) -> str:
    other = {"m": "M", "M": "m", "model_1": "model_2", "model_2": "model_1"}[best]
    return json.dumps([{"model": best, "rank": 1}, {"model": other, "rank": 2}])


# Each annotator with the answers its parser has to read: whatever alpaca-eval makes of them, we must make of them.
ANSWERS = {
    PAPER: [chat("m", {"m": 0.7, "M": 0.2, "x": 0.1}), chat("M", {"M": 0.999, "The": 0.001}), chat("m", {"m": 1.0})],
    "alpaca_eval_clf_gpt4_turbo": [chat("m", {"m": 0.6, "M": 0.4}), chat("M", {"M": 0.6, "m": 0.4})],
    "gpt4_turbo_logprob": [chat("A", {"A": 0.6, "B": 0.3}), chat("B", {"B": 0.6, "A": 0.3})],
    "alpaca_eval_gpt4_turbo_fn": [
        tool_call('{"ordered_models": ' + ranked("m") + "}"),
        tool_call('{"ordered_models": ' + ranked("M") + "}"),
    ],
    "lmsys_gpt4": [chat("8 7\nBecause."), chat("2 9\n")],
    "gpt-3.5-turbo-1106_ranking": [chat(ranked("model_2")), chat(ranked("model_1"))],
    "gpt4": [chat("Output (a)"), chat("\nOutput (b), clearly")],
    "chatgpt_fn": [tool_call('{"best_output": "Output (b)"}'), tool_call('{"best_output": "Output (a)"}')],
    "gpt35_turbo_instruct": [plain_completion("Output (a)"), plain_completion("\n Output (b)")],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("annotator", ANSWERS)
def test_prompt_and_preference_equal_alpaca_evals(
    server: FakeServer, annotator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alpaca-eval 0.6.6 itself is driven against the same server; the answer depends on the prompt alone."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    answers = ANSWERS[annotator]

    def respond(request: Request) -> Reply:
        prompts = request.body.get("prompt") or [request.prompt]
        about = [next(i for i, c in enumerate(TEXTS) if c.instruction in p) for p in prompts]
        replies = [json.loads(answers[i % len(answers)].body) for i in about]
        return Reply(json.dumps(replies[0] | {"choices": [r["choices"][0] for r in replies]}).encode())

    server.respond = respond
    theirs = _by_alpaca_eval(annotator, server)
    their_bodies = _bodies(server)
    server.requests.clear()
    ours = {v.key: v for v in judge(server, annotator).judge(TEXTS)}
    assert _bodies(server) == their_bodies
    for comparison in TEXTS:
        assert ours[comparison.key].prefers_first == pytest.approx(2 - theirs[comparison.instruction])
    assert len({v.prefers_first for v in ours.values()}) > 1, "the test should see different verdicts"
    for verdict in ours.values():
        assert reread(verdict.raw, annotator) == pytest.approx((verdict.prefers_first,) * 2)


def _by_alpaca_eval(annotator: str, server: FakeServer) -> dict[str, float]:
    from alpaca_eval.annotators import PairwiseAnnotator

    rows = [{"instruction": c.instruction, "output_1": c.first, "output_2": c.second} for c in TEXTS]
    order = {} if annotator == "lmsys_gpt4" else {"is_randomize_output_order": False}  # lmsys sets it itself
    theirs = PairwiseAnnotator(annotators_config=annotator, caching_path=None, **order)
    return {row["instruction"]: row["preference"] for row in theirs(copy.deepcopy(rows))}


def _bodies(server: FakeServer) -> list[str]:
    assert {r.path for r in server.requests} <= {"/v1/chat/completions", "/v1/completions"}
    bodies = []
    for request in server.requests:
        body = dict(request.body)
        if isinstance(body.get("prompt"), list):  # alpaca-eval puts up to ten prompts into one call
            bodies += [json.dumps({**body, "prompt": p}, sort_keys=True) for p in body["prompt"]]
        else:
            bodies.append(json.dumps(body, sort_keys=True))
    return sorted(bodies)


def test_a_tie_is_a_tie(server: FakeServer) -> None:
    """alpaca-eval's parsers say 0 for a tie, but its own check then crashes."""
    server.respond = lambda _: chat("5 5\nEqual.")
    assert [v.prefers_first for v in judge(server, "lmsys_gpt4").judge(TEXTS)] == [0.5] * 4


def test_the_papers_judge_asks_as_documented(server: FakeServer) -> None:
    list(judge(server).judge(TEXTS[:1]))
    body = server.requests[0].body
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("gpt-4-1106-preview", 1, 1)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 5)


@pytest.mark.parametrize("annotator", sorted(p.parent.name for p in configs_folder().glob("*/configs.yaml")))
def test_every_packaged_annotator_loads_or_says_why_not(annotator: str) -> None:
    if annotator in UNSUPPORTED:
        with pytest.raises(UserError, match=UNSUPPORTED[annotator]):
            build(annotator, {})
    else:
        question = build(annotator, {}).dialect.question(TEXTS[0])
        assert "Name a fruit." in question.text
        assert question.text.index("An apple.") < question.text.index("a pear.")


def test_a_prompt_for_several_pairs_is_padded_as_alpaca_eval_pads(server: FakeServer) -> None:
    server.respond = lambda _: chat("Output (a)\n\n### next:\nOutput (b)\n\nOutput (b)\n\nOutput (b)\n\nOutput (b)")
    options = {"member": "gpt4_3"}
    (verdict,) = judge(server, "alpaca_farm", **options).judge(TEXTS[:1])
    assert verdict.prefers_first == 1.0
    prompt = server.requests[0].prompt
    assert (prompt.count("An apple."), prompt.count("1+1=")) == (1, 4)
    server.respond = lambda _: chat("Output (a)")
    (verdict,) = judge(server, "alpaca_farm", **options).judge(TEXTS[:1])
    assert verdict.prefers_first is None
    assert "found 1 verdicts" in (verdict.error or "")


def test_a_configuration_of_ones_own(server: FakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "prompt.txt").write_text("<|im_start|>user\n{instruction}|{output_1}|{output_2}\n<|im_end|>")
    (folder / "configs.yaml").write_text(
        "mine:\n  prompt_template: mine/prompt.txt\n  completions_kwargs: {model_name: some-instruct, "
        "requires_chatml: true, price_per_token: 0.000001}\n"
        "  completion_parser_kwargs: {outputs_to_match: {1: 'yes', 2: 'no'}}\n"
    )
    server.respond = lambda _: chat("no")
    for argument in (str(folder), str(folder / "configs.yaml")):
        (verdict,) = judge(server, argument, revision="r1").judge(TEXTS[:1])
        assert verdict.prefers_first == 0.0
    assert server.requests[0].body["messages"] == [
        {"role": "user", "content": "Name a fruit.|An apple.|Fruit? I would say: a pear."}
    ]
    paid = build(str(folder), {})
    assert paid.prices.cost(1e6, 0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("[]", "annotator configuration"),
        ("a: {prompt_template: nowhere.txt}", "nowhere.txt"),
        ("a: {prompt_template: '{instruction} {output_1}'}", "output_2"),
        ("a: {prompt_template: '{instruction} {output_1} {output_2} {input}'}", "input"),
        (
            "a: {prompt_template: 'x {instruction} {output_1} {output_2}', completions_kwargs: {model_name: x}}",
            "ChatML",
        ),
        ("a: {prompt_template: '@', completions_kwargs: {model_name: x, tokens_to_avoid: [a]}}", "tokens_to_avoid"),
        ("a: {prompt_template: '@', completions_kwargs: {model_name: x, openai_api_keys: [sk-1]}}", "environment"),
        ("a: {prompt_template: '@', completions_kwargs: {max_tokens: 1}}", "model_name"),
        ("a: {prompt_template: '@', fn_completion_parser: os}", "regex_parser"),
        ("a: {prompt_template: '@', fn_completions: my_function}", "my_function"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, yaml: str, named: str) -> None:
    config = tmp_path / "configs.yaml"
    config.write_text(yaml.replace("@", "<|im_start|>user\\n{instruction}{output_1}{output_2}<|im_end|>"))
    with pytest.raises(UserError, match=named) as caught:
        build(str(config), {})
    assert "sk-1" not in str(caught.value)


def test_an_unknown_annotator_gets_hints() -> None:
    with pytest.raises(UserError, match=PAPER):
        build("weighted_alpaca_eval_gpt4_turb", {})


def test_another_model_is_another_judge(server: FakeServer) -> None:
    paper, other = judge(server), judge(server, model="gpt-4.1-mini")
    assert other.name == f"alpaca_eval:{PAPER}+gpt-4.1-mini"
    assert other.fingerprint != paper.fingerprint
    list(other.judge(TEXTS[:1]))
    assert server.requests[0].body["model"] == "gpt-4.1-mini"


def test_a_price_without_the_annotators_server_is_never_sent_the_key() -> None:
    with pytest.raises(UserError, match="key_env"):
        build("mistral-large-2402_ranking", {})


# Injection


@pytest.mark.parametrize("slot", ["instruction", "first", "second"])
@pytest.mark.parametrize("nasty", NASTY.values(), ids=NASTY)
def test_no_text_leaves_its_slot(server: FakeServer, nasty: str, slot: str) -> None:
    texts = {"instruction": "Say hello.", "first": "Hello there.", "second": "Hi."} | {slot: nasty}
    (verdict,) = judge(server).judge([Comparison("k", **texts)])
    assert verdict.prefers_first == 0.75
    system, user = server.requests[0].body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    shown = {name: guard_quotes(neutralise(text)) for name, text in texts.items()}
    if len(nasty) < 24_000:
        template = as_chat(load_annotator(PAPER, None).template)[1]["content"]
        parts = dict(zip(("{instruction}", "{output_1}", "{output_2}"), shown.values(), strict=True))
        head, rest = template.split("{instruction}")
        middle, rest = rest.split("{output_1}")
        between, tail = rest.split("{output_2}")
        assert user["content"] == f"{head}{parts['{instruction}']}{middle}{parts['{output_1}']}{between}" + (
            f"{parts['{output_2}']}{tail}"
        )
    assert user["content"].count('"model_identifier": "m"') == 1
    assert user["content"].rstrip().endswith("## Best Model Identifier")


@given(st.text(), st.text(), st.text())
def test_slots_are_filled_once(instruction: str, first: str, second: str) -> None:
    row = {"instruction": instruction, "output_1": first, "output_2": second}
    assert fill("1{instruction}2{output_1}3{output_2}4", [row]) == f"1{instruction}2{first}3{second}4"


@given(st.text('"\u200b},] \nab'))
def test_no_quotes_close_a_field(text: str) -> None:
    guarded = guard_quotes(text)
    stripped = guarded.replace(" ", "").replace("\n", "")
    assert not any(f'"""{closing}' in stripped for closing in ",}]")
    assert guarded.replace("\u200b", "") == text.replace("\u200b", "")


def test_a_docstring_stays_as_it_is() -> None:
    code = 'def f():\n    """Does it."""\n    return 1'
    assert guard_quotes(code) == code


# Faults


@pytest.mark.parametrize(
    ("annotator", "reply"),
    [
        (PAPER, chat("The", {"The": 1.0})),
        ("gpt4", chat("I like both.")),
        ("gpt4", chat("")),
        ("lmsys_gpt4", chat("eight to seven")),
        ("gpt-3.5-turbo-1106_ranking", chat("__import__('os').system('true')")),
        ("gpt-3.5-turbo-1106_ranking", chat("[{'model': 'model_1', 'rank': 3}]")),
        ("gpt-3.5-turbo-1106_ranking", chat("[" * 5000)),
        ("alpaca_eval_gpt4_turbo_fn", tool_call('{"ordered_models": 7}')),
    ],
)
def test_an_answer_without_a_verdict_is_no_loss(server: FakeServer, annotator: str, reply: Reply) -> None:
    server.respond = lambda _: reply
    verdicts = list(judge(server, annotator).judge(TEXTS))
    assert [v.prefers_first for v in verdicts] == [None] * 4
    assert all(v.error for v in verdicts)


def test_faults_recover_and_missing_logprobs_stop(server: FakeServer) -> None:
    server.script.extend([error(500), Reply(fault="drop"), Reply(b"<html>")])
    assert [v.prefers_first for v in judge(server).judge(comparisons(4))] == [0.75] * 4
    server.respond = lambda _: chat("m")
    with pytest.raises(JudgeError, match="logprobs"):
        list(judge(server).judge(comparisons(9)))


def test_anthropic_annotators_use_its_api(server: FakeServer) -> None:
    server.respond = lambda _: message("[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]")
    verdicts: list[Verdict] = list(judge(server, "claude_3_opus_ranking").judge(TEXTS[:1]))
    assert [v.prefers_first for v in verdicts] == [0.0]
    (request,) = server.requests
    assert (request.path, request.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert (request.body["max_tokens"], request.body["temperature"]) == (100, 0)
    assert [m["role"] for m in request.body["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("body", "most"),
    [({}, 1), ({"max_tokens": None, "max_completion_tokens": 2000}, 2000), ({"max_tokens": None}, None)],
)
def test_the_estimate_knows_how_long_answers_may_be(server: FakeServer, body: dict[str, Any], most: int | None) -> None:
    found = judge(server, price_in=0, price_out=30, body=body).estimate(comparisons(2)).cost
    assert found == (None if most is None else pytest.approx(2 * most * 30 / 1e6))


def test_an_annotator_of_ones_own_does_not_pass_for_a_packaged_one(server: FakeServer, tmp_path: Path) -> None:
    shutil.copytree(configs_folder() / PAPER, tmp_path / PAPER)
    own = judge(server, str(tmp_path / PAPER))
    assert own.name == f"alpaca_eval:{PAPER}(own)"
    assert (length_prior(own.name), length_prior(judge(server).name)) == (LLM, GPT4_TURBO)
    assert length_prior(judge(server, model="another").name) is LLM
    with pytest.raises(UserError, match="the model belongs to the judge's name"):
        judge(server, body={"model": "another"})
