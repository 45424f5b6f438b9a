"""A tiny model and tokenizer, made here, and conversations written for these tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from implicit_if.harness.tuning.recipe_schema import Recipe

sys.path.insert(0, str(Path(__file__).parent))  # for `import tuning_runs`

MakeRecipe = Callable[..., Recipe]

EOS, BOS = "<eos>", "<bos>"

QUESTIONS = [
    ("Why is the sky blue?", "Air scatters blue light more than red light."),
    ("Name two rivers.", "The Danube and the Elbe."),
    ("How do I boil an egg?", "Put it in boiling water for seven minutes.\n\nThen cool it."),
    ("Add 2 and 3.", "5"),
    ("Write a greeting.", "Good morning, dear neighbour!"),
    ("What is a prime?", "A number above one that only one and itself divide. For example 2, 3, 5 and 7."),
    ("Translate 'cat' to German.", "Katze"),
    ("Give a tip for sleep.", "Keep the same hours every day, and leave the telephone outside."),
]


def byte_tokenizer(folder: Path, *, bos: bool = True) -> None:
    """Writes a byte-level BPE tokenizer to `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS, BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [f"<|user|>\n{q}\n<|assistant|>\n{a}" for q, a in QUESTIONS] * 20
    tokenizer.train_from_iterator(corpus, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, bos_token=BOS if bos else None)
    fast.save_pretrained(folder)


def llama_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of Llama-2's make: a prefix of `▁`, byte fallback, `<s>` in front, and its class's name."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))],
        initial_alphabet=["▁", "\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"<|user|> {q} {a}" for q, a in QUESTIONS] * 20, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are ordinary tokens
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 20,000 weights in float32 with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    byte_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of Llama-2's make and a configuration, without weights."""
    folder = tmp_path_factory.mktemp("llama")
    llama_tokenizer(folder)
    LlamaConfig(vocab_size=700, hidden_size=16, num_attention_heads=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight questions as an instruction-response file."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    lines = [json.dumps({"instruction": q, "response": a}) for q, a in QUESTIONS]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def without_bos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer that adds nothing."""
    folder = tmp_path_factory.mktemp("without")
    byte_tokenizer(folder, bos=False)
    return folder


@pytest.fixture
def make_recipe(tiny: Path, pairs_file: Path) -> MakeRecipe:
    """Makes a small recipe on the eight questions; keywords change its training."""

    def make(**train: Any) -> Recipe:
        values: dict[str, Any] = {
            "epochs": 2,
            "learning_rate": 0.01,
            "batch": 4,
            "autocast": False,
            "gradient_checkpointing": False,
            "warmup": 0.0,
        }
        return Recipe.model_validate(
            {
                "name": "small",
                "base": str(tiny),
                "data": {"format": "pairs", "path": str(pairs_file)},
                "encoding": {"max_length": 128},
                "train": {**values, **train},
            }
        )

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Equal sums in equal order, and no fight over cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
