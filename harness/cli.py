"""The `implicit-if` command: finds its sub-commands as entry points, loads the one that was asked for, reports errors.

A sub-command is an entry point of the group `implicit_if.commands` that leads to a module or an object with `HELP`,
`add_arguments` and `run` (see `Command`). Other distributions may add some. `implicit-if --help` loads all of them
for their one line of help, so such a module imports nothing heavy at its top.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any, Protocol

from implicit_if import __version__
from implicit_if.harness.cpu_threads import spin_briefly
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.safe_text import one_line, printable

PROGRAM = "implicit-if"
GROUP = "implicit_if.commands"
DESCRIPTION = "Evaluates whether language models follow instructions, tuned for it or not."
EPILOG = """Evaluation itself runs through lm_eval: lm_eval --model rules_poe --tasks alpaca_winrate.
Exit status: 0 done; 1 done, but not all is well (the command says what); 2 wrong usage or input, or
stopped at a limit; 70 a fault of the program; 130 and 143 interrupted; 141 nobody reads the output.
--debug shows tracebacks."""


class Command(Protocol):
    """A sub-command: a module or an object with these three names.

    Attributes:
        HELP: One line for `implicit-if --help`.
    """

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the sub-command's arguments to its parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Does the work and returns the exit status.

        Raises:
            UserError: For anything the user can put right.
        """


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: The arguments after the program's name; None takes the process's. With `--debug` among them, errors keep
            their traceback.

    Returns:
        The sub-command's exit status; else see `EPILOG`.

    Raises:
        SystemExit: From argparse, after `--help`, `--version` and wrong usage.
    """
    if argv is None:  # the process is ours
        spin_briefly()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its escape
    try:
        with _flushed_stdout(), _plain_warnings():
            return _dispatch([argument for argument in arguments if argument != "--debug"])
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 141
    except Exception as error:
        if debug:
            raise
        return _told(error)


def _told(error: Exception) -> int:
    """Says in one sentence what ended the command, and returns the exit status."""
    if isinstance(error, UserError):
        print(f"{PROGRAM}: error: {printable(str(error))}", file=sys.stderr)
        return 2
    what = one_line(" ".join(str(error).split()) or type(error).__name__, 500)
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            _forget_stdout()
        print(f"{PROGRAM}: error: {what}. Check the path, its permissions and the room on its disk.", file=sys.stderr)
        return 2
    print(
        f"{PROGRAM}: error: {type(error).__name__}: {what}. This should not happen; --debug shows where it did.",
        file=sys.stderr,
    )
    return 70


def _forget_stdout() -> None:
    """Or Python complains when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Shows warnings meant for users as one sentence, without the line of our code they come from."""
    show = warnings.showwarning

    def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is UserWarning:
            print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = shown
        yield


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


def _dispatch(argv: list[str]) -> int:
    commands = find_commands()
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is None:
        parser = _parser({n: _help_line(p) for n, p in commands.items()})
        parser.parse_args(argv or ["--help"])
        parser.error("expected a command")
    if name not in commands:
        raise unknown_name("command", name, commands, fix=f"See {PROGRAM} --help.")
    command = load_command(commands[name])
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=command.HELP)
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv[1:]))


def _parser(help_lines: dict[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, line in help_lines.items():
        group.add_parser(name, help=line.replace("%", "%%"))
    return parser


def _help_line(point: EntryPoint) -> str:
    try:
        return load_command(point).HELP
    except UserError as error:  # one broken command must not take the others' help away
        return f"(broken: {error.__cause__ or error})"


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


@contextlib.contextmanager
def _flushed_stdout() -> Iterator[None]:
    """Flushes while a broken pipe can still be handled, argparse's own exits included."""
    try:
        yield
    finally:
        sys.stdout.flush()


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


def dollars(text: str) -> float:
    """US dollars, 0 or more, finite."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected US dollars, 0 or more")
    return value


def not_negative(text: str) -> int:
    """An integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value}: expected 0 or more")
    return value


def level(text: str) -> float:
    """A share between 0 and 1, such as an interval's nominal coverage."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected between 0 and 1, e.g. 0.95")
    return value


def name_value(text: str, option: str, example: str) -> tuple[str, str]:
    """Name and value of an option's `NAME=VALUE`; the value may hold more of "=".

    Args:
        text: What the user typed.
        option: After which option, for the message.
        example: A right one.

    Raises:
        UserError: If there is no "=", or nothing before it.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UserError(f"{option} {text!r}: not of the form NAME=VALUE. Expected e.g. {option} {example}.")
    return name, value


def name_values(texts: Iterable[str], option: str, example: str) -> dict[str, str]:
    """All of an option's `NAME=VALUE`; arguments as for `name_value`.

    Raises:
        UserError: As `name_value`, and for a name that is given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, value = name_value(text, option, example)
        if name in values:
            raise UserError(f"{option} {text!r}: given twice. Expected each name once, e.g. {option} {example}.")
        values[name] = value
    return values


def json_or_text(text: str) -> Any:
    """A value that is JSON (a number, true, null, a list) as such, everything else as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


if __name__ == "__main__":
    sys.exit(main())
