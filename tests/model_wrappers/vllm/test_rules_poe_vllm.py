"""The rules on vLLM's interfaces, row by row against `RulesProcessor`, on engines that stand in for vLLM's."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.rules.presets import customise, load_preset
from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.model_wrappers.vllm.requests import RULES_ARGUMENT, read_rules, request_arguments

sys.path.insert(0, str(Path(__file__).parent))  # for `import vllm_stand_in`

import vllm_stand_in
from vllm_stand_in import Engine, LegacyEngine, Request, SamplingParams, SlotEngine

OURS = "implicit_if.model_wrappers"
VOCABULARY = 272
ENGINES = [LegacyEngine, SlotEngine]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def processor(patch: pytest.MonkeyPatch) -> Any:
    """The processor's class, on both interfaces of the stand-in."""
    vllm_stand_in.install(patch)
    patch.delitem(sys.modules, f"{OURS}.vllm.processor", raising=False)
    return importlib.import_module(f"{OURS}.vllm.processor").RulesLogitsProcessor


@pytest.fixture(scope="module")
def wrapper_class(processor: Any, patch: pytest.MonkeyPatch) -> Any:
    for name in ("lm_eval.models.vllm_causallms", f"{OURS}.vllm.rules_poe_vllm"):
        patch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(f"{OURS}.vllm.rules_poe_vllm").RulesPoEVLLM


@pytest.fixture(scope="module")
def rule_sets(tokenizer: Any) -> list[BoundRules]:
    """No rules, two presets, and one with its options changed."""
    presets = [
        load_preset(None),
        load_preset("paper"),
        load_preset("reference"),
        customise(load_preset("paper"), "uniform", {"diversity.weight": 2.0, "eos.maximum": 40}),
    ]
    return [BoundRules.bind(preset, tokenizer, [1, 7]) for preset in presets]


def random_scores(request: Request) -> torch.Tensor:
    """The same for the same request at the same point, whatever row it stands in."""
    generator = torch.Generator().manual_seed(1000 * request.number + len(request.output))
    scores = torch.randn(VOCABULARY, generator=generator)
    scores[len(request.output) % 20 + 40] += 2.0  # tokens come again
    return scores


def make_requests(rule_sets: list[BoundRules], seed: int, count: int) -> tuple[list[Request], list[BoundRules]]:
    dice = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, size: int = 1) -> list[int]:
        return torch.randint(low, high, (size,), generator=dice).tolist()

    requests, rules = [], []
    for number in range(count):
        prompt = draw(20, 100, draw(2, 30)[0])
        own = rule_sets[draw(0, len(rule_sets))[0]]
        scope = draw(0, len(prompt))[0] if own.prompt_after else 0
        params = SamplingParams(draw(1, 25)[0], extra_args=request_arguments(own, scope) or None)
        requests.append(Request(number, prompt, params))
        rules.append(own)
    return requests, rules


def check_rows(engine: Engine, requests: list[Request], rules: list[BoundRules]) -> int:
    """Runs the engine; every row it samples from must be what `RulesProcessor` makes of that request alone."""
    compared = 0
    step = engine.step

    def checked(*arguments: Any) -> Any:
        nonlocal compared
        rows = step(*arguments)
        for request, row in rows:
            own, scores = rules[request.number], random_scores(request)[None]
            if own:
                scope = int(request.params.extra_args.get("implicit_if_scope", 0))
                alone = RulesProcessor(own, len(request.prompt), torch.tensor([scope]))
                scores = alone(torch.tensor([request.tokens]), scores)
            assert torch.equal(row, scores[0])
            compared += 1
        return rows

    engine.step = checked  # type: ignore[method-assign]
    engine.run(requests, random_scores, finish_at_limit)
    assert all(len(r.output) == r.params.max_tokens for r in requests)
    return compared


def finish_at_limit(request: Request) -> None:
    if len(request.output) == request.params.max_tokens:
        request.finish_reason = "length"


# ---------------------------------------------------------------------- the processor
@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 7), preemption=st.sampled_from([0.0, 0.1, 0.4]))
def test_every_row_equals_the_processor_of_transformers(
    processor: Any, rule_sets: list[BoundRules], engine: type[Engine], seed: int, rows: int, preemption: float
) -> None:
    requests, rules = make_requests(rule_sets, seed, count=9)
    running = engine(processor, rows, seed)
    running.preemption = preemption
    assert check_rows(running, requests, rules) == sum(r.params.max_tokens for r in requests)


