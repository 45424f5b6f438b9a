"""Answers kept in a file as they are made, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Generation
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.storage import sha256_json

DECODING = 2
"""Goes up whenever an equal request gets another answer, as since long prompts lose their middle."""


class AnswerMemory:
    """Append-only JSON Lines of answers by prompt; a batch that was added survives kill -9.

    A prompt's answer counts only under an equal `made_by`, so one file may hold those of several models or settings.
    """

    def __init__(self, path: Path | None, made_by: Any = None) -> None:
        """Reads the file.

        Args:
            path: The file, which need not exist; None remembers nothing.
            made_by: Everything that shapes an answer besides its prompt, as JSON can hold it.

        Raises:
            UserError: If the file is damaged; names it and the line.
        """
        self.path = path
        self._made_by = sha256_json([DECODING, made_by])
        self._answers = {} if path is None else {r["key"]: _answer(r, path) for r in _records(path)}

    def get(self, prompt: str) -> Generation | None:
        """The prompt's answer, or None."""
        return self._answers.get(self._key(prompt))

    def add(self, prompts: Sequence[str], answers: Sequence[Generation]) -> None:
        """Keeps the answers of some prompts, on disk when this returns; later ones replace earlier ones."""
        if self.path is None:
            return
        keys = [self._key(prompt) for prompt in prompts]
        records = [
            {"key": k, "text": str(a), "finish_reason": a.finish_reason, "n_tokens": a.n_tokens}
            | ({"prompt_tokens_cut": a.prompt_tokens_cut} if a.prompt_tokens_cut else {})
            for k, a in zip(keys, answers, strict=True)
        ]
        append_records(self.path, records)
        self._answers.update(zip(keys, answers, strict=True))

    def _key(self, prompt: str) -> str:
        return sha256_json([self._made_by, prompt])


def claim_request_cache(cache_hook: Any, identity: str | None, product: str) -> None:
    """Refuses a `--use_cache` file that another model or product filled: lm-eval's keys hold the request only.

    Args:
        cache_hook: lm-eval's; without a file there is nothing to claim.
        identity: The model's, see `model_fingerprint`.
        product: What is done to it, e.g. `rules_poe`'s `product_name`.

    Raises:
        UserError: If the cache belongs to another model or product.
    """
    if cache_hook.dbdict is None:
        return
    mine = sha256_json([DECODING, identity, product])
    found = cache_hook.dbdict.get("implicit_if", None)
    if found is None and len(cache_hook.dbdict):
        raise UserError("--use_cache: this cache was filled by another model; choose another path.")
    if found not in (None, mine):
        raise UserError(
            f"--use_cache: this cache was filled by another model or product than {product} "
            f"(found {found[:12]}, expected {mine[:12]}); choose another path."
        )
    cache_hook.dbdict["implicit_if"] = mine


def _records(path: Path) -> list[dict[str, Any]]:
    records = list(read_records(path))
    for number, record in enumerate(records, start=1):
        if not record.keys() >= {"key", "text", "finish_reason", "n_tokens"}:
            raise UserError(f"{path}, line {number}: not an answer. Delete that line to have it generated again.")
    return records


def _answer(record: dict[str, Any], path: Path) -> Generation:
    answer = Generation.of(record["text"], record["finish_reason"], record["n_tokens"])
    answer.prompt_tokens_cut = record.get("prompt_tokens_cut", 0)
    return answer
