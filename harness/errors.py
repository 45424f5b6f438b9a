"""One error class for everything a user can put right, and did-you-mean hints for names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence


class UserError(ValueError):
    """Wrong input, a missing file or a missing extra: the message ends with what fixes it.

    The `implicit-if` command prints the message without a traceback and exits with status 2.

    Attributes:
        faults: The errors that it sums up, one a row; empty for an error of its own.
    """

    faults: tuple[UserError, ...] = ()


def unknown_name(kind: str, found: str, known: Iterable[str], *, fix: str = "") -> UserError:
    """An error for a name that is not in `known`, with the nearest ones.

    Args:
        kind: What the name should have named, e.g. "judge".
        found: What the user typed.
        known: Every accepted name.
        fix: A last sentence, e.g. another way to give the value.
    """
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    listing = ", ".join(names) or "none"
    return UserError(f"unknown {kind} {found!r}.{hint} Known: {listing}. {fix}".rstrip())


def _lines(faults: Sequence[UserError]) -> Iterator[str]:
    """A line each; what is said of the row before is not said again."""
    before = ""
    for fault in faults:
        place, colon, what = str(fault).partition(": ")
        yield f"\n  {place}: the same" if colon and what == before else f"\n  {fault}"
        before = what


def raise_all(faults: Sequence[UserError], source: object = None, most: int = 20) -> None:
    """Raises one error that names the source and lists the first `most` faults; returns where there are none.

    The error keeps its faults, so that an error about several rows among them is listed row by row.
    """
    each = [own for fault in faults for own in (fault.faults or (fault,))]
    if len(each) == 1:
        raise each[0]
    if each:
        more = f"\n  and {len(each) - most} more" if len(each) > most else ""
        of = "" if source is None else f"{source}: "
        error = UserError(f"{of}{len(each)} rows do not fit:" + "".join(_lines(each[:most])) + more)
        error.faults = tuple(each)
        raise error
