"""The first command and the example of docs/attempts.md run, with the classifier that is shipped."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from implicit_if.harness.cli import main
from implicit_if.harness.judging.attempts import is_installed

PAGE = (Path(__file__).parents[2] / "docs" / "attempts.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the extra embedded")


def test_the_first_command_rates_a_shipped_reference(real_attempts: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("implicit-if attempts "))
    assert main([*shlex.split(line)[1:], "--limit", "5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"gemma-3-270m/instruction: attempt rate \d", printed)
    assert re.search(r"\|n:5\|attempts:embedded@[0-9a-f]{8}\|", printed)


def test_the_example_tells_an_answer_from_an_echo(real_attempts: None, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    exec(compile(example, "attempts.md", "exec"), {})  # noqa: S102
    one, several = capsys.readouterr().out.splitlines()
    echo, answer = (float(number) for number in several.strip("[]").split(","))
    assert float(one) > 0.5 > echo
    assert answer > 0.5
