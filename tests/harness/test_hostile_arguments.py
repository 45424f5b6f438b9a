"""Whatever a user names, no command ends in a traceback or in "this should not happen"."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness import cli
from implicit_if.harness.commands import GROUP

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
FILES = {
    "deep.json": b"[" * 200_000,
    "deep.jsonl": b'{"a":' * 200_000,
    "digits.json": b'[{"instruction": "a", "output": "b", "generator": "g", "n_tokens": ' + b"9" * 5000 + b"}]",
    "zeros.json": b"\0" * 10,
    "latin.json": b'[{"instruction": "\xe4"}]',
    "empty.json": b"",
    "nul.csv": b"instruction,output\n\0,b\n",
    "quote.csv": b'instruction,output\n"a,b\n',
    "deep.yaml": b"[" * 5000,
    "x.annotations.jsonl": b'{"a": 1}\n',
    "steers.json": json.dumps([{"instruction": "a", "output": "b", "generator": "g\x1b[31m\n"}]).encode(),
}
NAMES = [*FILES, "folder", "missing", "a" * 300, "\udcff.json", "/dev/null", "steers.json/x"]
COMMANDS = [
    "judge {} --reference ok.json --judge longest",
    "judge ok.json --reference {} --judge longest",
    "judge ok.json --reference ok.json --judge {}",
    "judge ok.json --reference ok.json --judge longest --instructions {}",
    "judge other.json --reference ok.json --judge longest --annotations {}",
    "judge other.json --reference ok.json --judge longest --out {}",
    "compare {} x.annotations.jsonl",
    "score {}",
    "judge-card {}",
    "judge-card longest --labelled x={}",
    "judge-card longest --out {}",
    "attempts {}",
    "attempts ok.json --out {}",
    "agreement {} x.annotations.jsonl",
    "agreement ok.json --out {}",
    "response-ranking --pairs {} --limit 1",
    "response-ranking --pairs ok.json --out {}",
    "compare x.annotations.jsonl --out {}",
    "score ok.json --out {}",
    "select {} --out chosen",
    "audit-verdicts {} --seed 1",
    "embedded-model {}",
    "verify {}",
    "export {}",
    "rerun {}",
    "leaderboard --check --root {}",
    "submit {} --name a/b --licence MIT",
    "tune {} --dry-run",
    "tune gsm --set {}",
    "cache clear {}",
    "list {}",
]


@pytest.mark.filterwarnings("ignore:the system's answers are the reference's")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument_ends_in_a_traceback(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    declared = PROJECT["entry-points"][GROUP].items()
    monkeypatch.setattr(cli, "find_commands", lambda: {n: EntryPoint(n, v, GROUP) for n, v in declared})
    monkeypatch.chdir(tmp_path)
    for name, output in (("ok", "b"), ("other", "cc")):
        row = {"instruction": "a", "output": output, "generator": name}
        Path(f"{name}.json").write_text(json.dumps([row]))
    Path("folder").mkdir()
    for name in NAMES:
        for file, content in FILES.items():
            Path(file).write_bytes(content)
        try:
            status = cli.main([word.format(name) for word in command.split()])
        except SystemExit as stop:  # argparse's
            status = stop.code
        printed = "".join(capsys.readouterr())
        assert status in (0, 1, 2), f"{name[:40]}: {printed}"
        assert "\x1b" not in printed
        assert "Traceback" not in printed
