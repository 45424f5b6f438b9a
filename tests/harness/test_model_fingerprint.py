"""A fingerprint follows what a model's files hold, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from implicit_if.harness import model_fingerprint as module
from implicit_if.harness.model_fingerprint import model_fingerprint
from implicit_if.harness.storage import cache_dir, sha256_file, sha256_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_the_value_of_version_0_1_is_kept(folder: Path) -> None:
    files = [[name, sha256_file(folder / name)] for name in ("config.json", "model.safetensors")]
    assert model_fingerprint(str(folder), dtype="float32") == sha256_json([files, {"dtype": "float32"}])
    assert model_fingerprint("org/model", "c0ffee") == sha256_json([["org/model", "c0ffee"], {}])


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "adapter_model.safetensors", "adapter_config.json", "modeling_own.py"),
        *("tokenizer.json", "tokenizer.model", "special_tokens_map.json", "chat_template.jinja"),
    ],
)
def test_every_file_that_shapes_an_answer_counts(folder: Path, name: str) -> None:
    before = model_fingerprint(str(folder))
    (folder / name).write_bytes(b"another")
    assert model_fingerprint(str(folder)) != before


def test_notes_and_names_do_not_count(folder: Path) -> None:
    before = model_fingerprint(str(folder))
    (folder / "README.md").write_text("mine")
    assert model_fingerprint(str(folder.rename(folder.with_name("moved")))) == before


@pytest.mark.parametrize("setting", ["peft", "tokenizer", "delta", "lora_local_path"])
def test_a_setting_that_is_a_folder_counts_by_what_it_holds(folder: Path, tmp_path: Path, setting: str) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "adapter_model.safetensors").write_bytes(b"first")
    before = model_fingerprint(str(folder), **{setting: str(part)})
    assert model_fingerprint(str(folder), **{setting: str(part)}) == before
    (part / "adapter_model.safetensors").write_bytes(b"other")
    assert model_fingerprint(str(folder), **{setting: str(part)}) != before


def test_a_subfolder_is_part_of_the_model(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "model.safetensors").write_bytes(b"one")
    before = model_fingerprint(str(folder), subfolder="deep")
    (folder / "deep" / "model.safetensors").write_bytes(b"two")
    assert model_fingerprint(str(folder), subfolder="deep") != before


def rewrite(path: Path) -> None:
    path.write_bytes(b"B" * 2_000_000)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"C" * 2_000_000)
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, replace])
def test_equal_size_and_time_do_not_hide_a_change(
    folder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLED_SECONDS", -1)  # remembered at once
    weights = folder / "model.safetensors"
    weights.write_bytes(b"A" * 2_000_000)
    before, stat = model_fingerprint(str(folder)), weights.stat()
    change(weights)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert model_fingerprint(str(folder)) != before


def test_a_large_file_is_hashed_once_and_a_fresh_one_is_not_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").write_bytes(b"A" * 2_000_000)
    before = model_fingerprint(str(folder))
    assert not (cache_dir() / "file-hashes.jsonl").exists(), "it may still change within the clock's resolution"
    monkeypatch.setattr(module, "_SETTLED_SECONDS", -1)
    model_fingerprint(str(folder))
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    hashed = []
    monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path.name) or sha256_file(path))
    assert model_fingerprint(str(folder)) == before
    assert hashed == ["config.json"]
