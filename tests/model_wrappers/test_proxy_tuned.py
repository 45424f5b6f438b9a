"""Proxy tuning against the definition: three forward passes over the whole text, one row at a time, no cache."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import cache_dir
from implicit_if.model_wrappers.prompt_batches import Prompts
from implicit_if.model_wrappers.proxy_tuned import ProxyTuned, ShiftProcessor
from implicit_if.model_wrappers.rules_poe import RulesPoE

PROMPTS = ["What!", "I should", "the < man", " We # think | what ##", "a", "!!", "x y z"]
NEW = 24
ALPHA = 0.7


def make_expert(vocabulary: int) -> Any:
    """A Llama of one layer that likes to end, with padding columns at the end of its vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary + 5,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.9,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data[1] *= 10.0
    return model


def make_anti_expert(vocabulary: int) -> Any:
    """A GPT-2, whose positions are absolute: padding that moved the text would show."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=256,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.5,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def folders(tokenizer: Any, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("proxy")
    models = {"base": tiny_model, "expert": make_expert(len(tokenizer)), "anti": make_anti_expert(len(tokenizer))}
    for name, model in models.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {name: str(root / name) for name in models}


def wrapper(folders: dict[str, str], **arguments: Any) -> ProxyTuned:
    settings = {"alpha": ALPHA, "device": "cpu", "dtype": "float32", "batch_size": 4} | arguments
    return ProxyTuned(folders["base"], folders["expert"], folders["anti"], **settings)


@pytest.fixture(scope="module")
def model(folders: dict[str, str]) -> ProxyTuned:
    return wrapper(folders)


@pytest.fixture(scope="module")
def three(folders: dict[str, str]) -> list[Any]:
    from transformers import AutoModelForCausalLM

    return [AutoModelForCausalLM.from_pretrained(folders[n], dtype=torch.float32) for n in ("base", "expert", "anti")]


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, a, i, metadata=("t", i, 1)) for i, a in enumerate(arguments)]


def generate(model: Any, prompts: list[str] = PROMPTS, **kwargs: Any) -> list[Any]:
    settings = {"until": [], "max_gen_toks": NEW, "do_sample": False} | kwargs
    return list(model.generate_until(requests("generate_until", [(p, settings) for p in prompts]), disable_tqdm=True))


RULE_PIECES = [(-4, "< Ġ< |"), (-5, "ĠI I"), (-3, "ĠWe What"), (-6, "Ġshould"), (1, "Ġ* Ġ- ĠĠĠ Ġ# Ġ## Ċ !")]


def combined(three: list[Any], tokenizer: Any, context: list[int], response: list[int], rules: bool) -> torch.Tensor:
    """The next token's scores in float64: equation 1 of the paper, then the `paper` rules one by one."""
    with torch.no_grad():
        base, expert, anti = (m(torch.tensor([context + response])).logits[0, -1].double() for m in three)
    scores = base + ALPHA * (expert[: len(base)] - anti[: len(base)])
    if rules:
        scores[1] += 15.0 * min(len(response), 250) / 250
        for weight, pieces in RULE_PIECES:
            for piece in pieces.split():
                scores[tokenizer.get_vocab()[piece]] += weight
        for used in set(response):
            scores[used] -= 1.5
    return scores


def by_hand(three: list[Any], tokenizer: Any, prompt: str, rules: bool) -> list[int]:
    context, response = tokenizer(prompt)["input_ids"], []
    while len(response) < NEW and 1 not in response:
        response.append(int(combined(three, tokenizer, context, response, rules).argmax()))
    return response


@pytest.mark.parametrize("rules", [None, "paper"])
def test_greedy_answers_equal_three_forward_passes_by_hand(
    folders: dict[str, str], three: list[Any], tokenizer: Any, rules: str | None
) -> None:
    answers = generate(wrapper(folders, rules=rules))
    lengths = set()
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens = by_hand(three, tokenizer, prompt, rules is not None)
        assert answer == tokenizer.decode([t for t in tokens if t != 1])
        assert answer.finish_reason == ("eos" if tokens[-1] == 1 else "length")
        lengths.add(len(tokens))
    assert len(lengths) > 2, "rows must end at different times, or no cache ever shrinks"


