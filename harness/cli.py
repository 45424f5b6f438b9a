"""The `implicit-if` command: runs the sub-command that was asked for, reports errors; types of arguments."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from implicit_if.harness.commands import (
    PROGRAM,
    command_parser,
    completion_parser,
    find_commands,
    load_command,
    program_parser,
)
from implicit_if.harness.cpu_threads import spin_briefly
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.safe_text import one_line, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: The arguments after the program's name; None takes the process's. With `--debug` among them, errors keep
            their traceback.

    Returns:
        The sub-command's exit status; else see `EXIT_STATUSES`.

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


def _dispatch(argv: list[str]) -> int:
    commands = find_commands()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(completion_parser(commands, os.environ.get("COMP_LINE", "")))
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is None:
        parser = program_parser(commands)
        parser.parse_args(argv or ["--help"])
        parser.error("expected a command")
    if name not in commands:
        raise unknown_name("command", name, commands, fix=f"See {PROGRAM} --help.")
    command = load_command(commands[name])
    parser = command_parser(name, command)
    return command.run(parser.parse_args(_one_spelling(argv[1:], parser)))


def _one_spelling(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Takes `--model_args`, as lm_eval spells it, for `--model-args`, and likewise every option with a hyphen."""
    known = parser._option_string_actions  # argparse has no public list of them
    taken = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        plain = name.replace("_", "-")
        respelled = name.startswith("--") and name not in known and plain in known
        taken.append(plain + equals + value if respelled else argument)
    return taken


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
