"""The kinds of values metadata may hold: bounded, visible, and safe as names of folders where they become such."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StringConstraints

from implicit_if.harness.safe_text import is_plain, is_reserved

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_HEX = r"^[0-9a-f]{64}$"


def _visible(text: str) -> str:
    if not is_plain(text):
        raise ValueError("holds control, bidirectional or invisible characters; expected visible text in one line")
    if text != text.strip():
        raise ValueError("starts or ends with white space")
    return text


def _visible_lines(text: str) -> str:
    if not all(is_plain(part) for part in re.split(r"[\n\t]", text)):
        raise ValueError("holds control, bidirectional or invisible characters; expected visible text")
    return text


def _https(text: str) -> str:
    _visible(text)
    parts = urlsplit(text)
    if parts.scheme != "https" or not re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?", parts.netloc):
        raise ValueError("expected an address that starts with https:// and a host, without user name or password")
    if re.search(r"[\s<>\"'`\\{}|^\[\]()]", text):
        raise ValueError("holds white space, quotes or brackets; write them percent-encoded")
    return text


def _folder_name(text: str) -> str:
    if "__" in text or ".." in text or "--" in text:
        raise ValueError("expected no '__', '..' or '--'")
    if any(is_reserved(part) for part in text.split("/")):
        raise ValueError("is a device's name on some systems; choose another")
    return text


_Visible = AfterValidator(_visible)
Line = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200), _Visible]
Longer = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1_000), _Visible]
Lines = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=5_000), AfterValidator(_visible_lines)]
Word = Annotated[str, StringConstraints(strict=True, max_length=500), _Visible]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=_HEX)]
Url = Annotated[str, StringConstraints(strict=True, max_length=500), AfterValidator(_https)]
Identifier = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
Key = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
SystemName = Annotated[str, StringConstraints(strict=True, pattern=rf"^{_NAME}/{_NAME}$"), AfterValidator(_folder_name)]
Revision = Annotated[
    str, StringConstraints(strict=True, pattern=rf"^{_NAME}$", max_length=64), AfterValidator(_folder_name)
]
Whole = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]
Finite = Annotated[StrictFloat, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Scalar = StrictBool | Whole | Finite | Word | None
Value = Scalar | Annotated[list[Word], Field(max_length=16)]
Settings = Annotated[dict[Line, Value], Field(max_length=64)]
Versions = Annotated[dict[Key, Line], Field(max_length=32)]
