"""`implicit-if completion`: prints what makes a shell complete our commands, options and names (by argcomplete)."""

from __future__ import annotations

import argparse

from implicit_if.harness.commands import PROGRAM

HELP = "print what makes a shell complete commands and options"
SECTION = "setup"
EXAMPLES = (
    "implicit-if completion bash >> ~/.bashrc",
    "implicit-if completion zsh >> ~/.zshrc",
    "implicit-if completion fish > ~/.config/fish/completions/implicit-if.fish",
)
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="the shell; its start-up file is where the text belongs")


def run(args: argparse.Namespace) -> int:
    """Prints the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode([PROGRAM], shell=args.shell))
    return 0
