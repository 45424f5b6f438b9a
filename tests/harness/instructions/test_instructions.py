"""Instruction sets: the builtin one, the user's files, and AlpacaEval from a stand-in for the hub."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness import instructions
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import alpaca_eval, load_instructions, to_documents
from implicit_if.harness.outputs import Output, instruction_id, join_instructions

BUILTIN = Path(instructions.__file__).with_name("builtin.jsonl")
CATEGORIES = "knowledge advice recipes writing code maths translation extraction reasoning formatting".split()
TASKS = [f"Describe errand number {n} in one sentence." for n in range(alpaca_eval.N_INSTRUCTIONS)]


def save(path: Path, value: Any) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in value), encoding="utf-8")
    else:
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return str(path)


def expected_signature(texts: list[str]) -> str:
    """The content hash, worked out without the package."""
    ids = sorted(hashlib.sha256(text.strip().encode()).hexdigest()[:16] for text in texts)
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()[:8]


# ------------------------------------------------------------------ builtin
def test_builtin_is_what_the_readme_says() -> None:
    found = load_instructions("builtin")
    texts = [item.text for item in found.items]
    assert Counter(item.category for item in found.items) == dict.fromkeys(CATEGORIES, 8)
    assert (found.name, found.licence, found.shippable, found.chosen_because) == ("builtin", "Apache-2.0", True, None)
    assert all(item.id == instruction_id(item.text) and item.text == item.text.strip() for item in found.items)
    words = [len(text.split()) for text in texts if text.isascii()]
    assert (min(words), max(words)) == (6, 121)
    assert sum("\n" in text for text in texts) == 22
    assert found.signature == f"builtin@{expected_signature(texts)}"
    assert found.revision.startswith(expected_signature(texts))
    assert f"`{found.signature}`" in BUILTIN.with_name("README.md").read_text(encoding="utf-8")


def test_choices_are_made_on_other_instructions_than_those_reported_on() -> None:
    found, builtin = load_instructions("validation"), load_instructions("builtin")
    assert (len(found.items), found.licence, found.shippable) == (56, "Apache-2.0", True)
    assert found.signature == f"validation@{expected_signature([item.text for item in found.items])}"
    assert {item.category for item in found.items} == set(CATEGORIES)
    assert not found.texts().keys() & builtin.texts().keys()

    def runs(texts: list[str]) -> set[tuple[str, ...]]:
        words = [text.lower().split() for text in texts]
        return {tuple(own[n : n + 8]) for own in words for n in range(len(own) - 7)}

    assert not runs([item.text for item in found.items]) & runs([item.text for item in builtin.items])


def test_builtin_speaks_many_languages() -> None:
    def scripts(text: str) -> set[str]:
        return {unicodedata.name(c).split()[0] for c in text if c.isalpha()} - {"LATIN"}

    found = set().union(*(scripts(item.text) for item in load_instructions("builtin").items))
    assert found >= {"CJK", "HIRAGANA", "HANGUL", "CYRILLIC", "ARABIC", "DEVANAGARI"}
    markers = {"consecuencias", "mündliche", "Donne-moi", "Escreva", "Tradúcelo", "allergeni", "anahtar"}
    texts = " ".join(item.text for item in load_instructions("builtin").items)
    assert all(marker in texts for marker in markers)


def test_builtin_does_not_depend_on_the_day() -> None:
    dated = re.compile(r"\b(today|tomorrow|yesterday|nowadays|currently|latest|this year|20[12]\d)\b", re.IGNORECASE)
    assert [item.text for item in load_instructions("builtin").items if dated.search(item.text)] == []


def test_documents_and_texts() -> None:
    found = load_instructions("builtin")
    documents = to_documents(found)
    assert len(documents) == 80
    assert documents[0] == {
        "instruction_id": found.items[0].id,
        "instruction": found.items[0].text,
        "category": "knowledge",
        "dataset": "builtin",
    }
    stored = [Output(instruction_id=item.id, output="x", generator="g") for item in found.items]
    joined = join_instructions(stored, found.texts())
    assert [output.instruction for output in joined] == [document["instruction"] for document in documents]


# ------------------------------------------------------------------ files
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_file_of_ones_own(tmp_path: Path, suffix: str) -> None:
    # U+2028 ends a line for str.splitlines, but may stand inside a JSON string.
    texts = [" Name a river.\n", "First line\u2028second line", "翻訳してください。"]
    rows = [
        {"instruction": texts[0], "category": "geography", "dataset": "mine", "output": "The Po.", "generator": "x"},
        {"instruction": texts[1], "input": ""},
        {"instruction": texts[2], "category": None},
    ]
    found = load_instructions(save(tmp_path / f"my set|1{suffix}", rows))
    assert [item.text for item in found.items] == texts
    assert (found.items[0].category, found.items[0].dataset) == ("geography", "mine")
    assert [document["dataset"] for document in to_documents(found)] == ["mine", "my-set-1", "my-set-1"]
    assert found.signature == f"my-set-1@{expected_signature(texts)}"
    assert (found.licence, found.shippable, found.chosen_because) == ("unknown", False, None)
    again = load_instructions(save(tmp_path / f"my set|1{suffix}", rows[::-1]))
    assert again.signature == found.signature
    assert again.items == found.items[::-1]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([{"instruction": "Name a river."}]).encode())
    assert [item.text for item in load_instructions(str(path)).items] == ["Name a river."]


def test_a_copy_of_a_known_set_is_that_set(tmp_path: Path) -> None:
    rows = [{"instruction": f"\n{item.text} "} for item in load_instructions("builtin").items]
    random.Random(0).shuffle(rows)
    found = load_instructions(save(tmp_path / "copy.json", rows))
    assert found.signature == load_instructions("builtin").signature
    assert (found.licence, found.shippable) == ("Apache-2.0", True)
    assert [item.text for item in found.items] == [row["instruction"] for row in rows]
    assert found.chosen_because == "copy.json holds exactly the instructions of builtin"
    fewer = load_instructions(save(tmp_path / "builtin.json", rows[1:]))
    assert (fewer.name, fewer.licence) == ("builtin-local", "unknown")


def test_a_local_copy_of_alpaca_eval_keeps_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "anything.json", [{"instruction": text} for text in TASKS])
    monkeypatch.setattr(alpaca_eval, "CONTENT_SHA256", load_instructions(path).content_sha256)
    found = load_instructions(path)
    assert (found.name, found.revision) == ("alpaca_eval", alpaca_eval.REVISION)
    assert (found.licence, found.shippable) == ("CC-BY-NC-4.0", False)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], "no instructions found"),
        ({"instruction": "a"}, "found dict, expected a list of objects"),
        ([{"instruction": "a"}, {"instruction": "b"}, {"instruction": " a\n"}], "row 3: the same instruction as row 1"),
        ([{"instruction": "a"}, {"instruction": " \n"}], "row 2: empty instruction"),
        ([{"prompt": "a"}], "row 1: no `instruction`"),
        ([{"instruction": None}], "row 1: `instruction` is NoneType"),
        ([{"instruction": "a"}, "b", 3], "row 2: found str, expected an object"),
        ([{"instruction": "a", "category": 3}], "row 1: `category` is int"),
        ([{"instruction": "a", "input": "text"}], "row 1: `input` has text"),
        ([{"instruction": ""}] * 7, "row 5: .*; and 2 more"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: Any, found: str) -> None:
    with pytest.raises(UserError, match=found) as caught:
        load_instructions(save(tmp_path / "set.json", rows))
    assert str(caught.value).startswith(str(tmp_path / "set.json"))


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.json", b"[{", "a.json: not JSON"),
        ("a.json", b"[" * 100_000, "a.json: not JSON"),
        ("a.json", b'["\xff"]', "cannot be read"),
        ("a.json", b'[{"instruction": "\\ud83d"}]', "row 1: holds half of a surrogate pair"),
        ("a.jsonl", b'{"instruction": "a"}\n\n{"instruction"\n', "a.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{"instruction": "a"}\n\n{"instruction": "a"}', "line 3: the same instruction as line 1"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, data: bytes, found: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=found):
        load_instructions(str(tmp_path / name))


def test_unknown_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'alpaca-eval'. Did you mean 'alpaca_eval'"):
        load_instructions("alpaca-eval")
    with pytest.raises(UserError, match=r"gone\.json: no such file.*instructions=builtin"):
        load_instructions(str(tmp_path / "gone.json"))


# ------------------------------------------------------------------ the hub
class Hub(ThreadingHTTPServer):
    """Speaks as much of the hub's protocol as a download of one dataset file takes."""

    body: bytes
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        good = self.path == f"/datasets/{alpaca_eval.REPOSITORY}/resolve/{alpaca_eval.REVISION}/{alpaca_eval.FILE}"
        self.send_response(self.server.status if good else 404)
        self.send_header("ETag", f'"{hashlib.sha256(self.server.body).hexdigest()}"')
        self.send_header("X-Repo-Commit", alpaca_eval.REVISION)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        server.body = json.dumps(
            [{"instruction": t, "output": "SECRET", "generator": "g", "dataset": f"part{len(t) % 3}"} for t in TASKS]
        ).encode()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def load_elsewhere(spec: str, home: Path, **environment: str) -> dict[str, Any]:
    """Loads a set in a new process, since huggingface_hub reads its settings when it is imported."""
    code = """
import json, logging, sys, time
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
begin = time.monotonic()
try:
    found = load_instructions(sys.argv[1])
    assert load_instructions(sys.argv[1]) == found
    result = {"name": found.name, "n": len(found.items), "because": found.chosen_because, "licence": found.licence,
              "shippable": found.shippable, "revision": found.revision, "dataset": found.items[0].dataset,
              "text": found.items[0].text, "signature": found.signature}
except UserError as error:
    result = {"error": str(error)}
print(json.dumps(result | {"seconds": time.monotonic() - begin}))
"""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    run = subprocess.run(
        [sys.executable, "-c", code, spec],
        env=inherited | {"HF_HOME": str(home), "NO_PROXY": "*", "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result: dict[str, Any] = json.loads(run.stdout)
    return result | {"stderr": run.stderr}


def test_alpaca_eval_comes_from_the_hub_once(hub: Hub, tmp_path: Path) -> None:
    found = load_elsewhere("alpaca_eval", tmp_path, HF_ENDPOINT=hub.url)
    assert (found["name"], found["n"], found["text"]) == ("alpaca_eval", 805, TASKS[0])
    assert found["revision"] == "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
    assert (found["licence"], found["shippable"]) == ("CC-BY-NC-4.0", False)
    assert found["dataset"] == f"part{len(TASKS[0]) % 3}"
    assert found["signature"] == f"alpaca_eval@{expected_signature(TASKS)}"
    assert found["because"] is None
    assert [request.split()[0] for request in hub.requests if alpaca_eval.FILE in request].count("GET") == 1

    asked = len(hub.requests)
    cached = load_elsewhere("auto", tmp_path, HF_ENDPOINT=hub.url)
    assert (cached["name"], cached["signature"]) == ("alpaca_eval", found["signature"])
    assert "auto" in cached["because"]
    assert cached["stderr"].count("its 805 instructions are used") == 1
    assert load_elsewhere("auto", tmp_path, HF_HUB_OFFLINE="1")["name"] == "alpaca_eval"
    assert len(hub.requests) == asked


def test_auto_downloads_where_the_hub_answers(hub: Hub, tmp_path: Path) -> None:
    found = load_elsewhere("auto", tmp_path, HF_ENDPOINT=hub.url)
    assert (found["name"], found["n"]) == ("alpaca_eval", 805)
    assert "INFO" in found["stderr"]


@pytest.mark.parametrize("status", [404, 500])
def test_auto_takes_builtin_where_the_hub_refuses(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.status = status
    found = load_elsewhere("auto", tmp_path, HF_ENDPOINT=hub.url)
    assert (found["name"], found["n"]) == ("builtin", 80)
    assert str(status) in found["because"]
    assert found["stderr"].count("WARNING instructions=auto") == 1
    assert found["seconds"] < 10


def test_auto_takes_builtin_where_no_hub_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    found = load_elsewhere("auto", tmp_path, HF_ENDPOINT=f"http://someone:password@127.0.0.1:{port}")
    assert found["name"] == "builtin"
    assert found["seconds"] < 10
    assert "ConnectError" in found["because"]
    assert "password" not in found["stderr"] + str(found["because"])


def test_auto_does_not_wait_for_a_silent_hub(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = load_elsewhere("auto", tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert found["name"] == "builtin"
    assert found["seconds"] < 10


def test_a_stuck_name_look_up_holds_up_neither_the_choice_nor_the_exit() -> None:
    code = """
import time
from implicit_if.harness.instructions import alpaca_eval
try:
    alpaca_eval._within(0.1, lambda: time.sleep(600))
except alpaca_eval.HubUnavailableError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "no answer from the hub within 0.1 seconds\n"


def test_offline_is_respected(hub: Hub, tmp_path: Path) -> None:
    found = load_elsewhere("auto", tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert found["name"] == "builtin"
    assert "HF_HUB_OFFLINE" in found["because"]
    asked = load_elsewhere("alpaca_eval", tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in asked["error"]
    assert hub.requests == []


def test_alpaca_eval_without_a_hub_names_the_remedies(hub: Hub, tmp_path: Path) -> None:
    hub.status = 404
    found = load_elsewhere("alpaca_eval", tmp_path, HF_ENDPOINT=hub.url)
    assert "instructions=<path>" in found["error"]
    assert "instructions=builtin" in found["error"]
    assert found["seconds"] < 10


@pytest.mark.parametrize("spec", ["alpaca_eval", "auto"])
def test_a_hub_file_that_is_not_the_805_is_an_error(hub: Hub, tmp_path: Path, spec: str) -> None:
    hub.body = json.dumps([{"instruction": text} for text in TASKS[:3]]).encode()
    assert "found 3 instructions, expected the 805" in load_elsewhere(spec, tmp_path, HF_ENDPOINT=hub.url)["error"]


def test_importing_is_cheap() -> None:
    heavy = ("torch", "transformers", "datasets", "pandas", "huggingface_hub")
    code = f"import sys, implicit_if.harness.instructions; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
