"""Reading data files of every shape, and naming what is broken in them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.files import read_file

ROWS = [{"name": "Ode, to a cup", "lines": "one\ntwo"}, {"name": None, "lines": "ß"}]


def test_every_shape_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.csv").write_text('name,lines\n"Ode, to a cup","one\ntwo"\n,ß\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for suffix in ("jsonl", "json", "csv", "parquet"):
        assert read_file(tmp_path / f"a.{suffix}") == ROWS, suffix


def test_csv_numbers_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,lines\n1984,007\n")
    assert read_file(tmp_path / "a.csv") == [{"name": "1984", "lines": "007"}]


def test_lines_of_text(tmp_path: Path) -> None:
    for name in ("a.txt", "a.pgn"):
        (tmp_path / name).write_text("one\n\ntwo")
        assert read_file(tmp_path / name) == [{"text": "one"}, {"text": ""}, {"text": "two"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": ', r"a\.jsonl, line 2: not JSON .* may have been cut off"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2: found list, expected an object"),
        ("a.jsonl", b"", "found 0 rows"),
        ("a.json", b'[{"a": 1}, 2]', "row 1: found int"),
        ("a.json", b'{"a": 1}', "found dict, expected a list"),
        ("a.json", b"[", "not JSON"),
        ("a.csv", b"", "not a CSV file"),
        ("a.csv", b"a,b\n", "found 0 rows"),
        ("a.csv", b'a,b\n1,2\n3,"4\n', "not a CSV file"),
        ("a.parquet", b"no parquet", "not a parquet file"),
        ("a.jsonl", b'{"a": "\xff"}\n', "Expected UTF-8"),
        ("a.pkl", b"x", "ends in '.pkl', expected one of"),
        ("a", b"x", "ends in ''"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_file(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_file(tmp_path / "none.jsonl")
