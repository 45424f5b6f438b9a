"""Loading a tokenizer so that it tokenizes as its own `tokenizer.json` says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.profile import near_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# What chat text puts side by side: a tag first, a newline and a tag after the end of an answer, indented lines.
_PROBE = "<|user|>\nHi  there\n<|assistant|>\n    Yes.{eos}\n<|user|>\n\n<|assistant|>\nÜber 1.{eos}"


def load_tokenizer(name_or_path: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Loads a tokenizer for training.

    transformers 5 rebuilds some tokenizers (Llama-2's among them) from their vocabulary, and the result differs from
    `tokenizer.json` after special tokens. Such a tokenizer is loaded from that file instead, which is logged.

    Raises:
        UserError: If it cannot be loaded, knows no letter, has no end-of-sequence token, or appends one by itself.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(str(name_or_path), revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"base model {str(name_or_path)!r}: its tokenizer cannot be loaded ({error}). "
            f"Expected a Hugging Face model's name or folder.{near_base(str(name_or_path))}"
        ) from error
    if loaded.eos_token is None:
        raise UserError(f"{name_or_path}: the tokenizer has no end-of-sequence token, so no answer could end.")
    if set(loaded("Hello world", add_special_tokens=False).input_ids) <= {loaded.unk_token_id}:
        raise UserError(
            f"{name_or_path}: the tokenizer takes every text for {loaded.unk_token!r}; its files are missing or empty. "
            f"Copy its tokenizer.json and tokenizer_config.json again."
        )
    tokenizer = _as_its_file_says(loaded, str(name_or_path), revision)
    if tokenizer("a").input_ids[-1:] == [tokenizer.eos_token_id]:
        raise UserError(
            f"{name_or_path}: the tokenizer appends {tokenizer.eos_token!r} to every text, so that every prompt would "
            f"end with it. Expected one that does not; set add_eos_token to false in its tokenizer_config.json."
        )
    return tokenizer


def check_reloaded(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuses a saved tokenizer that `AutoTokenizer`, which evaluation uses, would load as another one."""
    from transformers import AutoTokenizer

    probe = _PROBE.format(eos=tokenizer.eos_token)
    again = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    if again(probe).input_ids != tokenizer(probe).input_ids:
        raise UserError(
            f"{folder}: transformers loads the saved tokenizer as {type(again).__name__}, which tokenizes differently "
            f"from the one trained with. Expected the same tokens; use another version of transformers."
        )


def _as_its_file_says(tokenizer: PreTrainedTokenizerBase, name: str, revision: str | None) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    path = cached_file(name, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return tokenizer
    probe = _PROBE.format(eos=tokenizer.eos_token)
    expected = Tokenizer.from_file(path).encode(probe).ids
    if tokenizer(probe).input_ids == expected:
        return tokenizer
    plain = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=path, model_max_length=tokenizer.model_max_length, **tokenizer.special_tokens_map
    )
    if plain(probe).input_ids != expected:
        raise UserError(
            f"{name}: neither {type(tokenizer).__name__} nor its tokenizer.json alone gives the file's tokens."
        )
    logger.warning("%s: %s differs from tokenizer.json, which is used as it is", name, type(tokenizer).__name__)
    return plain
