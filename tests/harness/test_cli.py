from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness import cli
from implicit_if.harness.commands import GROUP, SECTIONS, command_parser, load_command
from implicit_if.harness.errors import UserError

COMMANDS = """
from implicit_if.harness.errors import UserError

faults = {"deep": RecursionError("too deep\\n"), "disk": OSError(28, "No space left"), "memory": MemoryError()}

class Greet:
    HELP = "greet someone, 100% politely"

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("--loud", action="store_true")

    def run(self, args):
        if args.name == "nobody":
            raise UserError("nobody to greet. Give another name.")
        if args.name == "stop":
            raise KeyboardInterrupt
        if args.name == "bug":
            raise RuntimeError("a bug")
        if args.name in faults:
            raise faults[args.name]
        print(("HELLO " if args.loud else "hello ") + args.name)
        return 3 if args.name == "three" else 0

greet = Greet()
nothing = object()
"""


def declare(folder: Path, distribution: str, **commands: str) -> None:
    """Installs the metadata of a distribution with these commands."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    points = "\n".join(f"{name.replace('_', '-')} = {value}" for name, value in commands.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: ours with one sound and two broken commands, and somebody else's."""
    (tmp_path / "cli_probe.py").write_text(COMMANDS)
    declare(tmp_path, "implicit-if", greet="cli_probe:greet", gone="cli_probe_gone", odd="cli_probe:nothing")
    declare(tmp_path, "a-third-party", greet="cli_probe:nothing", wave="cli_probe:greet")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_runs_the_command_and_returns_its_status(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["greet", "three", "--loud"]) == 3
    assert cli.main(["wave", "you"]) == 0
    assert capsys.readouterr().out == "HELLO three\nhello you\n"


def test_help_lists_every_command_although_some_are_broken(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], []):
        with pytest.raises(SystemExit) as exit_:
            cli.main(argv)
        assert exit_.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        shown = {parts[0]: parts[1] for line in lines if len(parts := line.split(None, 1)) == 2}
        assert shown["greet"] == shown["wave"] == "greet someone, 100% politely"
        assert shown["gone"] == "(broken: No module named 'cli_probe_gone')"
        assert shown["odd"].startswith("(broken: ")


