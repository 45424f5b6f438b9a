"""The one way in which a submission's files are written, so that equal contents are equal bytes.

Independent of locale, time zone, hash seed and platform: keys sorted, numbers as Python's `repr`, ASCII only (a
reviewer sees every control and bidirectional character as its escape), a newline at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from implicit_if.harness.errors import UserError

_ZSTD_LEVEL = 12
_MAX_WINDOW = 1 << 27

_encode_row = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def row_bytes(row: Mapping[str, Any]) -> bytes:
    """One line of JSON Lines, without its newline."""
    return _encode_row(row).encode("ascii")


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON Lines, one object a line, in the order given."""
    return "".join([_encode_row(row) + "\n" for row in rows]).encode("ascii")


def json_bytes(value: Any) -> bytes:
    """An indented JSON file."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def yaml_bytes(value: Mapping[str, Any]) -> bytes:
    """A YAML file: the keys in the order given, non-ASCII text escaped."""
    import yaml

    # SafeDumper, not libyaml's: the two fold long lines differently
    text = yaml.dump(value, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=False, width=110)
    return str(text).encode("ascii")


def compress(data: bytes) -> bytes:
    """A single zstd frame that declares its content's size, which is what `decompress` accepts."""
    zstandard = _zstandard()
    return bytes(zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(data))


def decompress(data: bytes, limit: int) -> bytes:
    """The content of one zstd frame, never holding more than `limit` bytes of it.

    The declared size is checked before anything is unpacked, and libzstd refuses a frame that holds more.

    Raises:
        ValueError: If it is not one whole frame, declares no size or more than `limit`, or something follows it.
    """
    zstandard = _zstandard()
    try:
        frame = zstandard.get_frame_parameters(data)
        size = frame.content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or frame.dict_id:
            raise ValueError("the zstd frame does not declare its content's size, or needs a dictionary")
        if size > limit:
            raise ValueError(f"unpacks to {size} bytes, expected at most {limit}")
        if frame.window_size > _MAX_WINDOW:
            raise ValueError("the zstd frame asks for too much memory")
        content = zstandard.ZstdDecompressor().decompress(data, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"not one zstd frame ({str(error)[:100]})") from error
    if len(content) != size:
        raise ValueError(f"unpacks to {len(content)} bytes, its header says {size}")
    return bytes(content)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise UserError("packed submissions (.zst) need zstandard: pip install zstandard") from error
    return zstandard
