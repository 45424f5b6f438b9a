"""What CONTRIBUTING.md and docs/leaderboards.md tell people to type and to open exists."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "docs/leaderboards.md")
PLACEHOLDERS = ("NAME", "PRESET", "YOUR", "DIR", "REVISION")


def command_lines(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "line", [line for page in PAGES for line in command_lines(page) if line.startswith("implicit-if ")]
)
def test_our_commands_take_these_arguments(line: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, *arguments = shlex.split(line)[1:]
    module, _, attribute = project["entry-points"]["implicit_if.commands"][name].partition(":")
    command = importlib.import_module(module)
    parser = argparse.ArgumentParser(prog=f"implicit-if {name}")
    (getattr(command, attribute) if attribute else command).add_arguments(parser)
    parser.parse_args(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = [
        (ROOT / page).parent / target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")
    ]
    words = {word for line in command_lines(page) for word in line.split()}
    typed = [ROOT / w for w in words if re.fullmatch(r"(tests|tools|benchmarks|docs|leaderboards)/[\w./-]+", w)]
    quoted = [
        ROOT / path
        for path in re.findall(r"`((?:harness|tasks|tests|tools|model_wrappers|leaderboards|docs)/[\w./-]+)`", text)
    ]
    named = [path for path in (*linked, *typed, *quoted) if not any(word in path.name for word in PLACEHOLDERS)]
    generated = {"references.yaml", "submissions"}
    missing = [path for path in named if not path.exists() and path.name not in generated]
    assert named
    assert not [p for p in missing if not any(word in str(p) for word in PLACEHOLDERS)]
