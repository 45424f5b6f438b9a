"""Prompts as tokens: what a user wrote stays text, also where it spells a special token."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any


def special_tokens(tokenizer: Any, text: str, add_bos: bool | None) -> dict[str, bool]:
    """How a text is encoded: one that begins with BOS gets no second one.

    Args:
        tokenizer: A Hugging Face tokenizer.
        text: The text.
        add_bos: The user's wish; None leaves it to the tokenizer.
    """
    bos = getattr(tokenizer, "bos_token", None)
    if bos and text.startswith(bos) and not any(start == 0 for start, _ in _users(text)):
        return {"add_special_tokens": False}
    return {} if add_bos is None else {"add_special_tokens": add_bos}


def spells_special(tokenizer: Any, text: str) -> bool:
    """Whether a user's part of a prompt holds the text of a special token; False for a text of unknown parts."""
    users = _users(text)
    pattern = _pattern(tokenizer) if users else None
    return pattern is not None and any(pattern.search(text, start, end) for start, end in users)


def encode(
    tokenizer: Any, text: str, special: Mapping[str, bool], *, offsets: bool = False
) -> tuple[list[int], list[int]]:
    """A text's tokens; special tokens in the parts of a `Prompt` that users wrote are encoded as text.

    Where there are none, and in a text that is no `Prompt`, the tokens are the tokenizer's own.

    Args:
        tokenizer: A Hugging Face tokenizer.
        text: The text.
        special: See `special_tokens`.
        offsets: Whether to tell where tokens end, which takes a fast tokenizer.

    Returns:
        Ids, and where in the text each ends (0 for what the tokenizer adds in front); empty without `offsets`.
    """
    wanted = {"return_offsets_mapping": True} if offsets else {}
    if not spells_special(tokenizer, text):
        encoding = tokenizer(text, **special, **wanted)
        return list(encoding["input_ids"]), [end for _, end in encoding["offset_mapping"]] if offsets else []
    ids = list(tokenizer("", **special)["input_ids"])
    ends = [0] * len(ids) if offsets else []
    for start, end, is_special in _pieces(tokenizer, text):
        if is_special:
            ids.append(tokenizer.convert_tokens_to_ids(text[start:end]))
            ends += [end] if offsets else []
            continue
        piece = tokenizer(str(text[start:end]), add_special_tokens=False, split_special_tokens=True, **wanted)
        ids += piece["input_ids"]
        ends += [start + at for _, at in piece["offset_mapping"]] if offsets else []
    return ids, ends


def _pieces(tokenizer: Any, text: str) -> Iterator[tuple[int, int, bool]]:
    """Start, end, and whether it is a special token that the template wrote."""
    users, done = _users(text), 0
    pattern = _pattern(tokenizer)
    for found in pattern.finditer(text) if pattern else ():
        if any(start < found.end() and found.start() < end for start, end in users):
            continue
        if found.start() > done:
            yield done, found.start(), False
        yield *found.span(), True
        done = found.end()
    if done < len(text):
        yield done, len(text), False


def _users(text: str) -> tuple[tuple[int, int], ...]:
    return getattr(text, "users", ())


@functools.lru_cache(maxsize=8)
def _pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Any of a tokenizer's special tokens, of which there may be thousands."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {str(token) for token in added if token.special} | set(getattr(tokenizer, "all_special_tokens", ()))
    names -= {""}
    return re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True))) if names else None
