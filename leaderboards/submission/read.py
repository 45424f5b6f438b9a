"""Reads a submission's folder as if an enemy had made it.

Nothing is executed, followed, fetched or written; memory and time are bounded by the limits below whatever the bytes
are; every problem is found before any is reported, and the report is short.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.errors import UserError
from implicit_if.harness.safe_text import one_line

METADATA, SCORES = "metadata.yaml", "scores.json"
RERUN, AUDIT = BY_MAINTAINERS = "rerun.json", "audit.json"
"""What maintainers add; everything else is the submitter's."""
DATA = ("outputs", "reference", "annotations")
"""Stored as `<name>.jsonl`."""
ATTEMPTS = "attempts"
"""Likewise, of judges of attempts whose verdicts cannot be computed from the rest."""
REFERENCES = "references"
"""The folder beside the systems' that holds references which several submissions share, as `<sha256>.jsonl`."""

MIB = 1 << 20
SMALL_LIMIT = MIB // 8
DATA_LIMIT = 24 * MIB
"""Bytes of a file of rows."""
_LIMITS = {
    **dict.fromkeys((METADATA, SCORES, *BY_MAINTAINERS), SMALL_LIMIT),
    **{f"{name}.jsonl": DATA_LIMIT for name in (*DATA, ATTEMPTS)},
}
REFERENCE = "reference.jsonl"
_SHARED = re.compile(rb"^\s+['\"]?reference\.jsonl['\"]?:\s*['\"]?([0-9a-f]{64})", re.MULTILINE)
"""Where metadata name a reference's hash. Only to find the file: what is verified is what `files` says."""
_MAX_DEPTH = 12
_MAX_EVENTS = 4_000
_SHOWN, _LONGEST = 12, 300
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class SubmissionError(UserError):
    """A submission that is not accepted.

    Attributes:
        problems: What is wrong, each one short line; the message shows the first ones.
    """

    def __init__(self, folder: str | os.PathLike[str], problems: Iterable[str]) -> None:
        self.problems = [one_line(p, _LONGEST) for p in problems]
        shown = "".join(f"\n  - {p}" for p in self.problems[:_SHOWN])
        more = len(self.problems) - _SHOWN
        rest = f"\n  - and {more} more" if more > 0 else ""
        place = one_line(os.path.join(*Path(folder).parts[-2:]) if Path(folder).parts else "", 200)
        super().__init__(f"{place}: not accepted.{shown}{rest}\nCorrect these, or write it with implicit-if submit.")


