"""`implicit-if chat`: talk to a base model with and without rules, and to tuned models, side by side."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys

from implicit_if.harness.cli import positive

HELP = "talk to the base model, to base times rules and to tuned models, side by side"
SECTION = "answer"
EXAMPLES = (
    "implicit-if chat",
    "implicit-if chat --systems base,rules,./my-tuned-model",
    'implicit-if chat --once "What is the capital of France?" --explain',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "--model-args",
        default="",
        metavar="K=V,...",
        help="as for lm_eval --model rules_poe: pretrained=, dtype=, device=, ... (the embedded model)",
    )
    add(
        "--systems",
        default="base,rules:paper",
        metavar="S,S,...",
        help="base, rules, rules:PRESET (paper, paper-eos, a YAML file), or a tuned model's folder or hub name "
        "(base,rules:paper)",
    )
    add("--template", default="tulu", metavar="NAME", help="chat template: a name, a .jinja file, or model (tulu)")
    add("--max-gen-toks", type=positive, metavar="N", help="tokens an answer may have (256 embedded, else 512)")
    add("--once", metavar="TEXT", help="print the answers to one instruction and leave")
    add("--explain", action="store_true", help="after every answer, show which rule changed which token")


def run(args: argparse.Namespace) -> int:
    """Loads the systems and talks until the input ends.

    Returns:
        0; 130 if Ctrl-C stopped the answers to `--once`.

    Raises:
        UserError: On wrong arguments, before a model is loaded where that can be known.
    """
    from implicit_if.model_wrappers.chat.conversation import Chat, Screen
    from implicit_if.model_wrappers.chat.systems import Models, TurnTemplate

    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # neither side's text is to end the conversation
            stream.reconfigure(errors=errors)
    screen = Screen(
        sys.stdout,
        width=lambda: shutil.get_terminal_size().columns,
        live=sys.stdout.isatty() and os.environ.get("TERM") != "dumb",
    )
    models = Models(args.model_args, args.max_gen_toks)
    chat = Chat(models, args.systems, TurnTemplate.load(args.template), screen, explain=args.explain)
    if args.once is not None:
        return 0 if chat.ask(args.once) else 130
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  input() then has editing and history
    chat.talk(lambda: input("you> " if interactive else ""), greet=interactive)
    return 0
