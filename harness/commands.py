"""The sub-commands of `implicit-if`: found as entry points, grouped by what they are for, their parsers and help.

A sub-command is an entry point of the group `implicit_if.commands` that leads to a module or an object with `HELP`,
`add_arguments` and `run` (see `Command`). Other distributions may add some. `implicit-if --help` reads their lines of
help without importing them where it can; such a module imports nothing heavy at its top all the same.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from typing import Protocol

from implicit_if import __version__
from implicit_if.harness.errors import UserError

PROGRAM = "implicit-if"
GROUP = "implicit_if.commands"
DESCRIPTION = "Evaluates whether language models follow instructions, tuned for it or not."

SECTIONS = {
    "answer": "talk to models and let them answer",
    "judge": "judge, score and compare answers",
    "analyse": "find out why a model follows instructions, and what that means in use",
    "tune": "tune a base model and reproduce the paper",
    "publish": "show, submit and export results",
    "maintain": "maintain leaderboards",
    "setup": "this installation",
    "other": "commands of other packages",
}
"""What commands are for, in the order of `implicit-if --help`: a command names one key as its `SECTION`."""

EXIT_STATUSES = {
    0: "done",
    1: "done, but with a problem; the command says which (a verdict is missing, a check fails)",
    2: "wrong usage or input, or stopped at a limit; the message says what fixes it",
    70: "a fault of the program; --debug shows where",
    75: "stopped, and to be continued by the same command (replicate)",
    130: "interrupted (Ctrl-C)",
    141: "nobody reads the output",
    143: "terminated",
}
"""What the exit status of every command means."""

EPILOG = (
    """examples:
  lm_eval --model rules_poe --tasks alpaca_winrate --limit 8    answer and judge, through lm_eval
  implicit-if chat                                              base and base with rules, side by side
  implicit-if judge outputs.json --reference gemma-3-270m/instruction
  implicit-if COMMAND --help                                    arguments and examples of a command

exit status:
"""
    + "".join(f"  {status:<5}{meaning}\n" for status, meaning in EXIT_STATUSES.items())
    + "\n--debug, anywhere, shows tracebacks."
)

_STRING = re.compile(r'^(HELP|SECTION) = (".*")$', re.MULTILINE)


class Command(Protocol):
    """A sub-command: a module or an object with these three names, and perhaps two more.

    Attributes:
        HELP: One line for `implicit-if --help`.
        SECTION: What it is for, a key of `SECTIONS`; without one it is among the commands of other packages.
        EXAMPLES: Command lines as typed, the program's name included, for its own `--help`.
    """

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the sub-command's arguments to its parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Does the work and returns the exit status.

        Raises:
            UserError: For anything the user can put right.
        """


def find_commands() -> dict[str, EntryPoint]:
    """Every declared sub-command by name, sorted.

    Of two with one name ours wins, else the first by distribution; the other is named on stderr.
    """
    points = importlib.metadata.entry_points(group=GROUP)
    commands: dict[str, EntryPoint] = {}
    for point in sorted(points, key=lambda p: (p.name, _distribution(p) != PROGRAM, _distribution(p))):
        if point.name in commands:
            print(
                f"{PROGRAM}: warning: the command {point.name!r} of {_distribution(point)} is not used, "
                f"{_distribution(commands[point.name])} has one of that name",
                file=sys.stderr,
            )
        else:
            commands[point.name] = point
    return commands


def load_command(point: EntryPoint) -> Command:
    """Imports a sub-command.

    Raises:
        UserError: If it cannot be imported, or lacks one of the three names.
    """
    distribution = _distribution(point)
    remedy = f"Reinstall it: pip install --force-reinstall --no-deps {distribution}"
    try:
        command: Command = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the command {point.name!r} of {distribution} ({point.value}) cannot be loaded: {error}. {remedy}"
        ) from error
    missing = [name for name in ("HELP", "add_arguments", "run") if not hasattr(command, name)]
    if missing:
        raise UserError(f"the command {point.name!r} of {distribution} has no {', '.join(missing)}. {remedy}")
    return command


def section_of(command: Command) -> str:
    """The key of `SECTIONS` that a command stands under; "other" if it names none that is known."""
    section = str(getattr(command, "SECTION", "other"))
    return section if section in SECTIONS else "other"


def examples_of(command: Command) -> tuple[str, ...]:
    """A command's example lines; none if it has none."""
    return tuple(getattr(command, "EXAMPLES", ()))


def command_parser(name: str, command: Command) -> argparse.ArgumentParser:
    """The parser of one command, its examples below its arguments.

    Args:
        name: What the user types after the program's name.
        command: The command.
    """
    examples = "".join(f"\n  {line}" for line in examples_of(command))
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}",
        description=textwrap.fill(command.HELP, max(20, shutil.get_terminal_size().columns - 2)),
        epilog=f"examples:{examples}".replace("%", "%%") if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return parser


def program_parser(commands: Mapping[str, EntryPoint]) -> argparse.ArgumentParser:
    """The parser behind `implicit-if --help`, which lists the commands by what they are for.

    A command whose line cannot be read or imported is listed as broken, among those of other packages.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description=DESCRIPTION,
        epilog=EPILOG.replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    lines: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
    for name, point in commands.items():
        try:
            told = _read_strings(point)
            if "HELP" not in told:
                command = load_command(point)
                told = {"HELP": command.HELP, "SECTION": section_of(command)}
            section = told.get("SECTION", "other")
            lines[section if section in lines else "other"].append((name, told["HELP"]))
        except UserError as error:  # one broken command must not take the others' help away
            lines["other"].append((name, f"(broken: {error.__cause__ or error})"))
    for section, title in SECTIONS.items():
        group = parser.add_argument_group(title)
        for name, line in lines[section]:
            group.add_argument(name, nargs="?", help=line.replace("%", "%%"))
    return parser


def completion_parser(commands: Mapping[str, EntryPoint], line: str) -> argparse.ArgumentParser:
    """A parser of all commands by name, with the arguments of the one on the line."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    parser = argparse.ArgumentParser(prog=PROGRAM)
    parser.add_argument("--version", action="store_true")
    each = parser.add_subparsers()
    for name, point in commands.items():
        command = each.add_parser(name)
        if name in words[1:2]:
            try:
                load_command(point).add_arguments(command)
            except UserError:  # a broken command has no arguments to complete
                continue
    return parser


def _read_strings(point: EntryPoint) -> dict[str, str]:
    """`HELP` and `SECTION` of a command that is a module, from its source, as importing all would take a second.

    Empty where there is no such module, or its strings are no plain lines.
    """
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = point.value.split(".")
    if ":" in point.value:
        return {}
    for end in range(1, len(parts) + 1):  # importlib.util.find_spec would import the packages around it
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        found = (finder.find_spec(".".join(parts[:end]), path) for finder in finders)
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return {}
        path = spec.submodule_search_locations
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}
    with open(spec.origin, encoding="utf-8") as file:
        return {name: ast.literal_eval(text) for name, text in _STRING.findall(file.read())}


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"
