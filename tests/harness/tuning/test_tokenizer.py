"""Tokenizers must tokenize as their own file says, also after they were saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.tokenizer import check_reloaded, load_tokenizer

TEXT = "<|user|>\nWhy?\n<|assistant|>\nAir.</s>\n<|user|>\n<|assistant|>\nYes  no.</s>"


def test_llama_is_loaded_as_its_file_says(llama_like: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = Tokenizer.from_file(str(llama_like / "tokenizer.json")).encode(TEXT).ids
    # The trap itself: if transformers mends it, this line says so, and the workaround may go.
    assert AutoTokenizer.from_pretrained(llama_like)(TEXT).input_ids != expected
    tokenizer = load_tokenizer(llama_like)
    assert tokenizer(TEXT).input_ids == expected
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert "differs from tokenizer.json" in caplog.text


def test_the_saved_tokenizer_is_the_same(llama_like: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(llama_like)
    shutil.copy(llama_like / "config.json", tmp_path)
    tokenizer.save_pretrained(tmp_path)
    check_reloaded(tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT).input_ids == tokenizer(TEXT).input_ids


def test_a_saved_tokenizer_that_loads_as_another_is_refused(llama_like: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(llama_like)
    shutil.copytree(llama_like, tmp_path / "copy")
    with pytest.raises(UserError, match="tokenizes differently"):
        check_reloaded(tokenizer, tmp_path / "copy")


def test_others_are_taken_as_they_are(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = load_tokenizer(tiny)
    assert tokenizer("Hi<eos>\n").input_ids == AutoTokenizer.from_pretrained(tiny)("Hi<eos>\n").input_ids
    assert "differs" not in caplog.text


def test_refusals(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["post_processor"]["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    content["post_processor"]["special_tokens"]["<eos>"] = {"id": "<eos>", "ids": [0], "tokens": ["<eos>"]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="appends '<eos>' to every text"):
        load_tokenizer(tmp_path)
