"""`implicit-if view`: the answers and scores of any runs as a page on this machine, before anything is submitted."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from implicit_if.leaderboards.commands.table import add_reading_arguments, read_runs

HELP = "read the answers and scores of any runs side by side, in a browser"
SECTION = "publish"
EXAMPLES = (
    "implicit-if view out/rules",
    "implicit-if view base=out/base rules=out/rules",
    "implicit-if view outputs.json --reference gemma-3-270m/instruction --bundle page",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_reading_arguments(parser)
    add = parser.add_argument
    add(
        "--token-shift",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="an --out folder of implicit-if token-shift: colours the tokens of the answers it ranked; may be repeated",
    )
    add("--bundle", type=Path, metavar="DIR", help="write the page there, to keep or to send")
    add("--no-browser", action="store_true", help="only say where the page is")


def run(args: argparse.Namespace) -> int:
    """Writes the page, says where it is, and opens it where there is a screen.

    Raises:
        UserError: If a run cannot be read; says which option helps.
    """
    from implicit_if.harness.storage import cache_dir, check_writable, sha256_json
    from implicit_if.leaderboards.runs.token_ranks import load_ranks
    from implicit_if.leaderboards.runs.view import make_view, write_view

    if args.bundle is not None:
        check_writable(args.bundle / "index.html")
    ranks = load_ranks(args.token_shift)
    runs = [
        one if given is None else replace(one, name=given if len(found) == 1 else f"{given} {number}", long_name="")
        for given, found in read_runs(args)
        for number, one in enumerate(found, start=1)
    ]
    name = sha256_json([str(Path.cwd()), args.runs])[:16]
    path = write_view(make_view(runs, ranks), args.bundle or cache_dir() / "view" / name).resolve()
    print(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {path.as_uri()}")
    if not (args.no_browser or args.bundle) and _has_screen():
        import webbrowser

        webbrowser.open(path.as_uri())
    return 0


def _has_screen() -> bool:
    """Whether somebody sits at a desktop: a browser of a terminal would take the terminal."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