def test_help_of_one_command(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["greet", "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: implicit-if greet [-h] [--loud] name\n\ngreet someone, 100% politely\n")


def test_our_command_wins_over_one_of_the_same_name(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = cli.find_commands()
    assert {name: point.value for name, point in commands.items()} == {
        "gone": "cli_probe_gone",
        "greet": "cli_probe:greet",
        "odd": "cli_probe:nothing",
        "wave": "cli_probe:greet",
    }
    warning = capsys.readouterr().err
    assert "'greet' of a-third-party is not used, implicit-if has one" in warning


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["greet", "nobody"], "nobody to greet. Give another name."),
        (["gret", "x"], "unknown command 'gret'. Did you mean 'greet' or 'gone'? Known: gone, greet, odd, wave."),
        (
            ["gone"],
            "No module named 'cli_probe_gone'. Reinstall it: pip install --force-reinstall --no-deps implicit-if",
        ),
        (["odd"], "the command 'odd' of implicit-if has no HELP, add_arguments, run."),
    ],
)
def test_a_users_error_is_one_message_without_traceback(
    site: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    error = err.splitlines()[-1]
    assert out == ""
    assert error.startswith("implicit-if: error: ")
    assert message in error
    assert "Traceback" not in err


@pytest.mark.parametrize("argv", [["--no-such-option"], ["greet"], ["greet", "x", "--no-such-option"]])
def test_wrong_usage(site: Path, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2


def test_ctrl_c_is_one_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["greet", "stop"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "implicit-if: interrupted"


def test_a_bug_keeps_its_traceback_under_debug(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["greet", "--debug", "bug"])
    with pytest.raises(UserError, match="nobody to greet"):
        cli.main(["greet", "nobody", "--debug"])
    assert cli.main(["greet", "bug"]) == 70
    assert capsys.readouterr().err.splitlines()[-1] == (
        "implicit-if: error: RuntimeError: a bug. This should not happen; --debug shows where it did."
    )


@pytest.mark.parametrize("fault", ["deep", "disk", "memory"])
def test_any_fault_is_one_sentence(site: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["wave", fault])
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1].startswith("implicit-if: error: "), "Traceback" in err) == ("", True, False)
    assert (status, "No space left" in err) == ((2, True) if fault == "disk" else (70, False))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PermissionError(13, "Permission denied", "/ro/a"), 2, "Permission denied: '/ro/a'"),
        (OSError(36, "File name too long", "a" * 300), 2, "File name too long"),
        (ConnectionResetError("reset by peer"), 2, "reset by peer"),
        (KeyError("a\x1b[31m"), 70, "KeyError"),
        (UserError("found \x1b]0;title\x07"), 2, "\\x1b]0;title\\x07"),
    ],
)
def test_no_error_steers_the_terminal(
    site: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    def fail(*_: Any) -> int:
        raise error

    monkeypatch.setattr(cli.load_command(cli.find_commands()["greet"]), "run", fail)
    assert cli.main(["greet", "x"]) == status
    printed = capsys.readouterr().err.splitlines()[-1]
    assert said in printed
    assert "\x1b" not in printed


def test_letters_that_a_terminal_lacks_are_escaped(site: Path) -> None:
    process = run(site, "-m", "implicit_if.harness.cli", "greet", "Zoë→", PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("hello Zo\\xeb\\u2192\n", 0), err


def test_a_full_device_is_one_sentence(site: Path) -> None:
    with open("/dev/full", "w") as full:
        process = run(site, "-m", "implicit_if.harness.cli", "greet", "you", stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "No space left on device" in err


def test_version(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from implicit_if import __version__

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"implicit-if {__version__}\n"


def run(site: Path, *arguments: str, stdout: int = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(site), *(p for p in sys.path if p)])
    command = [sys.executable, "-P", *arguments]  # the working folder may hold metadata of a build
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""} | variables
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("argv", [["greet", "you"], ["--help"]])
def test_a_reader_that_went_away_is_no_error(site: Path, argv: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = run(site, "-m", "implicit_if.harness.cli", *argv, stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 141, err
    assert "Traceback" not in err
    assert "BrokenPipeError" not in err


def test_help_of_the_real_commands_imports_nothing_heavy() -> None:
    """All of them, as declared in pyproject.toml, whether or not this environment has the package installed."""
    script = """
import pathlib, sys, tomllib
from importlib.metadata import EntryPoint
from implicit_if.harness import cli
from implicit_if.harness.commands import GROUP
project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]
for name, value in project["entry-points"][GROUP].items():
    print(name, "|", cli.load_command(EntryPoint(name, value, GROUP)).HELP)
heavy = {"torch", "transformers", "datasets", "pandas", "openai", "lm_eval", "sklearn", "scipy", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    root = Path(__file__).parents[2]
    done = run(root, "-c", script, str(root / "pyproject.toml"))
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    helps = dict(line.split(" | ", 1) for line in out.splitlines())
    assert helps.keys() >= {"compare", "embedded-model", "judge", "tune"}
    assert all(helps.values())


def test_name_value_splits_at_the_first_equals_sign() -> None:
    assert cli.name_value("base_url=http://x/?a=b", "--option", "a=1") == ("base_url", "http://x/?a=b")
    assert cli.name_values(["a=", "b c=1"], "--option", "a=1") == {"a": "", "b c": "1"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], r"--set 'a': not of the form NAME=VALUE\. Expected e\.g\. --set train\.epochs=3"),
        (["=1"], "not of the form"),
        ([""], "not of the form"),
        (["a=1", "b=2", "a=3"], "--set 'a=3': given twice"),
    ],
)
def test_what_is_no_name_value_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cli.name_values(texts, "--set", "train.epochs=3")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [(cli.positive, "1", "0"), (cli.not_negative, "0", "-1"), (cli.dollars, "0.5", "inf"), (cli.level, "0.9", "nan")],
)
def test_argument_types_refuse_what_is_out_of_range(kind: Callable[[str], float], right: str, wrong: str) -> None:
    assert kind(right) == float(right)
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        kind(wrong)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "implicit_if", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("implicit-if ")


ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]


@pytest.mark.parametrize("name", DECLARED)
def test_every_command_has_its_section_and_examples_that_its_parser_takes(name: str) -> None:
    command = load_command(EntryPoint(name, DECLARED[name], GROUP))
    assert command.SECTION in SECTIONS
    assert command.SECTION != "other"
    assert command.EXAMPLES
    for line in command.EXAMPLES:
        program, typed, *arguments = shlex.split(line.partition(" >")[0])
        assert (program, typed) == ("implicit-if", name)
        command_parser(name, command).parse_args(arguments)


def test_help_groups_commands_and_shows_examples_and_exit_statuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_commands", lambda: {n: EntryPoint(n, v, GROUP) for n, v in DECLARED.items()})
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    heads = [shown.index(f"\n{SECTIONS[key]}:\n") for key in ("answer", "judge", "analyse", "tune", "publish", "setup")]
    assert heads == sorted(heads)
    assert SECTIONS["other"] not in shown  # a section without commands has no heading
    assert heads[1] < shown.index("\n  judge ") < heads[2] < shown.index("\n  audit ") < heads[3]
    assert "examples:\n" in shown
    assert "  130  interrupted (Ctrl-C)\n" in shown
    with pytest.raises(SystemExit):
        cli.main(["judge", "--help"])
    assert "\nexamples:\n  implicit-if judge outputs.json" in capsys.readouterr().out


def test_help_of_all_commands_imports_none_of_them() -> None:
    script = """
import sys
from implicit_if.harness import cli
try:
    cli.main(["--help"])
except SystemExit:
    print("NUMPY" if "numpy" in sys.modules or "pydantic" in sys.modules else "LIGHT")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LIGHT"
    for name in ("ablate", "judge", "submit", "tune"):
        assert f"\n  {name} " in done.stdout


def test_a_command_of_another_package_without_a_section_stands_among_the_others(site: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main([])
    shown = capsys.readouterr().out
    assert shown.index(f"\n{SECTIONS['other']}:\n") < shown.index("\n  greet ")


def test_options_may_be_spelled_as_lm_eval_spells_its_own(site: Path, capsys: Any) -> None:
    command = load_command(cli.find_commands()["greet"])
    add = command.add_arguments
    seen = []

    class Spelled:
        HELP = "x"

        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None:
            add(parser)
            parser.add_argument("--model-args")
            parser.add_argument("--kept_as_is")

        @staticmethod
        def run(args: argparse.Namespace) -> int:
            seen.append((args.model_args, args.kept_as_is))
            return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "load_command", lambda _: Spelled)
        cli.main(["greet", "x", "--model_args", "a_b=1", "--kept_as_is=c_d"])
        cli.main(["greet", "x", "--model-args=a_b=1"])
        cli.main(["greet", "x", "--model_args=a_b=1"])
    assert seen == [("a_b=1", "c_d"), ("a_b=1", None), ("a_b=1", None)]