@pytest.mark.parametrize("preemption", [0.0, 0.3])
def test_tokens_that_are_filled_in_late_count(processor: Any, rule_sets: list[BoundRules], preemption: float) -> None:
    requests, rules = make_requests(rule_sets, seed=5, count=12)
    engine = LegacyEngine(processor, 4, seed=1)
    engine.asynchronous, engine.preemption = True, preemption
    check_rows(engine, requests, rules)


def test_tokens_that_vllm_takes_back_are_forgotten(processor: Any, rule_sets: list[BoundRules]) -> None:
    own = processor(SimpleNamespace(), torch.device("cpu"), False)
    output = [50, 51, 52]
    params = SamplingParams(extra_args=request_arguments(rule_sets[1], 0))
    own.update_state(vllm_stand_in.BatchUpdate(1, [], [(0, params, [5], output)], []))
    own.apply(torch.zeros(1, VOCABULARY))
    del output[1:]
    own.apply(torch.zeros(1, VOCABULARY))
    output.append(53)
    logits = own.apply(torch.zeros(1, VOCABULARY))
    assert [token for token in range(50, 54) if logits[0, token] == -1.5] == [50, 53]


def test_a_token_that_is_never_filled_in_is_an_error(processor: Any, rule_sets: list[BoundRules]) -> None:
    requests, _ = make_requests(rule_sets[1:2], seed=5, count=3)
    engine = LegacyEngine(processor, 3)
    engine.asynchronous, engine.repairs = True, False
    with pytest.raises(RuntimeError, match="placeholder"):
        engine.run(requests, random_scores, finish_at_limit)


def test_the_documented_example_of_a_batch_update(processor: Any, rule_sets: list[BoundRules]) -> None:
    """[A, B, C, D]: A and C end, E comes; vLLM's design document gives this update for it."""
    prompts = {name: [30 + n, 40 + n] for n, name in enumerate("ABCDE")}
    outputs = {name: [50 + n] for n, name in enumerate("ABCDE")}
    params = SamplingParams(extra_args=request_arguments(rule_sets[1], 0))
    own = processor(SimpleNamespace(), torch.device("cpu"), False)
    added = [(n, params, prompts[name], outputs[name]) for n, name in enumerate("ABCD")]
    own.update_state(vllm_stand_in.BatchUpdate(4, [], added, []))
    one_way, swap = vllm_stand_in.MoveDirectionality.UNIDIRECTIONAL, vllm_stand_in.MoveDirectionality.SWAP
    entering = (0, params, prompts["E"], outputs["E"])
    own.update_state(vllm_stand_in.BatchUpdate(3, [2], [entering], [(3, 2, one_way), (0, 1, swap)]))
    own.update_state(None)
    logits = own.apply(torch.zeros(3, VOCABULARY))
    used = [[token for token in range(50, 55) if logits[row, token] == -1.5] for row in range(3)]
    assert used == [outputs["B"], outputs["E"], outputs["D"]]


def test_a_row_of_a_request_without_rules_is_not_touched(processor: Any, rule_sets: list[BoundRules]) -> None:
    own = processor(SimpleNamespace(), torch.device("cpu"), False)
    ruled = SamplingParams(extra_args=request_arguments(rule_sets[1], 0))
    added = [(0, SamplingParams(), [5], [6]), (1, ruled, None, [6]), (2, SamplingParams(extra_args={"x": 1}), [5], [6])]
    own.update_state(vllm_stand_in.BatchUpdate(3, [], added, []))
    logits = own.apply(torch.zeros(3, VOCABULARY))
    assert logits.abs().sum(1).bool().tolist() == [False, True, False]


