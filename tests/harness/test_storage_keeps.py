"""Nothing of the user's is replaced by writing: devices and pipes are written to, links keep pointing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from implicit_if.harness.storage import atomic_write, write_json


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(10)
    assert read == ['{\n  "a": 1\n}\n']
    assert pipe.is_fifo()


def test_a_device_is_written_to() -> None:
    write_json("/dev/null", {"a": 1})
    assert Path("/dev/null").is_char_device()


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target.json", tmp_path / "link.json"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"), atomic_write(tmp_path) as file:
        file.write("x")