def test_batch_padding_and_order_change_nothing(model: ProxyTuned, folders: dict[str, str]) -> None:
    expected = generate(wrapper(folders, batch_size=1))
    assert generate(model) == expected
    assert generate(wrapper(folders, batch_size=len(PROMPTS))) == expected
    assert generate(model, PROMPTS[::-1])[::-1] == expected


def test_caches_follow_the_rows_that_are_left(model: ProxyTuned, three: list[Any], tokenizer: Any) -> None:
    encoded = tokenizer(PROMPTS[:5], return_tensors="pt", padding=True, padding_side="left")
    ids, width = encoded["input_ids"], encoded["input_ids"].shape[1]
    texts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS[:5]]
    shift = ShiftProcessor(model.experts, Prompts(ids, encoded["attention_mask"]))
    dice = torch.Generator().manual_seed(0)
    for rows in ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 3, 4], [1, 3, 4], [4]):
        shift.keep(torch.tensor(rows))
        with torch.no_grad():
            shifted = shift(ids[rows], torch.zeros(len(rows), len(tokenizer)))
        for row, scores in zip(rows, shifted, strict=True):
            response = ids[row, width:].tolist()
            zero = combined([_Nothing(len(tokenizer)), *three[1:]], tokenizer, texts[row], response, False)
            assert torch.allclose(scores.double(), zero, atol=1e-4)
        ids = torch.cat([ids, torch.randint(2, 200, (5, 1), generator=dice)], dim=1)


