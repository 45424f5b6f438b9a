"""Reading what users give, and canonical bytes; further tests of writing stand with what writes."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import (
    atomic_write,
    json_bytes,
    jsonl_bytes,
    read_json,
    read_rows,
    read_yaml,
    write_json,
    yaml_bytes,
)


def test_rows_of_both_shapes_are_the_same_and_know_their_place(tmp_path: Path) -> None:
    rows = [{"a": "eins\u2028zwei"}, {"b": [1, None]}]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8-sig")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "a.JSONL").write_text(f"{lines[0]}\r\n\n{lines[1]}", encoding="utf-8", newline="")
    assert list(read_rows(tmp_path / "a.json", "rows")) == [("row 1", rows[0]), ("row 2", rows[1])]
    assert list(read_rows(tmp_path / "a.JSONL", "rows")) == [("line 1", rows[0]), ("line 3", rows[1])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1", r"a\.json: not JSON .*may have been cut off\. Expected my rows"),
        ("a.json", b"1" * 5000, "a.json: not JSON"),
        ("a.json", b"[" * 200_000, "a.json: not JSON"),
        ("a.json", b"", "a.json: not JSON"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "not JSON .*one JSON object a line in a .jsonl file"),
        ("a.json", b'{"a": 1}', "found dict, expected a list"),
        ("a.json", b'[{"a": 1}, null]', "a.json, row 2: found NoneType"),
        ("a.jsonl", b'{"a": 1}\n\n[]\n', "a.jsonl, line 3: found list"),
        ("a.jsonl", b'{"a": 1}\n' + b'{"a":' * 200_000, "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"a": "\xe4"}\n', "a.jsonl: cannot be read .*Expected UTF-8: my rows"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"(?s){message}"):
        list(read_rows(tmp_path / name, "my rows"))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file. Expected the answer"):
        read_json(tmp_path / "none.json", "the answer")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path, "the answer")


def test_canonical_bytes_are_ascii_sorted_and_end_in_a_newline() -> None:
    value = {"b": "ä\u202e", "a": 0.1}
    assert jsonl_bytes([value]) == b'{"a":0.1,"b":"\\u00e4\\u202e"}\n'
    assert json_bytes(value) == b'{\n  "a": 0.1,\n  "b": "\\u00e4\\u202e"\n}\n'
    assert yaml_bytes(value) == b'b: "\\xE4\\u202E"\na: 0.1\n'
    with pytest.raises(ValueError, match="nan"):
        json_bytes(float("nan"))


def test_devices_pipes_and_links_stay_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_json(tmp_path / "pipe", 1)
    assert os.read(reader, 10) == b"1\n"
    os.close(reader)
    assert stat.S_ISFIFO(os.lstat(tmp_path / "pipe").st_mode)
    write_json("/dev/null", 1)
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")  # its file is not there yet
    for value in (1, 2):
        write_json(tmp_path / "link.json", value)
        assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "2\n"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_is_written_to_even_where_a_shell_made_it_a_file(name: str, tmp_path: Path) -> None:
    code = f"from implicit_if.harness.storage import write_json; print('table'); write_json({name!r}, 1); print('end')"
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-u", "-c", code], stdout=log, check=True, cwd=tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("log", "table\n1\nend\n")]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")

    def fill() -> None:
        with atomic_write(tmp_path / "a.json") as file:
            file.write("new")
            raise OSError(28, "the disk is full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "cannot be read as YAML"),
        (b"[" * 5000, "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        (b"a: " + b"9" * 5000, "cannot be read as YAML"),
        (b"\xe4", "cannot be read .*Expected UTF-8: settings"),
        (b"- a", "found list, expected keys and values: settings"),
        (b"1: a", "the key 1 is no text"),
        (b"", "found NoneType"),
    ],
)
def test_damaged_yaml_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError, match=f"(?s)a.yaml: {message}"):
        read_yaml(tmp_path / "a.yaml", "settings")


def test_yaml_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "a.yaml", "settings") == {"a": 1}
