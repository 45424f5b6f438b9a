"""One error class for everything a user can put right, and did-you-mean hints for names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Wrong input, a missing file or a missing extra: the message ends with what fixes it.

    The `implicit-if` command prints the message without a traceback and exits with status 2.
    """


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


def raise_all(faults: Sequence[UserError], source: object = None, most: int = 20) -> None:
    """Raises one error that names the source and lists the first `most` faults; returns where there are none."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        more = f"\n  and {len(faults) - most} more" if len(faults) > most else ""
        of = "" if source is None else f"{source}: "
        raise UserError(f"{of}{len(faults)} rows do not fit:" + "".join(f"\n  {f}" for f in faults[:most]) + more)
