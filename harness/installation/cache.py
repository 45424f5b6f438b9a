"""`implicit-if cache`: what our cache folder holds, by kind, and removes what is asked for.

A kind is a place in the folder and the form of its entries' names. Whatever else lies there is not ours: it is counted
apart and never removed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.errors import unknown_name
from implicit_if.harness.storage import CACHE_VARIABLE, cache_dir

HELP = "show what the cache folder holds, or clear it"
SECTION = "setup"
EXAMPLES = (
    "implicit-if cache",
    "implicit-if cache --json",
    "implicit-if cache clear",
    "implicit-if cache clear models",
)


class Kind(NamedTuple):
    """One kind of what is kept.

    Attributes:
        what: What it is, for people.
        folder: Where, below the cache folder; "" for the folder itself.
        pattern: What its entries are called.
        costs: What it takes to get it again, where that is more than a while of computing; such kinds are cleared
            only by name.
    """

    what: str
    folder: str
    pattern: str
    costs: str = ""


_HEX16, _LOCK = "[0-9a-f]{16}", r"(\.lock)?"
KINDS = {
    "annotations": Kind("judges' verdicts", "annotations", rf"{_HEX16}\.jsonl{_LOCK}", "judges would be asked again"),
    "answers": Kind("rephrasings by a language model", "answers", rf"{_HEX16}\.(jsonl|asking){_LOCK}", "asked again"),
    "base-answers": Kind("answers of plain base models", "base-answers", rf"[0-9a-f]{{64}}\.jsonl{_LOCK}"),
    "cards": Kind("verdicts behind judges' cards", "cards", rf"{_HEX16}\.jsonl{_LOCK}", "judges would be asked again"),
    "file-hashes": Kind("hashes of large files", "", rf"file-hashes\.jsonl{_LOCK}"),
    "leaderboards": Kind("verified submissions", "leaderboards", rf"{_HEX16}|attempts|judged-again|(build|submit)-\S*"),
    "models": Kind("the embedded base model", "models", rf"gemma-3-270m-\S+|gemma-terms-shown{_LOCK}"),
    "unjudged": Kind("answers whose judging did not end", "unjudged", _HEX16, "generated again"),
    "view": Kind("pages of implicit-if view", "view", _HEX16),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "action", nargs="?", choices=("show", "clear"), default="show", help="show (the default) or clear"
    )
    parser.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help=f"what to clear: {', '.join(KINDS)} (all that costs computing time only)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Shows sizes, or removes entries and says how much.

    Raises:
        UserError: If a kind is unknown.
    """
    for kind in args.kinds:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    root = cache_dir()
    found = {kind: list(_entries(root, kind)) for kind in KINDS if not args.kinds or kind in args.kinds}
    if args.action == "show":
        _show(root, found, args.json)
        return 0
    chosen = {kind: paths for kind, paths in found.items() if args.kinds or not KINDS[kind].costs}
    sizes = {kind: sum(map(_size, paths)) for kind, paths in chosen.items()}
    for paths in chosen.values():
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    kept = [kind for kind, paths in found.items() if paths and kind not in chosen]
    if args.json:
        print(json.dumps({"folder": str(root), "cleared": sizes, "kept": kept}, indent=2))
        return 0
    print(f"{root}: cleared {_shown(sum(sizes.values()))} ({', '.join(k for k, n in sizes.items() if n) or 'nothing'})")
    for kind in kept:
        print(f"kept: {KINDS[kind].what} ({KINDS[kind].costs}); implicit-if cache clear {kind} removes them")
    return 0


def _show(root: Path, found: dict[str, list[Path]], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": kind, "what": KINDS[kind].what, "entries": len(paths), "bytes": sum(map(_size, paths))}
        for kind, paths in found.items()
    ]
    ours = {path for paths in found.values() for path in paths} | {root / k.folder for k in KINDS.values() if k.folder}
    others = sorted(path.name for path in root.iterdir() if path not in ours) if root.is_dir() else []
    if as_json:
        print(json.dumps({"folder": str(root), "kinds": rows, "others": others}, indent=2))
        return
    from tabulate import tabulate

    print(f"{root} (set {CACHE_VARIABLE} for another folder)")
    print(
        tabulate(
            [(r["kind"], r["entries"], _shown(r["bytes"]), r["what"]) for r in rows],
            tablefmt="plain",
            disable_numparse=True,
        )
    )
    print(f"in all {_shown(sum(int(r['bytes']) for r in rows))}")
    if others:
        print(f"not ours, never cleared: {', '.join(others)}")


def _entries(root: Path, kind: str) -> Iterator[Path]:
    """What exists of a kind; links are not followed, since what they lead to is not ours."""
    place = root / KINDS[kind].folder
    if not place.is_dir() or (place != root and place.is_symlink()):
        return
    for path in sorted(place.iterdir()):
        if re.fullmatch(KINDS[kind].pattern, path.name) and not path.is_symlink():
            yield path


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _shown(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
