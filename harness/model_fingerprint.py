"""One fingerprint of a model for everybody: over what its files hold, so that a replaced file is another model."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.storage import cache_dir, sha256_file, sha256_json

_FILES = (
    *("*.safetensors", "*.bin", "*.gguf", "*.safetensors.index.json", "adapter_config.json"),
    *("config.json", "generation_config.json", "*.py"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template.json", "*.jinja"),
)
_REPOSITORIES = ("peft", "delta", "tokenizer")
"""Settings that may name a repository of the hub."""
_LARGE = 1_000_000
_SETTLED_SECONDS = 2


def model_fingerprint(pretrained: str, commit: str | None = None, **settings: Any) -> str:
    """Hex sha256 of a model: of its files if it is a local folder, else of its hub name and commit.

    Args:
        pretrained: A local folder or a hub name.
        commit: The resolved commit of a hub model; without one the name alone counts.
        **settings: Whatever else changes the function computed: data type, library versions, `subfolder`, an adapter
            or tokenizer. A setting that is a folder or a file counts by what it holds.
    """
    contents = _contents(pretrained, commit, str(settings.get("subfolder") or ""))
    return sha256_json([contents, {key: _setting(key, value) for key, value in settings.items()}])


def _contents(name: str, commit: str | None = None, subfolder: str = "") -> list[Any]:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return [name, commit]
    places = {folder, folder / subfolder}
    files = {path for place in places for pattern in _FILES for path in place.glob(pattern) if path.is_file()}
    return [[path.relative_to(folder).as_posix(), _file_hash(path)] for path in sorted(files)]


def _setting(key: str, value: Any) -> Any:
    text = str(value)
    if isinstance(value, str | os.PathLike) and text:
        path = Path(text).expanduser()
        if path.is_dir():
            return _contents(text)
        if path.is_file():
            return _file_hash(path)
        if key in _REPOSITORIES and (commit := _cached_commit(text)):
            return [text, commit]
    return text


def _cached_commit(repository: str) -> str | None:
    """The commit of a hub repository that is in use, from the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("adapter_config.json", "tokenizer_config.json", "config.json"):
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def _file_hash(path: Path) -> str:
    """The file's sha256. A large file's is remembered by what changes with its content, once that has settled."""
    stat = path.stat()
    if stat.st_size < _LARGE:
        return sha256_file(path)
    # st_ctime_ns cannot be set, so it tells a file that was replaced or written in place with its old time put back
    marks = [os.path.realpath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    key = sha256_json(marks)
    memory = cache_dir() / "file-hashes.jsonl"
    for record in read_records(memory):
        if record.get("key") == key:
            return str(record["sha256"])
    digest = sha256_file(path)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_SECONDS:
        append_records(memory, [{"key": key, "sha256": digest}])
    return digest
