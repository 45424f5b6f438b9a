"""Reading data files of every shape, and naming what is broken in them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.read_file import read_file

ROWS = [{"name": "Ode, to a cup", "lines": "one\ntwo"}, {"name": None, "lines": "ß"}]


def test_every_shape_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.csv").write_text('name,lines\n"Ode, to a cup","one\ntwo"\n,ß\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for suffix in ("jsonl", "json", "csv", "parquet"):
        assert [row for _, row in read_file(tmp_path / f"a.{suffix}")] == ROWS, suffix


def test_places_count_from_one_and_as_an_editor_does(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"a": 1}\n\n\n{"a": 2}\n')
    (tmp_path / "a.csv").write_text('a\n\n"one\ntwo"\n\nthree\n')
    (tmp_path / "a.json").write_text('[{"a": 1},\n\n{"a": 2}]')
    pq.write_table(pa.Table.from_pylist([{"a": 1}, {"a": 2}]), tmp_path / "a.parquet")
    places = {suffix: [place for place, _ in read_file(tmp_path / f"a.{suffix}")] for suffix in ("jsonl", "csv")}
    assert places == {"jsonl": ["line 2", "line 5"], "csv": ["line 3", "line 6"]}
    for suffix in ("json", "parquet"):
        assert [place for place, _ in read_file(tmp_path / f"a.{suffix}")] == ["row 1", "row 2"]


@pytest.mark.parametrize(
    ("name", "content", "row"),
    [
        ("a.jsonl", '{"a": "b"}\n', {"a": "b"}),
        ("a.json", '[{"a": "b"}]', {"a": "b"}),
        ("a.csv", "a\nb\n", {"a": "b"}),
        ("a.txt", "b\n", {"text": "b"}),
    ],
)
def test_a_byte_order_mark_is_no_content(tmp_path: Path, name: str, content: str, row: dict[str, str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert [found for _, found in read_file(tmp_path / name)] == [row]


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"name,lines\n1984,007\nNone,NA\n{'x' * 200_000},nan\n")
    rows = [row for _, row in read_file(tmp_path / "a.csv")]
    assert rows == [
        {"name": "1984", "lines": "007"},
        {"name": "None", "lines": "NA"},
        {"name": "x" * 200_000, "lines": "nan"},
    ]
    named = [row["name"] for _, row in read_file(tmp_path / "a.csv", {"None"})]
    assert named == ["1984", None, "x" * 200_000]


def test_csv_equals_another_reader(tmp_path: Path) -> None:
    import pandas as pd

    cells = ['a, "b"', "c\r\nd", " e ", "'", '""', "ß", ";", "\t"]
    path = tmp_path / "a.csv"
    pd.DataFrame({"": range(8), "x": cells, "y": cells[::-1]}).to_csv(path, index=False)
    expected = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    assert [list(row.values()) for _, row in read_file(path)] == [list(row.values()) for row in expected]


def test_lines_of_text(tmp_path: Path) -> None:
    for name in ("a.txt", "a.pgn"):
        (tmp_path / name).write_text("one\n\ntwo")
        assert [row["text"] for _, row in read_file(tmp_path / name)] == ["one", "", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": ', r"a\.jsonl, line 2: not JSON .* may have been cut off"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2: found list, expected an object"),
        ("a.jsonl", b"", "found 0 rows"),
        ("a.jsonl", b'{"a": 1}\n' + b"[" * 100_000, "line 2: not JSON"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.json", b'[{"a": 1}, 2]', "row 2: found int"),
        ("a.json", b'{"a": 1}', "found dict, expected a list"),
        ("a.json", b"[", "not JSON"),
        ("a.csv", b"", "not a CSV file"),
        ("a.csv", b"a,b\n", "found 0 rows"),
        ("a.csv", b'a,b\n1,2\n3,"4\n', "line 3: not a CSV file"),
        ("a.csv", b'a,b\n1,2\n3,"4"5\n', "line 3: not a CSV file"),
        ("a.csv", b"a,b\nTell me, please,Hello\nAdd 2, 3,5\n", "line 2: found 3 cells, expected 2"),
        ("a.csv", b'a,b\n"1\n",2\n3,4,5\n', "line 4: found 3 cells, expected 2"),
        ("a.csv", b"a,b\n1,2\n3\n", "line 3: found 1 cells, expected 2"),
        ("a.csv", b"a,b,a\n1,2,3\n", "the header names 'a' twice"),
        ("a.parquet", b"no parquet", "not a parquet file"),
        ("a.jsonl", b'{"a": "\xff"}\n', "Expected UTF-8"),
        ("a.jsonl", b'{\n  "a": 1\n}\n', "line 1: the JSON goes on over several lines"),
        (
            "a.jsonl",
            b'[{"a": 1}]\n',
            "line 1: found list, expected an object. A list of rows is a file that ends in .json",
        ),
        ("a.jsonl", b'{"a": \n[2]\n{"a": 1}\n3\n', r"3 rows do not fit:(?s:.*)line 1(?s:.*)line 2(?s:.*)line 4"),
        ("a.csv", b"a;b\n1;2\n", "the header is 'a;b', one column. Expected commas"),
        ("a.csv", b"a\tb\n1\t2\n", r"the header is 'a\\tb', one column. Expected commas"),
        ("a.csv", b"a,b\n1\n2,3\n4\n", r"2 rows do not fit:(?s:.*)line 2(?s:.*)line 4"),
        ("a.pkl", b"x", "ends in '.pkl', expected one of"),
        ("a", b"x", "ends in ''"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_file(tmp_path / name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    with pytest.raises(UserError, match=r"is a folder\. Expected one file of training data \(found in it: a\.csv\)"):
        read_file(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_file(tmp_path / "none.jsonl")