def test_scores_below_float32_are_widened(processor: Any, rule_sets: list[BoundRules]) -> None:
    own = processor(SimpleNamespace(), torch.device("cpu"), False)
    assert own.apply(torch.zeros(2, VOCABULARY, dtype=torch.bfloat16)).dtype == torch.bfloat16, "nothing to do"
    params = SamplingParams(extra_args=request_arguments(rule_sets[1], 0))
    own.update_state(vllm_stand_in.BatchUpdate(1, [], [(0, params, [5], [6] * 3)], []))
    logits = own.apply(torch.zeros(1, VOCABULARY, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert logits[0, 1] == pytest.approx(15 * 3 / 250, abs=1e-7)


def test_a_prompt_read_in_parts_harms_nobody(processor: Any, rule_sets: list[BoundRules]) -> None:
    """vLLM throws the scores of an unfinished prompt away; the row beside it must be right."""
    requests, rules = make_requests(rule_sets[2:3], seed=8, count=2)
    engine = SlotEngine(processor, 2)
    engine.step([], requests, random_scores)
    slots = [engine.slots[r] for r in requests]
    lengths = [len(requests[0].tokens), 1]  # of the second, one token has been read
    context = SimpleNamespace(
        idx_mapping_np=slots, pos=torch.tensor(lengths) - 1, seq_lens_upper_bound_np=[max(lengths), 1]
    )
    logits = engine.processor.apply(torch.stack([random_scores(r) for r in requests]), context)
    scope = torch.tensor([requests[0].params.extra_args["implicit_if_scope"]])
    alone = RulesProcessor(rules[0], len(requests[0].prompt), scope)
    expected = alone(torch.tensor([requests[0].tokens]), random_scores(requests[0])[None])
    assert torch.equal(logits[0], expected[0])
    assert logits[1].isfinite().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_speculative_decoding_is_refused(processor: Any, engine: type[Engine]) -> None:
    with pytest.raises(ValueError, match="speculative"):
        engine(processor, 2, speculative_config={"num_speculative_tokens": 3})


def test_rows_that_are_no_requests_are_refused(processor: Any, rule_sets: list[BoundRules]) -> None:
    requests, _ = make_requests(rule_sets[1:2], seed=8, count=1)
    engine = SlotEngine(processor, 2)
    engine.step([], requests, random_scores)
    context = SimpleNamespace(idx_mapping_np=[1], pos=torch.tensor([4, 5]), seq_lens_upper_bound_np=[6])
    with pytest.raises(RuntimeError, match="2 rows for 1 requests"):
        engine.processor.apply(torch.zeros(2, VOCABULARY), context)


@pytest.mark.parametrize("interfaces", [{"legacy": True, "default": False}, {"legacy": False, "default": True}])
def test_one_interface_is_enough(interfaces: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    vllm_stand_in.install(monkeypatch, **interfaces)
    monkeypatch.delitem(sys.modules, f"{OURS}.vllm.processor", raising=False)
    made = importlib.import_module(f"{OURS}.vllm.processor").RulesLogitsProcessor
    assert issubclass(made, vllm_stand_in.LegacyLogitsProcessor) == interfaces["legacy"]
    assert issubclass(made, vllm_stand_in.LogitsProcessor) == interfaces["default"]
    (LegacyEngine if interfaces["legacy"] else SlotEngine)(made, 2)


# ---------------------------------------------------------------------- what a request carries
def test_a_requests_rules_survive_the_way_to_the_worker(rule_sets: list[BoundRules]) -> None:
    for rules in rule_sets[1:]:
        sent = json.loads(json.dumps(request_arguments(rules, 3)))  # plain values only
        read = read_rules(sent[RULES_ARGUMENT])
        assert sent.get("implicit_if_scope") == (3 if rules.prompt_after else None)
        assert (read.eos_ids.tolist(), read.prompt_after) == (rules.eos_ids.tolist(), rules.prompt_after)
        assert request_arguments(read, 3) == sent
    assert request_arguments(rule_sets[0], 3) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"eos": [1]}', '{"eos": [1], "calls": [["shout", {}]]}', "3"])
def test_damaged_rules_are_refused_on_arrival(processor: Any, text: str) -> None:
    with pytest.raises(ValueError, match=RULES_ARGUMENT):
        processor.validate_params(SamplingParams(extra_args={RULES_ARGUMENT: text}))
    processor.validate_params(SamplingParams(extra_args={"other": 1}))


# ---------------------------------------------------------------------- the wrapper
PROMPTS = [f"<|user|>\n{text}\n<|assistant|>\n" for text in ("What", "a list of I", "x", "the man", "!")]


def generate(model: Any, prompts: list[str] = PROMPTS, **kwargs: Any) -> list[Any]:
    arguments = {"until": [], "max_gen_toks": 20, "do_sample": False} | kwargs
    requests = [Instance("generate_until", {}, (p, arguments), i, metadata=("t", i, 1)) for i, p in enumerate(prompts)]
    return list(model.generate_until(requests))


def facts(answers: list[Any]) -> list[tuple[str, str, int]]:
    return [(str(a), a.finish_reason, a.n_tokens) for a in answers]


@pytest.fixture(scope="module")
def ending_folder(tiny_model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with a larger EOS row, so that some answers end by themselves."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("ending")
    shutil.copytree(tiny_model_folder, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][1] *= 2.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rules", ["paper", "reference", None])
def test_answers_equal_rules_poe(
    wrapper_class: Any, ending_folder: str, engine: type[Engine], rules: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_stand_in.LLM, "engine", engine)
    on_vllm = wrapper_class(ending_folder, rules=rules)
    on_hf = RulesPoE(ending_folder, rules=rules, device="cpu", dtype="float32", batch_size=1)
    expected = facts(generate(on_hf))
    assert facts(generate(on_vllm)) == expected
    assert len({n for _, _, n in expected}) > 1, "requests must end at different times"
    stop = next(text for text, _, _ in expected if len(text) > 4)[2:4]
    stopped = facts(generate(on_vllm, until=[stop]))
    assert "stop" in {reason for _, reason, _ in stopped}
    assert stopped == facts(generate(on_hf, until=[stop]))


@pytest.mark.parametrize(
    ("context", "counted"),
    [
        ("zq<|user|>\nman\n<|assistant|>\n", "man\n<|assistant|>\n"),
        ("<|user|>\na<|user|>\nb", "b"),
        ("no tag", "no tag"),
        ("z" * 50 + "<|user|>\nm" + "a" * 219, "m" + "a" * 175),  # 280 tokens, of which 44 in the middle go
        ("<|user|>\n" + "b" * 30 + "c" * 236, "b" * 30 + "c" * 196),
    ],
)
def test_what_counts_as_used_in_a_prompt(wrapper_class: Any, ending_folder: str, context: str, counted: str) -> None:
    model = wrapper_class(ending_folder, rules="reference")
    tokens, params = model._prepare(context, {"until": [], "max_gen_toks": 20})
    assert len(tokens) <= 236
    assert model.tokenizer.decode(tokens[params.extra_args["implicit_if_scope"] :]) == counted


@pytest.mark.parametrize("rules", ["paper", "reference"])
def test_a_special_token_in_an_instruction_stays_text(wrapper_class: Any, ending_folder: str, rules: str) -> None:
    prompt = load_template("tulu").render_prompt("What does </s> mean?")
    model = wrapper_class(ending_folder, rules=rules)
    tokens, _ = model._prepare(prompt, {"until": [], "max_gen_toks": 20})
    assert tokens == RulesPoE(ending_folder, rules=rules, device="cpu").encode(prompt)
    assert model.tokenizer.eos_token_id not in tokens
    assert model.get_model_info()["model_dtype"] == "float32"


def test_a_request_may_choose_its_rules(wrapper_class: Any, ending_folder: str) -> None:
    model = wrapper_class(ending_folder, rules="paper")
    for rules in ("none", "reference"):
        assert facts(generate(model, rules=rules)) == facts(generate(wrapper_class(ending_folder, rules=rules)))
    assert facts(generate(model)) != facts(generate(model, rules="none"))


def test_what_the_task_and_the_results_ask_of_the_wrapper(wrapper_class: Any, ending_folder: str) -> None:
    model = wrapper_class(ending_folder, rules="paper", tensor_parallel_size=2)
    assert model.rank == 0
    assert model.rank.model is model
    assert model.max_gen_toks == 512
    assert model.product_name == f"rules:paper@{load_preset('paper').sha256[:8]}"
    info = model.get_model_info()
    assert (info["product"], info["vllm"]) == (model.product_name, "0.33.0")
    assert info["model_identity"]
    assert model.model.arguments["tensor_parallel_size"] == 2


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason", "expected"),
    [("stop", None, "eos"), ("stop", 1, "eos"), ("stop", 9, "stop"), ("stop", "x", "stop"), ("length", None, "length")],
)
def test_finish_reasons_of_vllm(
    wrapper_class: Any, ending_folder: str, finish_reason: str, stop_reason: Any, expected: str
) -> None:
    model = wrapper_class(ending_folder)
    completion = SimpleNamespace(text="ab", token_ids=(5, 6), finish_reason=finish_reason, stop_reason=stop_reason)
    assert (model._finish(completion).finish_reason, model._finish(completion).n_tokens) == (expected, 2)
    completion.token_ids = (5, 6, 1)
    assert model._finish(completion).n_tokens == 2, "the final EOS does not count"


@pytest.mark.parametrize(
    ("text", "reason", "answer"),
    [("so </think> yes", "stop", "yes"), ("</think>", "stop", ""), ("so", "length", ""), ("so", "stop", "so")],
)
def test_the_answer_follows_the_thought(
    wrapper_class: Any, ending_folder: str, text: str, reason: str, answer: str
) -> None:
    model = wrapper_class(ending_folder, think_end_token="</think>")
    completion = SimpleNamespace(text=text, token_ids=(5, 6), finish_reason=reason, stop_reason=None)
    assert model._finish(completion) == answer


def test_a_request_that_vllm_gave_up_is_an_error(wrapper_class: Any, ending_folder: str) -> None:
    aborted = SimpleNamespace(text="", token_ids=(), finish_reason="abort", stop_reason=None)
    with pytest.raises(RuntimeError, match="'abort'"):
        wrapper_class(ending_folder)._finish(aborted)


def test_likelihoods_are_refused_under_rules(wrapper_class: Any, ending_folder: str) -> None:
    model = wrapper_class(ending_folder)
    request = Instance("loglikelihood", {}, ("a", " b"), 0, metadata=("t", 0, 1))
    for method in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(UserError, match="Use --model rules_poe"):
            method([request])


def test_use_cache_refuses_another_product(wrapper_class: Any, ending_folder: str, tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    first = generate(CachingLM(wrapper_class(ending_folder), path))
    assert facts(generate(CachingLM(wrapper_class(ending_folder), path))) == facts(first)
    with pytest.raises(UserError, match="filled by another model or product"):
        CachingLM(wrapper_class(ending_folder, rules="reference"), path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": None}, "expected a folder or a hub name"),
        ({"rules": "papr"}, "Did you mean 'paper'"),
        ({"drop": "eso"}, "Did you mean 'eos'"),
        ({"missing": "skip"}, "expected 'note', 'error' or 'ignore'"),
        ({"rule": "paper"}, "Did you mean 'rules'"),
        ({"speculative_config": {"method": "ngram"}}, "speculative"),
        ({"truncation_side": "left"}, "expected 'middle'"),
    ],
)
def test_faults_are_found_before_the_engine_starts(wrapper_class: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        wrapper_class(**({"pretrained": "no/such-model"} | arguments))
    assert message in str(caught.value)


def test_without_vllm_the_install_command_is_the_first_thing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vllm", None)  # what an import of a missing module finds
    monkeypatch.delitem(sys.modules, "lm_eval.models.vllm_causallms", raising=False)
    monkeypatch.delitem(sys.modules, f"{OURS}.vllm.rules_poe_vllm", raising=False)
    with pytest.raises(UserError, match=r'pip install "\.\[vllm\]"'):
        importlib.import_module(f"{OURS}.vllm.rules_poe_vllm")


def test_requests_that_sample_have_seeds_of_their_own(wrapper_class: Any, ending_folder: str) -> None:
    lm, settings = wrapper_class(ending_folder), {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 0.7}
    assert lm._prepare(PROMPTS[0], settings, 17)[1].seed == 17
    assert lm._prepare(PROMPTS[0], {**settings, "seed": 5}, 17)[1].seed == 5, "what the user gave counts"
    assert lm._prepare(PROMPTS[0], {**settings, "do_sample": False, "temperature": 0.0}, 17)[1].seed is None