class _Nothing:
    """A base model without an opinion."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=torch.zeros(*ids.shape, self.vocabulary))


def test_sampling_draws_from_the_shifted_distribution(
    folders: dict[str, str], three: list[Any], tokenizer: Any
) -> None:
    prompt, draws, temperature = "the < man", 1000, 4.0
    torch.manual_seed(0)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "max_gen_toks": 1}
    answers = generate(wrapper(folders, batch_size=draws), [prompt] * draws, **sampling)
    drawn = Counter("EOS" if a.finish_reason == "eos" else str(a) for a in answers)
    scores = combined(three, tokenizer, tokenizer(prompt)["input_ids"], [], False) / temperature
    expected: Counter[str] = Counter()
    for i, p in enumerate(scores.softmax(-1).tolist()):
        expected["EOS" if i == 1 else tokenizer.decode([i], skip_special_tokens=True)] += p  # single bytes look alike
    assert sum(p > 0.01 for p in expected.values()) > 5
    for text, p in expected.items():
        assert abs(drawn[text] / draws - p) < 5 * (p * (1 - p) / draws) ** 0.5 + 2e-3


def test_alpha_zero_is_the_base_and_rules_none_asks_for_it(model: ProxyTuned, folders: dict[str, str]) -> None:
    plain = RulesPoE(folders["base"], rules=None, device="cpu", dtype="float32", batch_size=4)
    assert generate(wrapper(folders, alpha=0)) == generate(plain)
    assert generate(model, rules="none") == generate(plain)
    assert generate(model) != generate(plain)
    assert model.base_identity == plain.base_identity, "the two wrappers share remembered base answers"
    ruled = RulesPoE(folders["base"], rules="paper", device="cpu", dtype="float32", batch_size=4)
    assert generate(model, rules="paper") == generate(ruled), "a request's own rules are the base's, without the shift"


def test_own_answers_are_never_taken_for_the_bases(model: ProxyTuned) -> None:
    generate(model)
    assert not (cache_dir() / "base-answers").exists()
    assert model.describe(...) != model.describe("none")


# ---------------------------------------------------------------------- likelihood
CONTINUATIONS = [("What is", " the"), ("a\n", "What! I should"), ("x", " < # | !"), ("!!", "a" * 80)]


@pytest.mark.parametrize("rules", [None, "paper"])
def test_loglikelihood_equals_the_definition(
    folders: dict[str, str], three: list[Any], tokenizer: Any, rules: str | None
) -> None:
    model = wrapper(folders, rules=rules)
    for (context, continuation), (value, greedy) in zip(
        CONTINUATIONS, model.loglikelihood(requests("loglikelihood", CONTINUATIONS), disable_tqdm=True), strict=True
    ):
        before, scored = model._encode_pair(context, continuation)
        total, best = 0.0, True
        for i, token in enumerate(scored):
            scores = combined(three, tokenizer, before, scored[:i], rules is not None)
            total += float(torch.log_softmax(scores, -1)[token])
            best &= int(scores.argmax()) == token
        assert value == pytest.approx(total, abs=1e-3)
        assert greedy == best


def test_a_greedy_answer_is_reported_greedy(model: ProxyTuned, three: list[Any], tokenizer: Any) -> None:
    context, answer = tokenizer("the < man")["input_ids"], by_hand(three, tokenizer, "the < man", False)
    other = [*answer[:-1], (answer[-1] + 1) % len(tokenizer)]
    scores = model._loglikelihood_tokens([(None, context, answer), (None, context, other)], disable_tqdm=True)
    assert [greedy for _, greedy in scores] == [True, False]


def test_the_search_for_a_batch_size_runs_all_three_models(model: ProxyTuned, three: list[Any], tokenizer: Any) -> None:
    ids = tokenizer("I should")["input_ids"]
    logits = model._model_call(torch.tensor([ids]))[0, -1]
    assert torch.allclose(logits.double(), combined(three, tokenizer, ids, [], False), atol=1e-4)


# ---------------------------------------------------------------------- what is refused, what is recorded
def test_a_different_vocabulary_is_named_before_any_weights_load(
    folders: dict[str, str], sentencepiece_like: Any, tokenizer: Any, tmp_path: Path
) -> None:
    sentencepiece_like.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="expert: its vocabulary is not the base model's"):
        ProxyTuned(folders["base"], str(tmp_path / "other"), folders["anti"], device="cpu")

    swapped = tmp_path / "swapped"  # equal tokens and equal size, two ids exchanged
    tokenizer.save_pretrained(swapped)
    path = swapped / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    vocabulary = tokenizer.get_vocab()
    he, an = vocabulary["he"], vocabulary["an"]
    text = text.replace(f'"he": {he}', f'"he": {an}').replace(f'"an": {an}', f'"an": {he}')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"anti_expert.*'(he|an)' has id ({he}|{an}) in the base"):
        ProxyTuned(folders["base"], folders["expert"], str(swapped), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expert": None}, "expert=None: expected a folder or a hub name"),
        ({"anti_expert": None}, "anti_expert=None: expected a folder or a hub name"),
        ({"alpha": "much"}, "alpha='much': expected a number"),
        ({"rules": "papr"}, "Did you mean 'paper'"),
        ({"expert": "./not-there"}, "expert=./not-there: cannot be loaded"),
    ],
)
def test_wrong_arguments_are_named(folders: dict[str, str], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        ProxyTuned(folders["base"], **({"expert": folders["expert"], "anti_expert": folders["anti"]} | arguments))
    assert message in str(caught.value)


def test_beams_are_refused_where_the_shift_applies(model: ProxyTuned) -> None:
    with pytest.raises(UserError, match="decodes greedily or samples"):
        generate(model, ["x"], num_beams=2)
    assert generate(model, ["x"], num_beams=2, rules="none")


def test_results_name_models_alpha_and_rules(model: ProxyTuned, folders: dict[str, str]) -> None:
    info = model.get_model_info()
    assert info["product"].startswith("proxy:expert-anti,alpha=0.7@")
    assert (info["expert"], info["anti_expert"], info["alpha"]) == (folders["expert"], folders["anti"], ALPHA)
    exchanged = ProxyTuned(folders["base"], folders["anti"], folders["expert"], alpha=ALPHA, device="cpu")
    assert exchanged.product_name.rpartition("@")[2] != model.product_name.rpartition("@")[2]
    assert wrapper(folders, rules="paper").product_name.startswith(f"{model.product_name}+rules:paper@")
