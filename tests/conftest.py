"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _quick_attempts() -> Iterator[None]:
    """A stand-in for the classifier of attempts, which takes a tenth of a second an answer and seconds to load.

    Its fingerprint is its own: a process that a test starts has the real one, and replaces its verdicts.
    """
    from implicit_if.harness.judging import attempts

    stand_in = SimpleNamespace(attempt_probabilities=quick_attempts, fingerprint=lambda: "a7" * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "embedded_attempts", stand_in)
        yield


@pytest.fixture
def real_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask the shipped classifier itself."""
    from implicit_if.harness.judging import attempts
    from implicit_if.harness.judging.backends import embedded_attempts

    monkeypatch.setattr(attempts, "embedded_attempts", embedded_attempts)


def quick_attempts(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """An answer is an attempt if it has an even number of characters and is not the instruction."""
    return [0.9 if len(answer) % 2 == 0 and answer != instruction else 0.125 for instruction, answer in pairs]


RULE_STRINGS = ["<", " <", "|", " I", "I", " We", "What", " should", " *", " -", "   ", " #", " ##", "\n", "!"]


def byte_level_vocabulary() -> dict[str, int]:
    """Every byte's character, then the rules' strings, spelled as byte-level BPE spells them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    spelling = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(rest)}
    pieces = ["<s>", "</s>", *(spelling[b] for b in range(256))]
    words = [*RULE_STRINGS, " the", "he", " t", "an"]
    pieces += ["".join(spelling[b] for b in w.encode()) for w in words]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def make_byte_level_tokenizer() -> Any:
    """Byte-level BPE without merges, as GPT-NeoX spells it; adds BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = byte_level_vocabulary()
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def make_sentencepiece_like_tokenizer() -> Any:
    """Like Llama-2's: `▁` for spaces, `<0xNN>` bytes beside the characters, newline as a byte only."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    pieces += [s.replace(" ", "▁") for s in RULE_STRINGS if s != "\n"]
    pieces += [c for c in map(chr, range(33, 127)) if c not in pieces] + ["▁", "▁a"]
    backend = Tokenizer(
        models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def make_tiny_model(vocabulary: int, seed: int = 0) -> Any:
    """A random Llama of 2 layers whose logits are spread enough to have clear favourites."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.6,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_byte_level_tokenizer()


@pytest.fixture(scope="session")
def sentencepiece_like() -> Any:
    return make_sentencepiece_like_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tokenizer: Any) -> Any:
    return make_tiny_model(len(tokenizer))


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; the tests that need it are skipped where it or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium on PATH: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
