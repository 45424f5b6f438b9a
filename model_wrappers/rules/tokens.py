"""Strings to token ids, for any tokenizer: a rule written as text acts on exactly the tokens that spell it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.model_wrappers.prompt_tokens import encode

_BYTE_TOKEN = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")


def token_surfaces(tokenizer: Any) -> dict[int, bytes]:
    """The bytes each token adds in the middle of a text, leading space included.

    Args:
        tokenizer: A Hugging Face tokenizer, byte-level BPE or SentencePiece style.

    Returns:
        Bytes by token id, special tokens left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    byte_level = backend is not None and "ByteLevel" in f"{backend.decoder!r} {backend.pre_tokenizer!r}"
    to_byte = _byte_level_alphabet()
    added = {str(token): i for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    special = set(tokenizer.all_special_ids)
    surfaces = {}
    for piece, i in tokenizer.get_vocab().items():
        if i in special:
            continue
        if added.get(piece) == i:  # it may be spelled as it reads (GPT-NeoX) or as pieces are (Gemma's runs of spaces)
            surfaces[i] = (_decoded(tokenizer, i) or piece).encode("utf-8", "surrogatepass")
        elif byte_level and all(c in to_byte for c in piece):
            surfaces[i] = bytes(to_byte[c] for c in piece)
        elif match := _BYTE_TOKEN.match(piece):
            surfaces[i] = bytes([int(match[1], 16)])
        else:
            surfaces[i] = piece.replace("\u2581", " ").encode("utf-8", "surrogatepass")
    return surfaces


def resolve_strings(
    tokenizer: Any, strings: Iterable[str], *, ignore_missing: bool = False, width: int | None = None
) -> dict[str, list[int]]:
    """All token ids that spell each string exactly, in the middle of a text.

    A SentencePiece vocabulary may hold `<0x3C>` beside `<`; the encoder never makes it, so a byte token counts only
    where nothing else spells the string (Llama-2's newline). Each id is confirmed by decoding it after another token.

    Args:
        tokenizer: A Hugging Face tokenizer.
        strings: Texts; " I" and "I" are different.
        ignore_missing: Leave strings that are no single token without ids, instead of an error.
        width: Ids from here on do not count: the model cannot predict them.

    Returns:
        Sorted ids by string, in the order of `strings`.

    Raises:
        UserError: If a string is no single token; names the nearest tokens.
    """
    wanted = list(dict.fromkeys(strings))
    surfaces = token_surfaces(tokenizer)
    by_surface: dict[bytes, list[int]] = {}
    for i, surface in surfaces.items():
        by_surface.setdefault(surface, []).append(i)
    resolved = {}
    for string in wanted:
        found = by_surface.get(string.encode(), [])
        spelled = [i for i in found if not _BYTE_TOKEN.match(tokenizer.convert_ids_to_tokens(i))]
        usable = (i for i in spelled or found if _decoded(tokenizer, i) == string)
        resolved[string] = sorted(i for i in usable if width is None or i < width)
        if not resolved[string] and not ignore_missing:
            raise UserError(
                f"rules: {string!r} is no single token of this tokenizer; the nearest are "
                f"{_nearest(string, surfaces)}. Change the string in a preset of your own (rules=<path>), "
                f"or pass missing=ignore to do without it."
            )
    return resolved


def scope_start(tokenizer: Any, context: str, marker: str, special: Mapping[str, bool]) -> tuple[int, int]:
    """Which of a prompt's tokens count as used by rules that look at the prompt.

    Args:
        tokenizer: A fast tokenizer.
        context: The prompt's text.
        marker: Tokens count after its last occurrence; without one, after the leading special tokens.
        special: How the prompt is encoded; see `special_tokens`.

    Returns:
        The first token that counts, and the prompt's number of tokens.

    Raises:
        UserError: If the tokenizer is slow: it does not know where its tokens stand in the text.
    """
    if not tokenizer.is_fast:
        raise UserError("rules that look at the prompt need a fast tokenizer; use rules=paper.")
    ids, ends = encode(tokenizer, context, special, offsets=True)
    at = context.rfind(marker)
    if at < 0:
        return leading_special(tokenizer, ids), len(ids)
    # tokens that the tokenizer itself adds end at 0
    return sum(end <= at + len(marker) for end in ends), len(ids)


def leading_special(tokenizer: Any, ids: Sequence[int]) -> int:
    """Number of special tokens at the beginning."""
    special = set(tokenizer.all_special_ids)
    return next((n for n, i in enumerate(ids) if i not in special), len(ids))


def _decoded(tokenizer: Any, i: int) -> str | None:
    """What a token adds to a text after another token; None if it changes that one."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    before = str(tokenizer.decode(anchor, clean_up_tokenization_spaces=False))
    after = str(tokenizer.decode([*anchor, i], clean_up_tokenization_spaces=False))
    return after.removeprefix(before) if after.startswith(before) else None


def _nearest(string: str, surfaces: dict[int, bytes]) -> str:
    texts = {surface.decode("utf-8", "ignore") for surface in surfaces.values()}
    core = string.strip()
    same_core = sorted(t for t in texts if core and t.strip() == core)
    near = same_core or difflib.get_close_matches(
        string, sorted(t for t in texts if abs(len(t) - len(string)) <= 2), n=3
    )
    return ", ".join(map(repr, near[:5])) or "none"


def _byte_level_alphabet() -> dict[str, int]:
    """Character to byte of byte-level BPE: printable bytes stand for themselves, the others follow from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
