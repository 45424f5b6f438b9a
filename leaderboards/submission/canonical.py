"""zstd frames of packed submissions, unpacked within bounds."""

from __future__ import annotations

from typing import Any

from implicit_if.harness.errors import UserError

_ZSTD_LEVEL = 12
_MAX_WINDOW = 1 << 27


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
