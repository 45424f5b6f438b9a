"""Makes everything generated under `leaderboards/` from `submissions/`, and says what on disk differs from it.

The same submissions give the same bytes, in whatever order the disk lists them and whatever the locale, the time zone
or the hash seed. Files are written beside their targets first and put in place together; what a page needs is there
before the page, and what no page needs any more goes last.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from implicit_if import __version__
from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.published_numbers import Published, load_published
from implicit_if.harness.storage import atomic_write, cache_dir
from implicit_if.harness.web.document import ANSWERS
from implicit_if.leaderboards.boards import figures, tables
from implicit_if.leaderboards.boards.board import Board, make_boards
from implicit_if.leaderboards.boards.board_key import load_families
from implicit_if.leaderboards.boards.generated_parts import replace_part
from implicit_if.leaderboards.site import page
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.verify_all import check_all

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = "figures"
_OWN = {
    FIGURES: re.compile(r"(win-rates|length|rules)-[0-9a-f]{12}\.svg"),
    ANSWERS: re.compile(r"[0-9a-f]{32}\.js"),
}
"""Folders and the names of our files in them: such a file that no board needs is deleted."""


@dataclass(frozen=True)
class Built:
    """Everything generated, ready to be written or compared.

    Attributes:
        files: Bytes by path under the root.
        beside: Answers by path under the root; made when they are needed. See `page.Page`.
        boards: What was built.
        n_submissions: From how many.
        problems: What is wrong with submissions, a line each; those that are not accepted were left out.
    """

    files: Mapping[str, bytes]
    beside: Mapping[str, tuple[Verified, bool]]
    boards: tuple[Board, ...]
    n_submissions: int
    problems: tuple[str, ...] = ()


def build(root: Path, *, processes: int = 1, cache: Path | None = None) -> Built:
    """Verifies the submissions and makes everything in memory, but for answers that do not fit in the page.

    Args:
        root: The folder with `submissions/`.
        processes: Processes that verify.
        cache: Where unchanged submissions' numbers are kept; None takes a folder in the user's cache.

    Raises:
        UserError: If there is no `submissions/`, or a README's markers are wrong.
    """
    if not (root / tables.SUBMISSIONS).is_dir():
        raise UserError(
            f"{root}: no folder {tables.SUBMISSIONS}/ in it. Name the folder that holds it: implicit-if leaderboard "
            f"--root PATH, or make a submission: implicit-if submit --help"
        )
    kept = cache if cache is not None else cache_dir() / "leaderboards"
    checked = check_all(root / tables.SUBMISSIONS, cache=kept, processes=processes)
    return replace(render(checked.verified, root), problems=tuple(checked.lines()))


def render(verified: list[Verified], root: Path) -> Built:
    """Everything generated from verified submissions, and from the prose of the READMEs under `root`."""
    boards = make_boards(verified, load_families(root))
    published = load_published()
    systems = [board for board, _ in boards]
    rules = [board for _, board in boards if board is not None]
    drawn = {board.key.slug: figures.figures_of(board, rules=False) for board in systems}
    drawn_rules = {board.key.slug: figures.figures_of(board, rules=True) for board in rules}
    files = {
        "README.md": _readme(root, "README.md", "boards", systems, drawn, published),
        "rules.md": _readme(root, "rules.md", "rules", rules, drawn_rules, published),
        "leaderboard.csv": tables.boards_csv(systems),
        "leaderboard.json": tables.boards_json(systems, published, rules=False),
        "rules.csv": tables.boards_csv(rules),
        "rules.json": tables.boards_json(rules, published, rules=True),
    }
    for several in (drawn, drawn_rules):
        for board_figures in several.values():
            files |= {f"{FIGURES}/{name}": svg.encode("utf-8") for _, name, svg in board_figures}
    made = page.make_page(boards, published, __version__)
    files["page.html"] = made.html.encode("utf-8")
    beside = {f"{ANSWERS}/{name}": member for name, member in made.beside.items()}
    return Built(files, beside, (*systems, *rules), len(verified))


def write(root: Path, built: Built, *, processes: int = 1) -> list[str]:
    """Writes what differs and deletes generated files that are no longer needed.

    Answers beside the page are named after their content, so those that are there are not made again.

    Returns:
        The paths under `root` that changed, sorted.
    """
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    with locked(cache_dir() / "leaderboards" / f"build-{name}"):
        missing = {path: what for path, what in built.beside.items() if not (root / path).exists()}
        list(_each(_write_answers, root, missing, processes))
        changed = {path: data for path, data in built.files.items() if _read(root / path) != data}
        _replace_together(root, changed)
        stale = _stale(root, built)
        for path in stale:
            (root / path).unlink()
        for folder in _OWN:
            with contextlib.suppress(OSError):  # not there, or not empty
                (root / folder).rmdir()
    return sorted([*missing, *changed, *stale])


def differing(root: Path, built: Built, *, processes: int = 1) -> list[str]:
    """The paths under `root` whose bytes are not what they should be, missing and superfluous ones included."""
    wrong = [path for path, data in built.files.items() if _read(root / path) != data]
    there = {path: what for path, what in built.beside.items() if (root / path).exists()}
    wrong += [path for path, differs in _each(_answers_differ, root, there, processes) if differs]
    return sorted([*wrong, *(built.beside.keys() - there.keys()), *_stale(root, built)])


def _readme(
    root: Path,
    name: str,
    part: str,
    boards: list[Board],
    drawn: Mapping[str, list[tuple[str, str, str]]],
    published: tuple[Published, ...],
) -> bytes:
    path = root / name
    text = (path if path.exists() else TEMPLATES / name).read_text(encoding="utf-8")
    parts = [
        tables.board_markdown(board, [(alt, f"{FIGURES}/{file}") for alt, file, _ in drawn[board.key.slug]])
        for board in boards
    ]
    parts += [] if boards else ["No submissions yet."]
    parts += [tables.LEGEND, tables.published_markdown(published, rules=part == "rules")]
    return replace_part(text, part, "\n\n".join(parts), str(path)).encode("utf-8")


def _write_answers(path: Path, member: Verified, pairing: bool) -> bool:
    with atomic_write(path, "wb") as file:
        file.write(page.payload_file(member, pairing))
    return True


def _answers_differ(path: Path, member: Verified, pairing: bool) -> bool:
    return _read(path) != page.payload_file(member, pairing)


def _each(
    work: Callable[[Path, Verified, bool], bool],
    root: Path,
    wanted: Mapping[str, tuple[Verified, bool]],
    processes: int,
) -> Iterator[tuple[str, bool]]:
    """Does the work on every file of answers; in processes of their own where there are many."""
    from tqdm import tqdm

    paths = [root / path for path in wanted]
    members, pairings = [member for member, _ in wanted.values()], [pairing for _, pairing in wanted.values()]
    if processes < 2 or len(wanted) < 8:
        yield from zip(wanted, map(work, paths, members, pairings), strict=True)
        return
    # spawned, not forked: this process may hold threads of numerical libraries
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = pool.map(work, paths, members, pairings, chunksize=4)
        yield from zip(wanted, tqdm(results, desc="answers", total=len(wanted), disable=None), strict=True)


def _replace_together(root: Path, files: Mapping[str, bytes]) -> None:
    """Writes every file beside its target before the first is put in place, so that a full disk changes nothing."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
            staged.append((Path(name), target))
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
        while staged:
            temporary, target = staged[0]
            temporary.replace(target)
            del staged[0]
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _stale(root: Path, built: Built) -> list[str]:
    needed = built.files.keys() | built.beside.keys()
    found = [
        f"{folder}/{path.name}"
        for folder, own in _OWN.items()
        if (root / folder).is_dir()
        for path in (root / folder).iterdir()
        if own.fullmatch(path.name)
    ]
    return sorted(path for path in found if path not in needed)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
