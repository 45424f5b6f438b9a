"""The rules against the definition of a product of experts, computed in float64 with Python loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from implicit_if.model_wrappers.rules.presets import Preset, customise, load_preset
from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor, response_log_probs
from implicit_if.model_wrappers.rules.rules import RULES, Step, TokenWeights, eos_ramp, token_bias, used_token_penalty

V = 23
EOS = [1, 4]
BIAS = {3: -4.0, 7: 1.0, 8: -6.0}


def expected_scores(
    logits: torch.Tensor, prompt: list[int], response: list[int], preset: str, drop: str = ""
) -> torch.Tensor:
    """One row's log p_base·p_rules/Z, float64 `[v]`: the definition, after the paper's and the code's text."""
    rule = torch.zeros(V, dtype=torch.float64)
    i = len(response)
    if "eos" not in drop:
        if preset == "paper":
            ramp = 15.0 * min(i, 250) / 250
        else:
            ramp = 15.0 * i / 250 if 0 < i < 250 else 0.0
        for e in EOS:
            rule[e] += ramp
    if "uniform" not in drop:
        for token, weight in BIAS.items():
            rule[token] += weight
    if "diversity" not in drop:
        for token in set(response) | (set(prompt) if preset == "reference" else set()):
            rule[token] += -1.5
    base = torch.log_softmax(logits.double(), -1)
    return torch.log_softmax(base + torch.log_softmax(rule, -1), -1)


def bound(preset: str, drop: str | None = None) -> BoundRules:
    """The preset with ids of the little vocabulary in place of its strings."""
    rules = customise(load_preset(preset), drop)
    weights = TokenWeights(torch.tensor(sorted(BIAS)), torch.tensor([BIAS[i] for i in sorted(BIAS)]))
    calls = tuple(
        (r.function, {k: weights if isinstance(v, tuple) else v for k, v in r.options.items()}) for r in rules.rules
    )
    return BoundRules(rules, torch.tensor(EOS), calls)


tokens = st.integers(0, V - 1)
rows = st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=4)
logit = st.one_of(st.floats(-30, 30, width=32), st.sampled_from([-1e4, 1e4, -88.0, 88.0, 0.0]))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), prompts=rows, n=st.integers(0, 12), preset=st.sampled_from(["paper", "reference"]))
@pytest.mark.parametrize("drop", ["", "eos", "uniform", "diversity", "eos+uniform"])
def test_processor_equals_the_definition(data: Any, prompts: list[list[int]], n: int, preset: str, drop: str) -> None:
    b = len(prompts)
    responses = [data.draw(st.lists(tokens, min_size=n, max_size=n)) for _ in range(b)]
    logits = torch.tensor(data.draw(hnp.arrays("float32", (b, V), elements=logit)))
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p + r for p, r in zip(prompts, responses, strict=True)])
    scope = torch.tensor([width - len(p) for p in prompts])
    scores = RulesProcessor(bound(preset, drop), width, scope)(ids, logits.clone())
    product = torch.log_softmax(scores.double(), -1)
    for row in range(b):
        expected = expected_scores(logits[row], prompts[row], responses[row], preset, drop)
        assert float(product[row].exp().sum()) == pytest.approx(1, abs=1e-9)
        # float32 holds 1e4 to 1e-3; elsewhere the sums are exact to a few ulp
        tolerance = 1e-5 if logits[row].abs().max() < 1e3 else 4e-3
        torch.testing.assert_close(product[row], expected, rtol=1e-6, atol=tolerance)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    prompt=st.lists(tokens, max_size=5),
    response=st.lists(tokens, min_size=1, max_size=14),
    preset=st.sampled_from(["paper", "reference"]),
    drop=st.sampled_from(["", "eos", "diversity", "eos+diversity"]),
    split=st.integers(0, 13),
)
def test_likelihood_equals_the_definition(
    data: Any, prompt: list[int], response: list[int], preset: str, drop: str, split: int
) -> None:
    t = len(response)
    logits = torch.tensor(data.draw(hnp.arrays("float32", (t, V), elements=logit)))
    rules, ids, scope = bound(preset, drop), torch.tensor(response), torch.tensor(prompt, dtype=torch.long)
    at = min(split, t - 1)  # scored in two chunks
    parts = [response_log_probs(rules, logits[a:z].clone(), ids[:z], a, scope) for a, z in [(0, at), (at, t)] if z > a]
    product, base, greedy = (torch.cat(x) for x in zip(*[(p.product, p.base, p.greedy) for p in parts], strict=True))
    for i, token in enumerate(response):
        expected = expected_scores(logits[i], prompt, response[:i], preset, drop)
        scale = max(1.0, float(logits[i].abs().max()))
        assert float(product[i]) == pytest.approx(float(expected[token]), abs=1e-5 * scale)
        assert float(base[i]) == pytest.approx(
            float(torch.log_softmax(logits[i].double(), -1)[token]), abs=1e-5 * scale
        )
        if bool(greedy[i]):
            assert expected[token] >= expected.max() - 1e-5 * scale
        else:
            assert expected[token] <= expected.max() + 1e-9


