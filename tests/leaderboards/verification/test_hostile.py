"""Folders made by an enemy: a clear error each, nothing written, memory and time bounded."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from factory import make_submission
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.read import SubmissionError, parse_json, parse_yaml
from implicit_if.leaderboards.verification.verify import verify
from implicit_if.leaderboards.verification.verify_all import verify_all


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_submission(tmp_path_factory.mktemp("good"), n=4)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    target = tmp_path / "submissions" / good.parent.name / good.name
    shutil.copytree(good, target)
    return target


def snapshot(root: Path) -> dict[str, int]:
    return {str(p): os.lstat(p).st_mtime_ns for p in sorted(root.rglob("*"))}


def refused(folder: Path) -> SubmissionError:
    before = snapshot(folder.parents[1])
    with pytest.raises(SubmissionError) as error:
        verify(folder)
    assert snapshot(folder.parents[1]) == before
    text = str(error.value)
    assert 20 < len(text) < 6000
    assert text.isprintable() or {c for c in text if not c.isprintable()} <= {"\n"}
    return error.value


LAUGHS = "\n".join(
    ["a: &a [lol, lol]", *(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20))]
)

METADATA: dict[str, bytes] = {
    "empty": b"",
    "a list": b"- 1\n",
    "text": b"hello",
    "NUL": b"\x00",
    "binary": bytes(range(256)),
    "UTF-16": "schema_version: 1".encode("utf-16"),
    "laughs": LAUGHS.encode(),
    "anchor": b"schema_version: &x 1\n",
    "python tag": b"schema_version: !!python/object/apply:os.system ['echo hacked > /tmp/hacked']\n",
    "binary tag": b"schema_version: !!binary aGVsbG8=\n",
    "merge": b"<<: {name: x}\nschema_version: 1\n",
    "duplicate": b"name: a/b\nname: c/d\n",
    "two documents": b"name: a/b\n---\nname: c/d\n",
    "deep": b"a: " + b"[" * 5000 + b"]" * 5000,
    "deep block": b"".join(b" " * i + b"a:\n" for i in range(300)),
    "many": b"".join(b"k%d: 1\n" % i for i in range(9000)),
    "long key": b"? " + b"x" * 100_000 + b"\n: 1\n",
    "big int": b"schema_version: " + b"9" * 100_000,
    "big hex": b"schema_version: 0x" + b"f" * 100_000,
    "base 60": b"schema_version: 1" + b":00" * 400 + b".0\n",
    "inf": b"schema_version: .inf\n",
    "date": b"schema_version: 2024-01-01\n",
    "number keys": b"1: 2\n",
    "list key": b"? [a, b]\n: 1\n",
    "too large": b"#" * (read.SMALL_LIMIT + 1),
    "percent": b"%YAML 9.9\n---\na: 1\n",
    "tabs": b"\tname: x\n",
    "controls": "name: a\u202e/b\n".encode(),
}


YAML_MESSAGES = {
    "laughs": "anchor or alias",
    "anchor": "anchor or alias",
    "python tag": "uses a tag",
    "binary tag": "uses a tag",
    "merge": "merge key",
    "duplicate": "'name' twice",
    "two documents": "2 documents",
    "deep": "nested too deeply",
    "base 60": "too large",
    "many": "more than 4000 parts",
    "too large": "expected at most",
    "list key": "no text",
}


@pytest.mark.parametrize("name", sorted(METADATA))
def test_hostile_yaml(folder: Path, name: str) -> None:
    (folder / "metadata.yaml").write_bytes(METADATA[name])
    start = time.process_time()
    assert YAML_MESSAGES.get(name, "") in str(refused(folder))
    assert time.process_time() - start < 5
    assert not Path("/tmp/hacked").exists()


ROWS: dict[str, bytes] = {
    "empty": b"",
    "no newline": b"{}",
    "blank lines": b"\n\n\n",
    "list": b"[]\n",
    "null": b"null\n",
    "deep": b"[" * 100_000 + b"\n",
    "deep object": b'{"a":' * 100_000 + b"\n",
    "NaN": b'{"preference":NaN}\n',
    "big number": b'{"n_tokens":' + b"9" * 1_000_000 + b"}\n",
    "exponent": b'{"preference":1e999999999}\n',
    "UTF-8": '{"output":"é"}\n'.encode(),
    "not UTF-8": b'{"output":"\xff"}\n',
    "surrogate": b'{"output":"\\ud800"}\n',
    "many lines": b"{}\n" * 100_000,
    "long line": b'{"output":"' + b"a" * 10_000_000 + b'"}\n',
    "torn": b'{"output":"a\n',
    "too large": b" " * (read.DATA_LIMIT + 1),
    "comma trick": b'{"output":"a"},{"output":"b"}\n',
    "close trick": b'{"output":"a"}][{"output":"b"}\n',
}


@pytest.mark.parametrize("name", sorted(ROWS))
@pytest.mark.parametrize("stem", ["outputs", "annotations"])
def test_hostile_rows(folder: Path, name: str, stem: str) -> None:
    (folder / f"{stem}.jsonl").write_bytes(ROWS[name])
    start = time.process_time()
    refused(folder)
    assert time.process_time() - start < 10


def _link(target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "outputs.jsonl").unlink()
        (folder / "outputs.jsonl").symlink_to(target)

    return make


def _hard_link(folder: Path) -> None:
    os.link(folder / "outputs.jsonl", folder.parents[1] / "elsewhere")


def _fifo(folder: Path) -> None:
    (folder / "outputs.jsonl").unlink()
    os.mkfifo(folder / "outputs.jsonl")


def _socket(folder: Path) -> None:
    (folder / "scores.json").unlink()
    here = os.getcwd()
    os.chdir(folder)  # a socket's path may have 108 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("scores.json")
    finally:
        os.chdir(here)


def _folder_link(folder: Path) -> None:
    shutil.move(folder, folder.parents[1] / "real")
    folder.symlink_to(folder.parents[1] / "real")


def _in_place_of_scores(folder: Path) -> None:
    (folder / "scores.json").unlink()
    (folder / "scores.json").mkdir()


ENTRIES: dict[str, Callable[[Path], object]] = {
    "link": _link("/etc/passwd"),
    "link to itself": _link("outputs.jsonl"),
    "link upwards": _link("../../../../.."),
    "link to a device": _link("/dev/zero"),
    "hard link": _hard_link,
    "pipe": _fifo,
    "socket": _socket,
    "folder for a file": _in_place_of_scores,
    "a linked folder": _folder_link,
    "setup.py": lambda f: (f / "setup.py").write_text("raise SystemExit"),
    "conftest.py": lambda f: (f / "conftest.py").write_text("raise SystemExit"),
    "hidden": lambda f: (f / ".gitattributes").write_text("* filter=x"),
    "folder": lambda f: (f / "more").mkdir(),
    "newline": lambda f: (f / "a\nb").write_text("x"),
    "escape sequence": lambda f: (f / "\x1b[31m").write_text("x"),
    "not UTF-8": lambda f: Path(os.fsdecode(os.fsencode(f) + b"/\xff\xfe")).write_text("x"),
    "many": lambda f: [(f / str(i)).write_text("x") for i in range(500)],
    "packed": lambda f: (f / "outputs.jsonl.zst").write_bytes(b"(\xb5/\xfd"),
    "other case": lambda f: (f / "Outputs.jsonl").write_text("{}\n"),
    "no metadata": lambda f: (f / "metadata.yaml").unlink(),
    "no scores": lambda f: (f / "scores.json").unlink(),
}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_hostile_entries(folder: Path, name: str) -> None:
    ENTRIES[name](folder)
    if name == "hard link" or name == "a linked folder":
        with pytest.raises(SubmissionError, match="link"):
            verify(folder)
    else:
        refused(folder)


@pytest.mark.parametrize("entry", ["stray.txt", "org__model/file.txt"])
def test_strangers_among_submissions_are_refused(folder: Path, entry: str) -> None:
    path = folder.parents[1] / entry
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    with pytest.raises(SubmissionError, match="unexpected"):
        verify_all(folder.parents[1])


def test_a_linked_submission_is_refused(folder: Path) -> None:
    (folder.parents[1] / "a__b").symlink_to(folder.parent)
    with pytest.raises(SubmissionError, match="unexpected"):
        verify_all(folder.parents[1])


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="cannot be read"):
        verify(tmp_path / "no" / "where")


# ---------------------------------------------------------------- fuzz
FREE = {"generation", "run", "base_model", "licence", "contact", "links", "data", "template"}
"""Parts of the metadata that hold the submitter's own words."""


