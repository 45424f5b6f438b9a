"""In-context alignment: prefixes and their files, what the model is asked, how answers end, the plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import cache_dir
from implicit_if.model_wrappers.rules_poe import RulesPoE
from implicit_if.model_wrappers.urial import Prefix, Urial, load_prefix, prefix_names

INSTRUCTIONS = ["What", "a list of I", "x y", " the man\n", "!"]
TINY = {"name": "tiny", "prefix": "Q: a\nA: b ##\n", "query": "Q: {instruction}\nA:", "end": [" ##"]}


def write(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump({k: v for k, v in (TINY | changes).items() if v is not None}), encoding="utf-8")
    return str(path)


def generate(model: Any, instructions: list[str], **arguments: Any) -> list[Any]:
    settings = {"until": [], "max_gen_toks": 24, "do_sample": False} | arguments
    requests = [
        Instance("generate_until", {}, (text, settings), i, metadata=("t", i, 1)) for i, text in enumerate(instructions)
    ]
    return list(model.generate_until(requests, disable_tqdm=True))


@pytest.fixture(scope="module")
def tiny_prefix(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("prefix") / "tiny.yaml")


@pytest.fixture(scope="module")
def closing_folder(tiny_model_folder: str, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    """The tiny model with an output layer that often chooses ` ##`, the end text of the tiny prefix."""
    import shutil

    folder = tmp_path_factory.mktemp("closing")
    shutil.copytree(tiny_model_folder, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][tokenizer.get_vocab()["Ġ##"]] *= 2.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def wrapper(folder: str, prefix: str, **arguments: Any) -> Urial:
    return Urial(folder, prefix=prefix, device="cpu", dtype="float32", batch_size=3, **arguments)


# ---------------------------------------------------------------------- prefixes
def test_the_shipped_prefix_shows_every_example_as_it_asks() -> None:
    assert prefix_names() == ["default"]
    prefix = load_prefix("default")
    query, answer = "# Query:\n~~~~\n", "# Answer:\n~~~~\n"
    assert prefix.prompt("  Say hello.\n").endswith(f"\n\n{query}Say hello.\n~~~~\n\n{answer}")
    examples = prefix.prefix.split(query)[1:]
    assert len(examples) == 4
    for example in examples:
        asked, answered = example.split(f"\n~~~~\n\n{answer}")
        assert answered.endswith("\n~~~~\n\n"), "every example's answer must close as the model's is to close"
        assert prefix.end[0] not in asked + answered.removesuffix("~~~~\n\n")


def test_no_example_is_an_instruction_of_the_builtin_set() -> None:
    from implicit_if.harness.instructions import load_instructions

    shown = load_prefix("default").prefix.lower()
    for item in load_instructions("builtin").items:
        assert item.text.lower() not in shown


def test_a_published_text_file_is_wrapped_as_its_authors_do(tmp_path: Path) -> None:
    path = tmp_path / "inst.txt"
    path.write_text(
        "# Instruction\n\nBelow.\n\n# Query:\n```\nHi\n```\n\n# Answer:\n```\nHello!\n```", encoding="utf-8"
    )
    prefix = load_prefix(str(path))
    assert prefix.prompt("Why?") == (
        "# Instruction\n\nBelow.\n\n# Query:\n```\nHi\n```\n\n# Answer:\n```\nHello!\n```"
        "\n# Query:\n```\nWhy?\n```\n\n# Answer:\n```\n"
    )
    assert prefix.end == ("# Query",)
    assert prefix.clean("Because.\n```\n\n") == "Because."
    assert prefix.clean("Run\n```\nls\n```\nand look.\n```\n") == "Run\n```\nls\n```\nand look.", "code inside stays"
    assert prefix.clean("cut in the mid") == "cut in the mid"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("defualt", None, "Did you mean 'default'"),
        ("none.txt", None, "cannot be read"),
        ("a.txt", "User: hi", "no '# Query:' in this text"),
        ("a.yaml", "[1", "not YAML"),
        ("a.yaml", "name: a", "not a prefix"),
        ("a.yaml", TINY | {"ends": 1}, "unknown key 'ends'"),
        ("a.yaml", TINY | {"end": []}, "expected a list of texts"),
        ("a.yaml", TINY | {"end": "##"}, "expected a list of texts"),
        ("a.yaml", TINY | {"query": "Q:"}, "0 times, expected once"),
        ("a.yaml", TINY | {"prefix": 3}, "prefix is int, expected text"),
    ],
)
def test_a_bad_prefix_is_named_before_a_model_loads(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    spec = name if content is None else str(tmp_path / name)
    with pytest.raises(UserError) as caught:
        Urial("no/such-model", prefix=spec)
    assert message in str(caught.value)


def test_the_hash_follows_what_shapes_answers_and_nothing_else() -> None:
    base = Prefix("a", "p", "{instruction}", ("e",))
    assert base.sha256 == Prefix("b", "p", "{instruction}", ("e",)).sha256
    others = [
        Prefix("a", "q", "{instruction}", ("e",)),
        Prefix("a", "p", "{instruction}\n", ("e",)),
        Prefix("a", "p", "{instruction}", ("f",)),
        Prefix("a", "p", "{instruction}", ("e",), "t"),
    ]
    assert len({p.sha256 for p in [base, *others]}) == 5


# ---------------------------------------------------------------------- answers
def by_hand(folder: str, tokenizer: Any, prompt: str, end: str, new: int) -> tuple[str, str]:
    """Greedy decoding without cache or batch until the end text, EOS or the limit."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(prompt)["input_ids"]
    answer: list[int] = []
    while len(answer) < new:
        with torch.no_grad():
            answer.append(int(model(torch.tensor([ids + answer])).logits[0, -1].argmax()))
        text = tokenizer.decode(answer, skip_special_tokens=True)
        if answer[-1] == tokenizer.eos_token_id:
            return text.rstrip(), "eos"
        if end in text:
            return text[: text.index(end)].rstrip(), "eos"
    return tokenizer.decode(answer).rstrip(), "length"


