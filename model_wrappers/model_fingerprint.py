"""Which model is it? A stable identity of the weights, for caches that must never serve another model's answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import append_records, cache_dir, read_records, sha256_file, sha256_json

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_SETTINGS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "adapter_config.json")


def model_identity(pretrained: str, commit: str | None = None, **settings: Any) -> str:
    """Hex sha256 of a model: of its files if it is a local folder, else of its hub name and commit.

    Args:
        pretrained: A local folder or a hub name.
        commit: The resolved commit of a hub model; without one the name alone counts.
        **settings: Whatever else changes the function computed: data type, adapters, library versions.
    """
    folder = Path(pretrained)
    if folder.is_dir():
        files = sorted({path for pattern in (*_WEIGHTS, *_SETTINGS) for path in folder.glob(pattern)})
        weights: Any = [[path.name, _file_hash(path)] for path in files]
    else:
        weights = [pretrained, commit]
    return sha256_json([weights, {key: str(value) for key, value in settings.items()}])


def claim_request_cache(cache_hook: Any, identity: str | None, product: str) -> None:
    """Refuses a `--use_cache` file that another model or product filled: lm-eval's keys hold the request only.

    Args:
        cache_hook: lm-eval's; without a file there is nothing to claim.
        identity: The model's, see `model_identity`.
        product: What is done to it, e.g. `rules_poe`'s `product_name`.

    Raises:
        UserError: If the cache belongs to another model or product.
    """
    if cache_hook.dbdict is None:
        return
    mine = sha256_json([identity, product])
    found = cache_hook.dbdict.get("implicit_if", None)
    if found is None and len(cache_hook.dbdict):
        raise UserError("--use_cache: this cache was filled by another model; choose another path.")
    if found not in (None, mine):
        raise UserError(
            f"--use_cache: this cache was filled by another model or product than {product} "
            f"(found {found[:12]}, expected {mine[:12]}); choose another path."
        )
    cache_hook.dbdict["implicit_if"] = mine


def _file_hash(path: Path) -> str:
    """The file's sha256, remembered by path, size and modification time: weights are gigabytes."""
    stat = os.stat(path)
    key = sha256_json([os.path.realpath(path), stat.st_size, stat.st_mtime_ns])
    memory = cache_dir() / "file-hashes.jsonl"
    for record in read_records(memory):
        if record.get("key") == key:
            return str(record["sha256"])
    digest = sha256_file(path)
    append_records(memory, [{"key": key, "sha256": digest}])
    return digest
