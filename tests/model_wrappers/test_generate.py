"""Decoding in shrinking batches gives what one row at a time gives, token for token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import LogitsProcessorList

from implicit_if.harness.generation import Generation
from implicit_if.model_wrappers.generate import decode_batch
from implicit_if.model_wrappers.prompt_batches import Prompts
from implicit_if.model_wrappers.rules.presets import load_preset
from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor

PROMPTS = ["What!", "I should", "the < man", " We # think | what ##", "a", "!!", "x y z"]
NEW = 40


def batch(tokenizer: Any, texts: list[str]) -> Prompts:
    encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    return Prompts(encoded["input_ids"], encoded["attention_mask"])


def rules_for(tokenizer: Any) -> BoundRules:
    return BoundRules.bind(load_preset("paper"), tokenizer, [1])


def decode(model: Any, tokenizer: Any, texts: list[str], rules: BoundRules | None, **kwargs: Any) -> list[Generation]:
    def processors(width: int, rows: torch.Tensor) -> LogitsProcessorList:
        assert rules is not None
        return LogitsProcessorList([RulesProcessor(rules, width)])

    return decode_batch(
        model,
        tokenizer,
        batch(tokenizer, texts),
        kwargs.pop("new", NEW),
        eos_ids=torch.tensor([1]),
        processors=processors if rules else None,
        do_sample=False,
        **kwargs,
    )


def by_hand(model: Any, tokenizer: Any, text: str, with_rules: bool) -> list[int]:
    """Greedy decoding as the released code does it: one row, no cache, the rules added to the log-softmax in a loop."""
    ids = tokenizer(text)["input_ids"]
    response: list[int] = []
    groups = [(-4, "< Ġ< |"), (-5, "ĠI I"), (-3, "ĠWe What"), (-6, "Ġshould"), (1, "Ġ* Ġ- ĠĠĠ Ġ# Ġ## Ċ !")]
    weights = {tokenizer.get_vocab()[piece]: weight for weight, pieces in groups for piece in pieces.split()}
    while len(response) < NEW:
        with torch.no_grad():
            scores = torch.log_softmax(model(torch.tensor([ids + response])).logits[0, -1].float(), -1)
        if with_rules:
            scores[1] += 15.0 * len(response) / 250
            for token, weight in weights.items():
                scores[token] += weight
            for token in set(response):
                scores[token] -= 1.5
        response.append(int(scores.argmax()))
        if response[-1] == 1:
            break
    return response


@pytest.fixture(scope="module")
def eager_to_stop(tiny_model: Any, tokenizer: Any) -> Any:
    """The tiny model with EOS made likely enough that rows end at different times under the rules."""
    import copy

    model = copy.deepcopy(tiny_model)
    bias = torch.zeros(len(tokenizer))
    bias[1] = 9.0
    head = torch.nn.Linear(32, len(tokenizer))
    head.weight.data, head.bias.data = model.lm_head.weight.data, bias
    model.lm_head = head
    return model


@pytest.mark.parametrize("with_rules", [False, True])
def test_tokens_equal_decoding_by_hand(eager_to_stop: Any, tokenizer: Any, with_rules: bool) -> None:
    rules = rules_for(tokenizer) if with_rules else None
    answers = decode(eager_to_stop, tokenizer, PROMPTS, rules)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens = by_hand(eager_to_stop, tokenizer, prompt, with_rules)
        assert answer == tokenizer.decode([t for t in tokens if t != 1])
        assert answer.finish_reason == ("eos" if tokens[-1] == 1 else "length")
        assert answer.n_tokens == len([t for t in tokens if t != 1])
    assert answers == [decode(eager_to_stop, tokenizer, [p], rules)[0] for p in PROMPTS]
    if with_rules:
        assert len({a.n_tokens for a in answers}) > 2, "rows must end at different times for the test to mean something"


def test_a_stop_string_ends_its_row_and_is_cut(eager_to_stop: Any, tokenizer: Any) -> None:
    free = decode(eager_to_stop, tokenizer, PROMPTS, None)
    longest = max(free, key=len)
    stop = longest[3:5]
    for before, after in zip(free, decode(eager_to_stop, tokenizer, PROMPTS, None, stop=[stop]), strict=True):
        if stop in before:
            assert (after, after.finish_reason) == (before[: before.index(stop)], "stop")
        else:
            assert (after, after.finish_reason) == (before, before.finish_reason)


def test_length_is_the_reason_at_the_limit(tiny_model: Any, tokenizer: Any) -> None:
    answers = decode(tiny_model, tokenizer, PROMPTS[:2], None, new=3)
    assert [(a.finish_reason, a.n_tokens) for a in answers] == [("length", 3)] * 2


def test_beam_search_equals_generate(eager_to_stop: Any, tokenizer: Any) -> None:
    rules = rules_for(tokenizer)
    prompts = batch(tokenizer, PROMPTS[:3])
    width = prompts.ids.shape[1]
    sequences = eager_to_stop.generate(
        prompts.ids,
        attention_mask=prompts.mask,
        max_length=width + 12,
        num_beams=3,
        do_sample=False,
        eos_token_id=1,
        pad_token_id=1,
        logits_processor=LogitsProcessorList([RulesProcessor(rules, width)]),
    )
    expected = [tokenizer.decode(s[width:], skip_special_tokens=True) for s in sequences]
    assert decode(eager_to_stop, tokenizer, PROMPTS[:3], rules, new=12, num_beams=3) == expected


def test_a_static_cache_gives_the_same_tokens(eager_to_stop: Any, tokenizer: Any) -> None:
    rules = rules_for(tokenizer)
    answers = decode(eager_to_stop, tokenizer, PROMPTS, rules, cache_implementation="static")
    assert answers == decode(eager_to_stop, tokenizer, PROMPTS, rules)


@pytest.mark.parametrize("preset", ["paper", "reference"])
def test_the_processor_compiles_as_one_graph(tokenizer: Any, preset: str) -> None:
    rules = BoundRules.bind(load_preset(preset), tokenizer, [1])
    generator = torch.Generator().manual_seed(0)
    processor = RulesProcessor(rules, 3, torch.tensor([1, 2]))
    graphs = CompileCounter()  # type: ignore[no-untyped-call]
    compiled = torch.compile(processor.__call__, backend=graphs, fullgraph=True, dynamic=True)
    for width in (3, 4, 9, 260):
        ids = torch.randint(len(tokenizer), (2, width), generator=generator)
        scores = torch.randn(2, len(tokenizer), generator=generator)
        torch.testing.assert_close(compiled(ids, scores.clone()), processor(ids, scores.clone()), rtol=0, atol=0)
    assert 0 < graphs.frame_count < 4, "compiled, and not anew at every width"


def test_sampling_runs_and_is_seeded(eager_to_stop: Any, tokenizer: Any) -> None:
    def sample() -> list[Generation]:
        torch.manual_seed(3)
        return decode_batch(
            eager_to_stop, tokenizer, batch(tokenizer, PROMPTS), NEW, eos_ids=torch.tensor([1]), do_sample=True, top_k=5
        )

    assert sample() == sample()


def test_steps_are_reported_with_the_rows_decoded(eager_to_stop: Any, tokenizer: Any) -> None:
    decoded: list[int] = []
    answers = decode(eager_to_stop, tokenizer, PROMPTS, rules_for(tokenizer), on_step=decoded.append)
    assert decoded[0] == len(PROMPTS)
    assert decoded == sorted(decoded, reverse=True)
    grown = sum(a.n_tokens + (a.finish_reason == "eos") for a in answers)
    assert grown <= sum(decoded) <= 2 * grown


def test_a_generation_is_a_string_that_survives_pickling() -> None:
    import pickle

    answer = pickle.loads(pickle.dumps(Generation.of("text", "eos", 3)))  # noqa: S301  what lm-eval's cache does
    assert (answer, answer.finish_reason, answer.n_tokens) == ("text", "eos", 3)


# ---------------------------------------------------------------------- what depends on the whole
def beams_by_hand(model: Any, tokenizer: Any, text: str, rules: BoundRules, new: int, width: int = 2) -> list[int]:
    """Beam search by its definition: the sums of log-probabilities of base times rules, each normalised."""
    prompt = tokenizer(text)["input_ids"]
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(new):
        grown = []
        for total, tokens in beams:
            with torch.no_grad():
                ids = torch.tensor([[*prompt, *tokens]])
                scores = RulesProcessor(rules, len(prompt))(ids, model(ids).logits[:, -1].double())
            values, choices = torch.log_softmax(scores[0], -1).topk(2 * width)
            grown += [(total + v, [*tokens, c]) for v, c in zip(values.tolist(), choices.tolist(), strict=True)]
        beams = sorted((b for b in grown if b[1][-1] != 1), reverse=True)[:width]
    return beams[0][1]


def test_beams_compare_probabilities_of_the_product(tiny_model: Any, tokenizer: Any) -> None:
    rules = rules_for(tokenizer)
    texts = [f"{text} {n}" for text in PROMPTS for n in range(3)]
    expected = [tokenizer.decode(beams_by_hand(tiny_model, tokenizer, text, rules, 6)) for text in texts]
    assert decode(tiny_model, tokenizer, texts, rules, new=6, num_beams=2) == expected
    assert decode(tiny_model, tokenizer, texts, rules, new=6, num_beams=2, renormalize_logits=False) != expected


@pytest.mark.parametrize(
    "argument",
    [{"min_new_tokens": 12}, {"begin_suppress_tokens": [1]}, {"exponential_decay_length_penalty": (1, 3.0)}],
)
def test_arguments_that_count_from_the_prompts_end_do_not_see_the_batch(
    eager_to_stop: Any, tokenizer: Any, argument: dict[str, Any]
) -> None:
    alone = [decode(eager_to_stop, tokenizer, [text], None, **argument)[0] for text in PROMPTS]
    together = decode(eager_to_stop, tokenizer, PROMPTS, None, **argument)
    assert together == alone
    assert [(a.finish_reason, a.n_tokens) for a in together] == [(a.finish_reason, a.n_tokens) for a in alone]
    assert together != decode(eager_to_stop, tokenizer, PROMPTS, None), "the argument must change something"


@pytest.mark.parametrize("as_id", [True, False])
def test_the_answer_is_what_follows_the_thought(tiny_model: Any, tokenizer: Any, as_id: bool) -> None:
    plain = decode(tiny_model, tokenizer, PROMPTS, None)
    end = next(c for c in plain[0][5:] if c.isascii() and c.isalnum())
    think_end = tokenizer.get_vocab()[end] if as_id else end
    answers = decode(tiny_model, tokenizer, PROMPTS, None, think_end=think_end)
    for whole, answer in zip(plain, answers, strict=True):
        assert answer == (whole.rpartition(end)[2].lstrip() if end in whole else ""), "a thought that was cut"
        assert answer.n_tokens == whole.n_tokens


def test_a_stop_string_in_a_thought_stops_nothing(tiny_model: Any, tokenizer: Any) -> None:
    (plain,) = decode(tiny_model, tokenizer, PROMPTS[:1], None)
    end = next(c for c in plain[8:] if c.isascii() and c.isalnum() and c not in plain[:8])
    (answer,) = decode(tiny_model, tokenizer, PROMPTS[:1], None, think_end=end, stop=[plain[:2]])
    after = plain.rpartition(end)[2].lstrip()
    assert answer == after.partition(plain[:2])[0]


def test_an_answer_that_ends_without_a_thought_is_the_answer(eager_to_stop: Any, tokenizer: Any) -> None:
    plain = decode(eager_to_stop, tokenizer, PROMPTS, None)
    answers = decode(eager_to_stop, tokenizer, PROMPTS, None, think_end="</think>")
    assert answers == ["" if a.finish_reason == "length" else a for a in plain]
    assert any(answers)


# ---------------------------------------------------------------------- samples
SAMPLING = {"do_sample": True, "temperature": 1.3, "top_k": 12, "top_p": 0.9}
SEEDS = [17 * n + 5 for n in range(len(PROMPTS))]


def sampled(
    model: Any, tokenizer: Any, which: list[int], seeds: Sequence[int] = SEEDS, **kwargs: Any
) -> list[Generation]:
    return decode_batch(
        model,
        tokenizer,
        batch(tokenizer, [PROMPTS[i] for i in which]),
        NEW,
        eos_ids=torch.tensor([1]),
        seeds=[seeds[i] for i in which],
        **(SAMPLING | kwargs),
    )


def test_a_rows_samples_depend_on_its_seed_alone(eager_to_stop: Any, tokenizer: Any) -> None:
    everyone = list(range(len(PROMPTS)))
    together = sampled(eager_to_stop, tokenizer, everyone)
    assert len({a.n_tokens for a in together}) > 2, "rows leave the batch at different steps"
    alone = [sampled(eager_to_stop, tokenizer, [i])[0] for i in everyone]
    torch.manual_seed(99)
    backwards = sampled(eager_to_stop, tokenizer, everyone[::-1])[::-1]
    assert together == alone == backwards
    assert [a.n_tokens for a in together] == [a.n_tokens for a in alone]
    assert sampled(eager_to_stop, tokenizer, everyone, seeds=[s + 1 for s in SEEDS]) != together


@pytest.mark.parametrize("with_rules", [False, True])
def test_samples_follow_the_distribution_after_rules_temperature_and_top_k(
    tiny_model: Any, tokenizer: Any, with_rules: bool
) -> None:
    rules, rows, temperature, k = rules_for(tokenizer) if with_rules else None, 3000, 2.0, 6
    answers = decode_batch(
        tiny_model,
        tokenizer,
        batch(tokenizer, ["What!"] * rows),
        1,
        eos_ids=torch.tensor([1]),
        processors=(lambda width, _: LogitsProcessorList([RulesProcessor(rules, width)])) if rules else None,
        seeds=range(rows),
        do_sample=True,
        temperature=temperature,
        top_k=k,
    )
    ids = batch(tokenizer, ["What!"]).ids
    with torch.no_grad():
        scores = tiny_model(ids).logits[:, -1].float()
    scores = RulesProcessor(rules, ids.shape[1])(ids, scores)[0] if rules else scores[0]
    best = scores.topk(k)
    expected: Counter[str] = Counter()
    for i, p in zip(best.indices.tolist(), (best.values / temperature).softmax(-1).tolist(), strict=True):
        expected[tokenizer.decode([i])] += p  # single bytes look alike
    drawn = Counter(map(str, answers))
    assert len(expected) > 2
    assert drawn.keys() == expected.keys()
    for text, p in expected.items():
        assert abs(drawn[text] / rows - p) < 5 * (p * (1 - p) / rows) ** 0.5


@pytest.mark.parametrize(
    "other", [{"num_beams": 2}, {"prompt_lookup_num_tokens": 2}, {"cache_implementation": "static"}]
)
def test_other_ways_of_decoding_keep_transformers_draws(tiny_model: Any, tokenizer: Any, other: dict[str, Any]) -> None:
    def twice(seeds: list[int]) -> list[Generation]:
        torch.manual_seed(4)
        return sampled(tiny_model, tokenizer, [0], seeds=seeds, **other)

    assert twice([1]) == twice([2])
