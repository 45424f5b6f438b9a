"""Verifies all submissions: in several processes, remembering those that have not changed, and against each other."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import atomic_write, row_bytes
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.read import FileInfo, SubmissionError
from implicit_if.leaderboards.verification import result_cache
from implicit_if.leaderboards.verification.between_submissions import cross_problems, with_shared_answers
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.verify import examine

MAX_SUBMISSIONS = 20_000
_BESIDE = ("README.md", ".gitkeep", ".gitattributes", read.REFERENCES)
_LEFT_BEHIND = (".DS_Store", "Thumbs.db", "desktop.ini")
_FEW = 6
"""Submissions below which starting processes takes longer than verifying."""
_RECENT_NS = 2_000_000_000
"""A file changed so lately may change again within its time stamp's step, so its hash is not remembered."""

_Stamps = dict[str, list[object]]
"""`[size, mtime_ns, ctime_ns, inode, sha256]` by `<id>/<file>`."""


class Checked(NamedTuple):
    """All submissions of a folder.

    Attributes:
        verified: Those that are accepted, sorted by id.
        problems: What is wrong, by id, or by the name of what is no submission.
        together: What is wrong between accepted ones, by id; they stay among `verified`.
    """

    verified: list[Verified]
    problems: dict[str, list[str]]
    together: dict[str, list[str]]

    def lines(self) -> list[str]:
        """One line a problem."""
        found = (*self.problems.items(), *self.together.items())
        return [f"{one_line(key, 150)}: {problem}" for key, several in found for problem in several]


class _Outcome(NamedTuple):
    """What a worker made of a folder: a record, or what is wrong."""

    record: bytes
    hashes: dict[str, str]
    problems: list[str]


def verify_all(
    root: str | Path, *, cache: Path | None = None, processes: int = 1, newcomers: Collection[str] = ()
) -> list[Verified]:
    """Verifies every submission, and all against each other; arguments as of `check_all`.

    Returns:
        Sorted by id.

    Raises:
        SubmissionError: Lists what is wrong, with the ids.
    """
    checked = check_all(root, cache=cache, processes=processes, newcomers=newcomers)
    if lines := checked.lines():
        raise SubmissionError(root, lines)
    return checked.verified


def check_all(
    root: str | Path, *, cache: Path | None = None, processes: int = 1, newcomers: Collection[str] = ()
) -> Checked:
    """Verifies every submission, and all against each other; a bad one does not hide the others.

    Args:
        root: `submissions/`.
        cache: A folder for what was verified; unchanged submissions are taken from it. Keyed by the submission's
            bytes and this program's; None verifies everything.
        processes: Processes to verify in.
        newcomers: Ids of those that are not on the base branch yet: they are to blame for what they share.

    Raises:
        SubmissionError: If the folder cannot be read, or holds too many.
    """
    folders, problems = _entries_of(Path(root))
    if cache is not None:
        cache = cache / result_cache.code_sha256()[:16]
    stamps = _load_stamps(cache)
    found: dict[str, Verified] = {}
    listings: dict[str, dict[str, FileInfo]] = {}
    for key, folder in folders.items():
        try:
            stamp = stamps.get(f"{key}/{read.REFERENCE}", [None])
            listings[key] = _with_shared(read.list_files(folder), folder, stamp[-1])
        except SubmissionError as error:
            problems[key] = error.problems
            continue
        if cache is not None and (known := _from_stamps(key, listings[key], stamps, cache, folder)) is not None:
            found[key] = known
    todo = {key: folders[key] for key in listings if key not in found}
    for key, outcome in _verify_each(todo, cache, processes):
        if outcome.problems:
            problems[key] = outcome.problems
            continue
        found[key] = result_cache.decode(outcome.record, folders[key])
        listings[key] = _with_shared(listings[key], folders[key], outcome.hashes.get(read.REFERENCE))
        _stamp(key, listings[key], outcome.hashes, stamps)
    _save_stamps(cache, stamps, listings)
    ordered = [found[key] for key in sorted(found)]
    return Checked(with_shared_answers(ordered), dict(sorted(problems.items())), cross_problems(ordered, newcomers))


def submission_folders(root: Path) -> dict[str, Path]:
    """Every `<org>__<model>/<revision>` by id, sorted.

    Raises:
        SubmissionError: If there is anything else.
    """
    found, problems = _entries_of(root)
    if problems:
        raise SubmissionError(
            root, [f"{one_line(key, 150)}: {p}" for key, several in problems.items() for p in several]
        )
    return found