def test_greedy_flag_is_the_argmax_of_the_product() -> None:
    logits = torch.zeros(2, V)
    logits[0, 5], logits[0, 6] = 3.0, 2.9
    logits[1, 5], logits[1, 6] = 3.0, 2.9  # 5 was used, so 6 wins by 1.4
    scores = response_log_probs(bound("paper"), logits, torch.tensor([5, 6]))
    assert scores.greedy.tolist() == [True, True]
    logits = torch.zeros(1, V)  # all tie but those the rules move: 7 gains
    assert response_log_probs(bound("paper"), logits.clone(), torch.tensor([7])).greedy.tolist() == [True]
    assert response_log_probs(bound("paper"), logits.clone(), torch.tensor([0])).greedy.tolist() == [False]


def step(index: Any = 0, response: list[list[int]] | None = None, mask: Any = None) -> Step:
    ids = torch.tensor(response if response is not None else [[]], dtype=torch.long)
    return Step(index, torch.tensor(EOS), ids, None if mask is None else torch.tensor(mask))


@pytest.mark.parametrize(
    ("after", "index", "weight"),
    [
        ("hold", 0, 0.0),
        ("hold", 125, 7.5),
        ("hold", 250, 15.0),
        ("hold", 999, 15.0),
        ("zero", 249, 14.94),
        ("zero", 250, 0.0),
    ],
)
def test_eos_ramp(after: Any, index: int, weight: float) -> None:
    scores = torch.zeros(2, V)
    eos_ramp(scores, step(index), maximum=15.0, length=250, after=after)
    assert scores[:, EOS] == pytest.approx(torch.full((2, 2), weight))
    assert scores.count_nonzero() == (4 if weight else 0)


def test_eos_ramp_takes_one_index_a_row() -> None:
    scores = torch.zeros(3, V)
    eos_ramp(scores, step(torch.tensor([0, 50, 500])), maximum=10.0, length=100)
    assert scores[:, 4].tolist() == [0.0, 5.0, 10.0]


def test_used_tokens_count_once_and_masked_repeats_not_at_all() -> None:
    scores = torch.zeros(2, V)
    used_token_penalty(
        scores, step(0, [[5, 5, 9], [5, 9, 9]], [[True, False, True], [False, False, False]]), weight=-2.0
    )
    assert scores.tolist() == [[-2.0 if i in (5, 9) else 0.0 for i in range(V)], [0.0] * V]
    used_token_penalty(scores, step(0, [[5, 6, 6], [7, 7, 7]], [[False, True, True], [True] * 3]), weight=+1.0)
    assert scores[0, 6] == 1.0
    assert scores[0, 5] == -2.0
    assert scores[1, 7] == 1.0


def test_token_bias_leaves_other_columns_bit_identical() -> None:
    scores = torch.randn(2, V)
    before = scores.clone()
    token_bias(scores, step(), weights=TokenWeights(torch.tensor([2]), torch.tensor([0.25])))
    assert torch.equal(scores[:, [i for i in range(V) if i != 2]], before[:, [i for i in range(V) if i != 2]])
    assert torch.equal(scores[:, 2], before[:, 2] + 0.25)


def test_beams_repeat_their_prompts_scope() -> None:
    rules = bound("reference")
    ids = torch.tensor([[0, 5, 2], [0, 5, 2], [6, 7, 2], [6, 7, 2]])
    scores = RulesProcessor(rules, 2, torch.tensor([1, 0]))(ids, torch.zeros(4, V))
    assert scores[:, 0].tolist() == [0.0] * 4, "column 0 of the first prompt is out of scope"
    assert scores[:, 5].tolist() == [-1.5, -1.5, 0.0, 0.0]
    assert scores[:, 6].tolist() == [0.0, 0.0, -1.5, -1.5]


def test_scores_below_float32_are_widened() -> None:
    scores = RulesProcessor(bound("paper"), 1)(torch.tensor([[0, 5]]), torch.zeros(1, V, dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    assert scores[0, 5] == -1.5


def test_scope_start_is_demanded_where_the_prompt_counts() -> None:
    with pytest.raises(ValueError, match="scope_start is needed"):
        RulesProcessor(bound("reference"), 1)


def test_a_fourth_rule_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_eos_first(scores: torch.Tensor, step: Step, *, weight: float = -9.0) -> None:
        scores[:, step.eos_ids] += torch.where(torch.as_tensor(step.index).reshape(-1, 1) == 0, weight, 0.0)

    monkeypatch.setitem(RULES, "no_eos_first", no_eos_first)
    rules = BoundRules(Preset("mine", "", ()), torch.tensor(EOS), (("no_eos_first", {"weight": -9.0}),))
    assert RulesProcessor(rules, 1)(torch.tensor([[0]]), torch.zeros(1, V))[0, 1] == -9.0
    scores = response_log_probs(rules, torch.zeros(2, V), torch.tensor([1, 1]))
    assert scores.product[0] < scores.base[0] - 8
    assert float(scores.product[1]) == pytest.approx(float(scores.base[1]))


def test_presets_differ_where_paper_and_released_code_do() -> None:
    paper, reference = load_preset("paper"), load_preset("reference")
    weights = [dict(p.rules[1].options["weights"]) for p in (paper, reference)]
    assert {s for s in weights[0] if weights[0][s] != weights[1][s]} == {"What"}
    assert (weights[0]["What"], weights[1]["What"]) == (-3.0, -5.0)
    assert [p.rules[0].options["after"] for p in (paper, reference)] == ["hold", "zero"]
    assert [p.rules[2].options["scope"] for p in (paper, reference)] == ["response", "prompt+response"]
