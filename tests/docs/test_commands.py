"""What the documentation tells people to type and to open exists."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKING = ("CONTRIBUTING.md", "docs/leaderboards.md")
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
TASKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tasks").glob("*/README.md"))
PAGES = ("README.md", "CONTRIBUTING.md", *TASKS, *DOCS)
PLACEHOLDERS = ("NAME", "PRESET", "YOUR", "DIR", "REVISION")


SHELL = ("bash", "sh", "console", "")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"<!-- tree:start -->.*?<!-- tree:end -->", "", text, flags=re.DOTALL)
    return [(m[2].strip(), m[3]) for m in re.finditer(r"^(```+)([^\n`]*)\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL)]


def command_lines(page: str) -> list[str]:
    """Every line of a shell block, continued lines joined, comments left out."""
    shell = [text for language, text in blocks(page) if language in SHELL]
    lines = [line for text in shell for line in text.replace("\\\n", " ").splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def commands(program: str) -> list[str]:
    found = [line for page in PAGES for line in command_lines(page) if re.match(rf"(\$ )?{program} ", line)]
    alone = {line.removeprefix("$ ").partition(" | ")[0].partition(" && ")[0] for line in found}
    return sorted({re.sub(r"\$\(.*?\)", "0", line) for line in alone})  # what another command prints


def words(line: str) -> list[str]:
    return [word for word in shlex.split(line)[1:] if word != "..."]


@pytest.mark.parametrize("line", commands("implicit-if"))
def test_our_commands_take_these_arguments(line: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, *arguments = words(line)
    if name.startswith("-"):
        return
    module, _, attribute = project["entry-points"]["implicit_if.commands"][name].partition(":")
    command = importlib.import_module(module)
    parser = argparse.ArgumentParser(prog=f"implicit-if {name}")
    (getattr(command, attribute) if attribute else command).add_arguments(parser)
    parser.parse_args(arguments)


@pytest.mark.parametrize("line", commands("lm_eval"))
def test_lm_eval_takes_these_arguments(line: str) -> None:
    from lm_eval._cli.harness import HarnessCLI

    typed = words(line)
    HarnessCLI()._parser.parse_args(typed if typed[0] in ("ls", "run", "validate") else ["run", *typed])


@pytest.mark.parametrize("page", LINKING)
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