def _entries_of(root: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """The submissions by id, and what is wrong with all else by name; file managers' leavings are passed over."""
    found: dict[str, Path] = {}
    problems: dict[str, list[str]] = {}
    for system in _entries(root):
        if system.name in _BESIDE:
            continue
        if system.is_symlink() or not system.is_dir():
            problems[system.name] = ["unexpected; expected folders <org>__<model>"]
            continue
        for revision in _entries(system):
            if revision.is_symlink() or not revision.is_dir():
                problems[f"{system.name}/{revision.name}"] = ["unexpected; expected a revision's folder"]
                continue
            found[f"{system.name}/{revision.name}"] = revision
            if len(found) > MAX_SUBMISSIONS:
                raise SubmissionError(root, [f"holds more than {MAX_SUBMISSIONS} submissions"])
    return dict(sorted(found.items())), problems


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name not in _LEFT_BEHIND)
    except OSError as error:
        raise SubmissionError(folder, [f"cannot be read ({type(error).__name__}); expected a folder"]) from error


def _verify_each(todo: dict[str, Path], cache: Path | None, processes: int) -> Iterator[tuple[str, _Outcome]]:
    """Yields outcomes in the order of ids; a bar on stderr if that is a terminal."""
    from tqdm import tqdm

    bar = tqdm(total=len(todo), desc="verifying", unit="submission", file=sys.stderr, disable=None)
    with bar:
        if processes < 2 or len(todo) < _FEW:
            for key, folder in todo.items():
                yield key, _work(folder, cache)
                bar.update()
            return
        workers = min(processes, len(todo))
        chunk = max(1, min(16, len(todo) // (4 * workers)))
        with (
            _one_thread_each(),
            # spawned, not forked: this process may hold threads of numerical libraries
            ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            outcomes = pool.map(_work, todo.values(), [cache] * len(todo), chunksize=chunk)
            for key, outcome in zip(todo, outcomes, strict=True):
                yield key, outcome
                bar.update()


def _work(folder: Path, cache: Path | None) -> _Outcome:
    """Verifies one folder, or finds it verified."""
    try:
        content = read.read_content(folder)
        path = None if cache is None else cache / f"{content.sha256}.record"
        if path is not None and (data := _record(path, folder)) is not None:
            return _Outcome(data, content.hashes, [])
        data = result_cache.encode(examine(content))
    except SubmissionError as error:
        return _Outcome(b"", {}, error.problems[:20])
    if path is not None:
        with atomic_write(path, "wb") as file:
            file.write(data)
    return _Outcome(data, content.hashes, [])


def _record(path: Path, folder: Path) -> bytes | None:
    """A cached record that can be read and is about a submission of this id."""
    with contextlib.suppress(OSError, ValueError):
        data = path.read_bytes()
        if result_cache.decode(data, folder).id == f"{folder.parent.name}/{folder.name}":
            return data
    return None


def _from_stamps(key: str, files: dict[str, FileInfo], stamps: _Stamps, cache: Path, folder: Path) -> Verified | None:
    hashes = {}
    for name, info in files.items():
        stamp = stamps.get(f"{key}/{name}")
        if stamp is None or stamp[:4] != _facts(info):
            return None
        hashes[name] = str(stamp[4])
    with contextlib.suppress(OSError, ValueError):
        known = result_cache.decode((cache / f"{read.content_sha256(hashes)}.record").read_bytes(), folder)
        return known if known.id == key else None
    return None


def _with_shared(files: dict[str, FileInfo], folder: Path, sha256: object) -> dict[str, FileInfo]:
    """The files, with the reference of this hash where the submission shares it."""
    if read.REFERENCE not in files and sha256 is not None:
        with contextlib.suppress(ValueError):
            if (shared := read.shared_reference(folder, str(sha256))) is not None:
                return {**files, read.REFERENCE: shared}
    return files


def _stamp(key: str, files: dict[str, FileInfo], hashes: dict[str, str], stamps: _Stamps) -> None:
    now = time.time_ns()
    for name, info in files.items():
        if name in hashes and now - max(info.mtime_ns, info.ctime_ns) > _RECENT_NS:
            stamps[f"{key}/{name}"] = [*_facts(info), hashes[name]]


def _facts(info: FileInfo) -> list[object]:
    return [info.size, info.mtime_ns, info.ctime_ns, info.inode]


def _load_stamps(cache: Path | None) -> _Stamps:
    if cache is not None:
        with contextlib.suppress(OSError, ValueError):
            value = json.loads((cache / "stamps.json").read_bytes())
            if isinstance(value, dict):
                return value
    return {}


def _save_stamps(cache: Path | None, stamps: _Stamps, listings: dict[str, dict[str, FileInfo]]) -> None:
    if cache is None:
        return
    present = {f"{key}/{name}" for key, files in listings.items() for name in files}
    with atomic_write(cache / "stamps.json", "wb") as file:
        file.write(row_bytes({name: stamp for name, stamp in stamps.items() if name in present}))


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started within use one thread of numerical libraries each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
