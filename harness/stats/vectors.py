"""Vectors and matrices of preferences and lengths, checked and brought to one order of rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_if.harness.errors import UserError

Floats = NDArray[np.float64]


def as_preferences(values: ArrayLike, name: str = "preferences") -> Floats:
    """A float64 vector of preferences, checked.

    Args:
        values: `[n]` probabilities that the system's answer is better.
        name: How errors call them.

    Raises:
        UserError: If a value is missing (None, NaN) or outside [0, 1], or the shape is not a vector.
    """
    array = as_vector(values, name)
    if array.size and (array.min() < 0 or array.max() > 1):
        bad = array[(array < 0) | (array > 1)][0]
        raise UserError(
            f"{name}: found {bad!r}, expected probabilities in [0, 1]. alpaca-eval's run from 1 to 2: subtract 1."
        )
    return array


def as_vector(values: ArrayLike, name: str) -> Floats:
    """A float64 vector without missing or infinite values.

    Raises:
        UserError: If a value is missing or infinite, or the shape is not a vector.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"{name}: found an array of shape {array.shape}, expected one value per instruction.")
    missing = int(np.count_nonzero(~np.isfinite(array)))
    if missing:
        raise UserError(
            f"{name}: {missing} of {array.size} values are missing or infinite. Leave those instructions out and give "
            f"n_expected={array.size}, so that the estimate says how many it is based on."
        )
    return array


def check_lengths(n: int, **others: Sequence[Any] | NDArray[Any] | None) -> None:
    """Refuses vectors that do not have one entry per preference.

    Raises:
        UserError: Names the vector, its length and the one expected.
    """
    for name, values in others.items():
        if values is not None and len(values) != n:
            raise UserError(f"{name}: found {len(values)} values, expected {n}, one per preference.")


def check_expected(n: int, n_expected: int | None) -> int:
    """`n_expected`, or `n` if not given.

    Raises:
        UserError: If fewer are expected than there are.
    """
    if n_expected is None:
        return n
    if n_expected < n:
        raise UserError(f"n_expected={n_expected}, but there are {n} preferences. Expected at least {n}.")
    return n_expected


def check_level(level: float) -> None:
    """Refuses a nominal coverage that is not between 0 and 1.

    Raises:
        UserError: Names the value.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level!r}, expected a coverage between 0 and 1, e.g. 0.95.")


def canonical_order(ids: Sequence[str] | None, *columns: Floats) -> NDArray[np.intp]:
    """The order in which rows enter every computation: by id, or by content where there are no ids.

    Floating-point sums and resampling depend on the order of rows; after this, results do not.

    Raises:
        UserError: If an id comes twice.
    """
    if ids is None:
        return np.lexsort(columns)
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.intp)
    for left, right in itertools.pairwise(order):
        if ids[left] == ids[right]:
            raise UserError(
                f"ids: {ids[left]!r} comes twice. Expected one preference per instruction: average both presentation "
                f"orders first."
            )
    return order


def as_seed_matrix(values: Any, name: str, *, bounded: bool = True) -> Floats:
    """A float64 matrix of preferences, one row a seed; a vector is one seed.

    Args:
        values: `[s, n]` or `[n]`, or a sequence of `s` vectors.
        name: How errors call them.
        bounded: Whether values must be in [0, 1].

    Raises:
        UserError: If there is no seed, a value is missing or out of range, or seeds differ in length.
    """
    rows = list(values)
    if not rows or np.ndim(rows[0]) == 0:
        rows = [rows]
    check = as_preferences if bounded else as_vector
    checked = [check(row, name if len(rows) == 1 else f"{name}, seed {i}") for i, row in enumerate(rows)]
    for i, row in enumerate(checked):
        check_lengths(checked[0].size, **{f"{name}, seed {i}": row})
    return np.stack(checked)