class FileInfo(NamedTuple):
    """A regular file that may be read, as the file system describes it."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Content(NamedTuple):
    """A submission's files, read and hashed.

    Attributes:
        folder: Where they are.
        files: Bytes by name; a shared reference is there as `reference.jsonl`, too.
        hashes: sha256 of the bytes by name.
    """

    folder: Path
    files: dict[str, bytes]
    hashes: dict[str, str]

    @property
    def stems(self) -> tuple[str, ...]:
        """The files of rows that are there, by their names without ending."""
        return tuple(stem for stem in (*DATA, ATTEMPTS) if f"{stem}.jsonl" in self.files)

    def rows(self, stem: str) -> bytes:
        """A file of rows."""
        return self.files[f"{stem}.jsonl"]

    @property
    def sha256(self) -> str:
        """Over all files."""
        return content_sha256(self.hashes)


def list_files(folder: Path) -> dict[str, FileInfo]:
    """The files of a submission by name, none of them opened.

    Raises:
        SubmissionError: If the folder or one of its parents `submissions/<org>__<model>` is a link, or holds anything
            but a submission's files: other names, folders, links (hard ones too), devices, or files beyond the limits.
    """
    problems: list[str] = []
    found: dict[str, FileInfo] = {}
    if folder.is_symlink() or folder.parent.is_symlink():
        raise SubmissionError(folder, ["is a symbolic link; expected a folder"])
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= 16:
                    raise SubmissionError(folder, ["holds more than 16 entries; expected a submission's files only"])
                info = os.stat(entry.path, follow_symlinks=False)
                if (problem := _entry_problem(entry.name, info)) is not None:
                    problems.append(f"{one_line(entry.name, 60)}: {problem}")
                else:
                    found[entry.name] = _file_info(folder / entry.name, info)
    except (OSError, ValueError) as error:
        raise SubmissionError(folder, [f"cannot be read ({type(error).__name__}); expected a folder"]) from error
    problems += [f"{name}: is missing" for name in (METADATA, SCORES) if name not in found]
    if problems:
        raise SubmissionError(folder, sorted(problems))
    return dict(sorted(found.items()))


def read_file(info: FileInfo) -> bytes:
    """A listed file's bytes.

    Raises:
        ValueError: If it is no longer the file that was listed.
    """
    descriptor = os.open(info.path, _OPEN_FLAGS)
    with open(descriptor, "rb") as file:
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode) or now.st_ino != info.inode:
            raise ValueError("changed while it was read")
        data = file.read(info.size + 1)
    if len(data) != info.size:
        raise ValueError("changed while it was read")
    return data


def shared_reference(folder: Path, sha256: str) -> FileInfo | None:
    """The reference of this hash that a submission shares with others; None if there is none.

    Raises:
        ValueError: If it is no regular file of its own, or too large.
    """
    path = folder.absolute().parents[1] / REFERENCES / f"{sha256}.jsonl"
    try:
        info = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    problem = "is in a folder that is a link" if path.parent.is_symlink() else _entry_problem(REFERENCE, info)
    if problem is not None:
        raise ValueError(f"{REFERENCES}/{path.name}: {problem}")
    return _file_info(path, info)


def read_content(folder: Path) -> Content:
    """Reads a submission's files, and its reference where several submissions share it.

    Raises:
        SubmissionError: See `list_files`, and for files that cannot be read.
    """
    files: dict[str, bytes] = {}
    problems = []
    for name, info in list_files(folder).items():
        try:
            files[name] = read_file(info)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error}")
    if not problems and REFERENCE not in files and (match := _SHARED.search(files[METADATA])):
        try:
            if (shared := shared_reference(folder, match[1].decode())) is not None:
                files[REFERENCE] = read_file(shared)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if problems:
        raise SubmissionError(folder, problems)
    return Content(folder, files, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})


def parse_json(data: bytes) -> Any:
    """JSON without duplicate keys, NaN, infinities, or more depth than any of our files has.

    Raises:
        ValueError: Says what is wrong, in a short line.
    """
    try:
        value = json.loads(data.decode("ascii"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("holds bytes beyond ASCII; other characters are written as \\u escapes") from None
    _check_depth(value)
    return value


def parse_yaml(data: bytes) -> dict[str, Any]:
    """A YAML mapping in the plainest form: one document, no anchors, aliases, tags, merge keys or duplicate keys.

    Raises:
        ValueError: Says what is wrong, in a short line.
    """
    import yaml

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, Loader=loader), yaml)
        value = yaml.load(text, Loader=_strict_loader(loader))  # noqa: S506  a SafeLoader with less
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(f"{where}{one_line(getattr(error, 'problem', None) or str(error), 120)}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except OverflowError:  # 1:00:00 and so on is a number to base 60
        raise ValueError("holds a number that is too large") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, expected named values")
    return value


def content_sha256(hashes: dict[str, str]) -> str:
    """Hex sha256 over a folder's files, given the sha256 of each by name."""
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(listing.encode("ascii")).hexdigest()


def _file_info(path: Path, info: os.stat_result) -> FileInfo:
    return FileInfo(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


def _entry_problem(name: str, info: os.stat_result) -> str | None:
    if name not in _LIMITS:
        if name.removesuffix(".zst") in _LIMITS:
            return "packed files are read by version 0.1 only; unpack the answers and use implicit-if submit"
        return f"unexpected; a submission holds {METADATA}, {SCORES} and {', '.join((*DATA, ATTEMPTS))}.jsonl only"
    if stat.S_ISLNK(info.st_mode) or info.st_nlink > 1:
        return "is a link; expected a file of its own"
    if not stat.S_ISREG(info.st_mode):
        return "is no regular file"
    if info.st_size > _LIMITS[name]:
        return f"has {info.st_size} bytes, expected at most {_LIMITS[name]}"
    return None


def _check_events(events: Iterable[Any], yaml: Any) -> None:
    depth = documents = 0
    for count, event in enumerate(events):
        if count > _MAX_EVENTS:
            raise ValueError(f"holds more than {_MAX_EVENTS} parts")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("uses an anchor or alias (& or *); write the value out, or quote it")
        if getattr(event, "tag", None) is not None:
            raise ValueError("uses a tag (!); write the value without, or quote it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError("is nested too deeply")
        documents += isinstance(event, yaml.DocumentStartEvent)
    if documents != 1:
        raise ValueError(f"holds {documents} documents, expected one")


def _strict_loader(base: Any) -> Any:
    """The safe loader, refusing what it would resolve silently."""

    class Loader(base):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if len(keys) != len(node.value):
                raise ValueError("has a key that is no text")
            if "<<" in keys:
                raise ValueError("uses a merge key (<<); write the values out")
            seen: set[str] = set()
            for key in keys:
                if key in seen:
                    raise ValueError(f"has the key {one_line(key, 60)!r} twice")
                seen.add(key)
            return dict(super().construct_mapping(node, deep))

    return Loader


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("has a key twice")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"holds {name}, which is no number")


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise ValueError("is nested too deeply")


def _children(item: Any) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