def test_answers_are_those_of_the_base_after_the_prefix(closing_folder: str, tokenizer: Any, tiny_prefix: str) -> None:
    answers = generate(wrapper(closing_folder, tiny_prefix), INSTRUCTIONS)
    for instruction, answer in zip(INSTRUCTIONS, answers, strict=True):
        prompt = f"Q: a\nA: b ##\nQ: {instruction.strip()}\nA:"
        assert (str(answer), answer.finish_reason) == by_hand(closing_folder, tokenizer, prompt, " ##", 24)
    assert "eos" in {a.finish_reason for a in answers}, "some answer must close itself for the test to mean something"


def test_an_end_text_is_the_answers_own_end_but_a_tasks_stop_string_is_not(
    closing_folder: str, tiny_prefix: str
) -> None:
    model = wrapper(closing_folder, tiny_prefix)
    closed = [i for i, a in zip(INSTRUCTIONS, generate(model, INSTRUCTIONS), strict=True) if a.finish_reason == "eos"]
    assert closed
    assert {a.finish_reason for a in generate(model, closed, until=["never said"])} == {"stop"}


def test_the_reference_is_the_plain_base_on_the_plain_prompt(closing_folder: str, tiny_prefix: str) -> None:
    model = wrapper(closing_folder, tiny_prefix)
    plain = RulesPoE(closing_folder, rules=None, device="cpu", dtype="float32", batch_size=3)
    prompts = [f"<|user|>\n{text}\n<|assistant|>\n" for text in INSTRUCTIONS]
    reference = generate(model, prompts, rules="none")
    assert reference == generate(plain, prompts)
    assert [a.finish_reason for a in reference] == [a.finish_reason for a in generate(plain, prompts)]
    assert model.base_identity == plain.base_identity, "the two wrappers share remembered base answers"
    assert reference != generate(model, INSTRUCTIONS)


def test_own_answers_never_enter_the_base_models_memory(closing_folder: str, tiny_prefix: str) -> None:
    generate(wrapper(closing_folder, tiny_prefix), INSTRUCTIONS)
    assert not (cache_dir() / "base-answers").exists()


def test_tasks_are_told_to_give_bare_instructions(closing_folder: str, tiny_prefix: str) -> None:
    model = wrapper(closing_folder, tiny_prefix)
    assert model.rank == 0
    assert model.rank.model is model
    assert model.rank.model.wants_bare_instructions is True
    assert not getattr(RulesPoE, "wants_bare_instructions", False)
    with pytest.raises(UserError, match="wrapped in a chat template already"):
        generate(model, ["<|user|>\nx\n<|assistant|>\n"])


def test_results_name_the_prefix(closing_folder: str, tiny_prefix: str) -> None:
    model = wrapper(closing_folder, tiny_prefix)
    assert model.get_model_info()["product"] == f"urial:tiny@{load_prefix(tiny_prefix).sha256[:8]}"
    assert json.dumps(model.describe(...)) != json.dumps(model.describe("none"))


def test_what_a_prefix_cannot_do_is_refused(closing_folder: str, tiny_prefix: str) -> None:
    model = wrapper(closing_folder, tiny_prefix)
    with pytest.raises(UserError, match="urial applies no rules"):
        generate(model, ["x"], rules="paper")
    with pytest.raises(UserError, match="without --apply_chat_template"):
        model.apply_chat_template([{"role": "user", "content": "x"}])
    with pytest.raises(UserError, match="scores no texts"):
        model.loglikelihood([Instance("loglikelihood", {}, ("a", " b"), 0, metadata=("t", 0, 1))], disable_tqdm=True)
    with pytest.raises(UserError, match="scores no texts"):
        model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("a",), 0, metadata=("t", 0, 1))])


def test_a_prefix_that_does_not_fit_is_an_error_and_is_never_cut(closing_folder: str, tmp_path: Path) -> None:
    long = write(tmp_path / "long.yaml", prefix="a" * 250)
    with pytest.raises(UserError, match="Choose a shorter prefix"):
        generate(wrapper(closing_folder, long), ["x"])
