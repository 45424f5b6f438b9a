"""`implicit-if cache`: sizes by kind, and nothing but our own is ever removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.cli import main

OURS = {
    "annotations/0123456789abcdef.jsonl": "annotations",
    "annotations/0123456789abcdef.jsonl.lock": "annotations",
    "base-answers/" + "0" * 64 + ".jsonl": "base-answers",
    "file-hashes.jsonl": "file-hashes",
    "models/gemma-3-270m-a5fd3b62-1/model.safetensors": "models",
    "leaderboards/0123456789abcdef/stamps.json": "leaderboards",
    "unjudged/0123456789abcdef/outputs.json": "unjudged",
    "view/0123456789abcdef/index.html": "view",
}
OTHERS = [
    "thesis.tex",
    "annotations/mine.jsonl",
    "models/other-model/model.safetensors",
    "photos/0123456789abcdef.jsonl",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*OURS, *OTHERS]:
        (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / name).write_text("x" * 10)
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_sizes_by_kind(folder: Path, capsys: Any) -> None:
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = {row["kind"]: row["bytes"] for row in found["kinds"] if row["bytes"]}
    assert sizes == {kind: 10 * list(OURS.values()).count(kind) for kind in OURS.values()}
    assert found["others"] == ["photos", "thesis.tex"]
    assert main(["cache"]) == 0
    assert "not ours, never cleared: photos, thesis.tex" in capsys.readouterr().out


def test_clear_removes_what_costs_computing_time_only_and_never_another_s(folder: Path, capsys: Any) -> None:
    assert main(["cache", "clear"]) == 0
    kept = {name for name, kind in OURS.items() if kind in ("annotations", "unjudged")}
    assert there(folder) == {*OTHERS, *kept}
    printed = capsys.readouterr().out
    assert "kept: judges' verdicts (judges would be asked again); implicit-if cache clear annotations" in printed
    assert main(["cache", "clear", "annotations", "unjudged"]) == 0
    assert there(folder) == set(OTHERS)


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "weights").write_text("mine")
    (folder / "models" / "gemma-3-270m-link").symlink_to(tmp_path / "precious")
    (folder / "base-answers").rename(tmp_path / "base-answers")
    (folder / "base-answers").symlink_to(tmp_path / "base-answers")
    assert main(["cache", "clear", "models", "base-answers"]) == 0
    assert (tmp_path / "precious" / "weights").read_text() == "mine"
    assert list((tmp_path / "base-answers").iterdir())


def test_without_a_cache_folder_there_is_nothing(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "none"))
    assert main(["cache"]) == main(["cache", "clear"]) == 0
    assert "in all 0 B" in capsys.readouterr().out
    assert main(["cache", "clear", "model"]) == 2
    assert "unknown kind 'model'. Did you mean 'models'" in capsys.readouterr().err
