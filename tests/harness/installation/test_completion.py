"""Completion: what a shell is told, asked as shells ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.cli import main


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("implicit-if jud", {"judge", "judge-card"}),
        ("implicit-if judge --length-c", {"--length-control"}),
        ("implicit-if judge x --length-control off", {"offline"}),
    ],
)
def test_a_shell_gets_what_could_come_next(line: str, expected: set[str], tmp_path: Path) -> None:
    told = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    told["_ARGCOMPLETE_STDOUT_FILENAME"] = str(tmp_path / "told")
    subprocess.run([sys.executable, "-m", "implicit_if"], env=os.environ | told, check=True)
    assert {word.strip() for word in (tmp_path / "told").read_text().split("\n")} >= expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell: str, capsys: Any) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "implicit-if" in code
    assert "_ARGCOMPLETE" in code
    with pytest.raises(SystemExit):
        main(["completion", "cmd"])
