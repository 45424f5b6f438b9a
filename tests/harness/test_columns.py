"""A measure of form is added in two source files, and is then in every table; stored submissions stay as they are."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import implicit_if
from implicit_if.harness.answer_form import MEASURES
from implicit_if.harness.columns import COLUMNS, FORM, Column, notes

ROOT = Path(__file__).parents[2]
COPIED = ("harness", "tasks", "model_wrappers", "leaderboards")


def test_columns_are_the_measures_and_round_once() -> None:
    assert [column.name for column in FORM] == list(MEASURES)
    assert len({column.name for column in COLUMNS}) == len({column.label for column in COLUMNS}) == len(COLUMNS)
    assert Column("a", "a", "form", 1).show(4.45) == "4.5"  # 4.45 is 4.4500000000000001776...
    assert Column("a", "a", "form", 1).show(4.4499) == "4.4"
    assert Column("a", "a", "form", 0).show(None) == "-"
    assert "LC: length-controlled." in notes()


def test_a_new_column_takes_two_source_files(tmp_path: Path) -> None:
    package = tmp_path / "implicit_if"
    shutil.copytree(Path(str(implicit_if.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "embedded_model", "*.safetensors")
        shutil.copytree(ROOT / name, package / name, ignore=ignored, dirs_exist_ok=True)
    form, columns = package / "harness" / "answer_form.py", package / "harness" / "columns.py"
    _insert(form, '    "avg_length": lambda', '    "questions": lambda o, tags: 100.0 * ("?" in o.output),\n')
    _insert(
        columns,
        '    Column("n", "n"',
        '    Column("questions", "asks %", "form", 2, False, "Asks: a question mark."),\n',
    )
    root = tmp_path / "root"
    for name in ("implicit-if__gemma-3-270m-base", "references"):
        shutil.copytree(ROOT / "leaderboards" / "archive" / "0.1" / name, root / "submissions" / name)
    script = (
        "import argparse, sys; from implicit_if.leaderboards.commands import leaderboard as c; "
        "p = argparse.ArgumentParser(); c.add_arguments(p); sys.exit(c.run(p.parse_args()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "IMPLICIT_IF_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", script, "--root", str(root), "--processes", "1"]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    first = "implicit-if__gemma-3-270m-base/3f19ef3f958c"
    lines = (root / "submissions" / first / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
    expected = 100 * sum("?" in json.loads(line)["output"] for line in lines) / len(lines)
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "asks %" in readme
    assert f" {expected:.2f} |" in readme
    assert "Asks: a question mark." in " ".join(readme.split())
    rows = list(csv.DictReader((root / "leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    assert float(next(row["questions"] for row in rows if row["revisions"] == "3f19ef3f958c")) == expected
    page = (root / "page.html").read_text(encoding="utf-8")
    assert '{"name":"questions","label":"asks %","kind":"form","note":"a question mark."}' in page


def _insert(path: Path, before: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, line + before), encoding="utf-8")