def attempt(function: Callable[[Any], Any], argument: Any) -> tuple[Any, Exception | None]:
    """The function's value, or its ValueError; any other exception is a failure of the test."""
    try:
        return function(argument), None
    except ValueError as error:
        return None, error


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TRICKS = st.sampled_from(
    [
        "../../../etc/passwd",
        "<img src=x onerror=alert(1)>",
        '=cmd|"/C calc"!A0',
        "\u202e",
        "a\x00b",
        "${jndi:ldap://x}",
        "{{7*7}}",
        "'; DROP TABLE x;--",
        "x" * 50_000,
        "javascript:alert(1)",
        -1,
        10**30,
        1e308,
        [],
        {},
        None,
        True,
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_metadata_and_scores_are_refused(data: st.DataObject, good: Path) -> None:
    """One value anywhere in metadata or scores becomes something else: accepted only where anything may stand."""
    name = data.draw(st.sampled_from(["metadata.yaml", "scores.json"]))
    path = good / name
    content = path.read_bytes()
    value = yaml.safe_load(content)
    places = list(_places(value, ()))
    place = data.draw(st.sampled_from(places))
    new = data.draw(TRICKS | JSON_VALUES)
    target = value
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = new
    try:
        path.write_bytes(json.dumps(value, allow_nan=True).encode() if name == "scores.json" else _dump(value))
        before = snapshot(good.parents[1])
        accepted, error = attempt(verify, good)
        if accepted is None:
            assert isinstance(error, SubmissionError)
            assert len(str(error)) < 6000
        else:
            assert place[0] in FREE or name == "metadata.yaml"
            assert place[0] in FREE | {"system", "schema_version"}
            assert str(accepted.metadata).isprintable()
        assert snapshot(good.parents[1]) == before
    finally:
        path.write_bytes(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_yaml_or_a_clear_error(data: bytes) -> None:
    for parse in (parse_yaml, parse_json):
        _, error = attempt(parse, data)
        assert error is None or (isinstance(error, ValueError) and len(str(error)) < 300)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_json_that_is_accepted_is_read_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    found, error = attempt(parse_json, text.encode())
    assert found == value if error is None else "NaN" in text or "Infinity" in text


def _dump(value: Any) -> bytes:
    try:
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    except yaml.YAMLError:
        return b"x"


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _places(child, (*path, key))


# ---------------------------------------------------------------- bounds
ONE_LINE: dict[str, Callable[[], bytes]] = {
    "rows in a line": lambda: b"{}," * (8 << 20),
    "keys in a row": lambda: b'{"dataset":1' + b"".join(b',"%x":1' % i for i in range(2_000_000)),
    "lists in a row": lambda: b'{"dataset":[' + b"[]," * (8 << 20),
    "strings in a row": lambda: b'{"dataset":"' + b'",",' * (6 << 20),
}
"""Small once written, large once parsed."""


@pytest.mark.parametrize("name", ["laughs", "rows", "deep", *ONE_LINE])
def test_memory_and_time_are_bounded(folder: Path, name: str) -> None:
    """In a process that may not take more: 1 GiB and 20 CPU seconds, libraries included."""
    if name == "laughs":
        (folder / "metadata.yaml").write_bytes(METADATA["laughs"])
    elif name == "rows":
        row = b'{"a":' + b"[]," * 5 + b"1}\n"
        (folder / "outputs.jsonl").write_bytes(row * (read.DATA_LIMIT // len(row)))
    elif name in ONE_LINE:
        (folder / "outputs.jsonl").write_bytes(ONE_LINE[name]()[: read.DATA_LIMIT - 1] + b"\n")
    else:
        (folder / "annotations.jsonl").write_bytes(b"[" * (read.DATA_LIMIT - 1) + b"\n")
    code = f"""
        import resource, sys
        from implicit_if.leaderboards.verification.verify import SubmissionError, verify
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try:
            verify({str(folder)!r})
        except SubmissionError as error:
            print(len(str(error)))
            sys.exit(0)
        sys.exit(1)
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 6000


def test_nothing_is_fetched_or_run(folder: Path) -> None:
    """Verification opens no connection and starts no process."""
    code = f"""
        import sys
        import numpy.testing  # NumPy 2.1 asks lscpu while this is imported
        forbidden = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec"}
        from implicit_if.leaderboards.verification.verify import verify
        def hook(event, arguments):
            if event in forbidden:
                print(event, arguments)
                sys.exit(9)
            if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
                print(event, arguments)
                sys.exit(8)
        sys.addaudithook(hook)
        verify({str(folder)!r})
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
