"""Writes the generated pages of the documentation: docs/reference/commands.md, docs/llms.txt and
docs/figures/architecture.svg.

    python tools/docs_pages.py [--check]

The first is made of the commands' own parsers, the second of the tables of contents in docs/index.md and the first
paragraph of each page, the third of the imports. `--check` writes nothing and has the exit status 1 if a page is out of
date.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import architecture_figure

from implicit_if.harness.storage import atomic_write

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GENERATED = "<!-- Written by tools/docs_pages.py; change the command's parser, not this page. -->"


def main(*arguments: str) -> int:
    stale = []
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                with atomic_write(path) as file:
                    file.write(text)
    print(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(stale) or 'none'}")
    return int(bool(stale) and "--check" in arguments)


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    commands = DOCS / "reference" / "commands.md"
    made = {commands: commands_page(), DOCS / "figures" / "architecture.svg": architecture_figure.figure()}
    return made | {DOCS / "llms.txt": llms_page(made)}


def commands_page() -> str:
    """Every command with its arguments, in the order of their names."""
    parsers = {name: command_parser(name) for name in sorted(PROJECT["entry-points"]["implicit_if.commands"])}
    index = [f"- [`implicit-if {name}`](#implicit-if-{name}): {p.description}" for name, p in parsers.items()]
    lead = (
        f"# Commands\n\n{GENERATED}\n\nEvery command and its arguments, as `implicit-if COMMAND --help` shows them.\n"
    )
    return "\n".join([lead, *index, "", *(_section(name, parser) for name, parser in parsers.items())])


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of a command that pyproject.toml declares, whatever is installed."""
    module, _, attribute = PROJECT["entry-points"]["implicit_if.commands"][name].partition(":")
    command: Any = importlib.import_module(module)
    command = getattr(command, attribute) if attribute else command
    parser = argparse.ArgumentParser(prog=f"implicit-if {name}", description=command.HELP)
    command.add_arguments(parser)
    return parser


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [_row(parser, action) for action in parser._actions if action.help != argparse.SUPPRESS]
    table = ["| argument | |", "|---|---|", *(row for row in rows if row)]
    about = (parser.description or "").strip()
    text = f"## implicit-if {name}\n\n{about[:1].upper()}{about[1:].rstrip('.')}.\n"
    return "\n".join([text, *(table if len(table) > 2 else ["No arguments."]), ""])


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str | None:
    if isinstance(action, argparse._HelpAction):
        return None
    shown = " ".join(parser._get_formatter()._expand_help(action).split()) if action.help else ""
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = action.metavar or action.dest.upper()
        value = " ".join(value) if isinstance(value, tuple) else str(value)
    if action.nargs in ("+", "*"):
        value = f"{value} ..."
    spelled = ", ".join(f"`{option}`" for option in action.option_strings)
    takes_value = not action.option_strings or action.nargs != 0
    name = " ".join(part for part in (spelled, f"`{value}`" if takes_value else "") if part)
    needed = "; required" if action.required and action.option_strings else ""
    return f"| {_cell(name)} | {_cell(shown, escape=True)}{needed} |"


def _cell(text: str, escape: bool = False) -> str:
    """A text in a cell of a Markdown table; what looks like markup stays as it is written."""
    text = re.sub(r"([\\`*_<\[\]])", r"\\\1", text) if escape else text
    return text.replace("|", r"\|")


def llms_page(made: dict[Path, str]) -> str:
    """The table of contents for language models (llmstxt.org), a line a page; `made` holds pages not on disk yet."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S)
    parts = [f"# {PROJECT['name']}\n\n> {PROJECT['description']}\n"]
    for block in blocks:
        caption = re.search(r"^:caption: (.+)$", block, re.M)
        entries = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
        found = [page for entry in entries for page in _pages_of(entry)]
        parts.append(
            "\n".join([f"## {caption[1] if caption else 'Pages'}\n", *(_line(p, made.get(p)) for p in found), ""])
        )
    return "\n".join(parts)


def _pages_of(entry: str) -> list[Path]:
    """The pages of an entry of a table of contents, which may be a pattern."""
    return sorted(DOCS.glob(f"{entry}.md")) if "*" in entry else [DOCS / f"{entry}.md"]


def _line(path: Path, text: str | None) -> str:
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8") if text is None else text, flags=re.S)
    title, _, rest = text.lstrip().removeprefix("# ").partition("\n")
    paragraph = " ".join(rest.strip().partition("\n\n")[0].split())
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)|[*`]", r"\1", paragraph)
    sentence = re.split(r"(?<=[.?:])(?<!et al\.)\s", plain, maxsplit=1)[0].rstrip(":")
    if not rest.strip() or rest.strip()[0] in "#|`-<":
        sentence = ""
    address = f"{PROJECT['urls']['Repository']}/blob/main/{path.relative_to(ROOT).as_posix()}"
    return f"- [{title.replace('`', '')}]({address})" + (f": {sentence}" if sentence else "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
