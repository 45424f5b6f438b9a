"""Pairs of an instruction and a good response to it: the hundred that ship, the first of Alpaca, or the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError, raise_all
from implicit_if.harness.hub import dataset_file, why
from implicit_if.harness.storage import read_rows, sha256_json

BUILTIN, ALPACA = "builtin", "alpaca"
ALPACA_REPO = "tatsu-lab/alpaca"
ALPACA_REVISION = "dce01c9b08f87459cf36a430d809084718273017"
_ALPACA_FILE = "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"
ALPACA_PAIRS = 1000
"""As many as the paper ranks: the data set's first, as released."""


@dataclass(frozen=True)
class ResponsePair:
    """An instruction, and a response that was written for it.

    Attributes:
        instruction: Not empty.
        response: Not empty.
    """

    instruction: str
    response: str


@dataclass(frozen=True)
class ResponsePairs:
    """Independent pairs under a name.

    Attributes:
        name: `builtin`, `alpaca`, or a file's name.
        items: At least two.
    """

    name: str
    items: tuple[ResponsePair, ...]

    @property
    def sha256(self) -> str:
        """Over all texts in their order."""
        return sha256_json([[pair.instruction, pair.response] for pair in self.items])

    def first(self, n: int | None) -> ResponsePairs:
        """The first n; all for None."""
        return self if n is None else of_pairs(self.name, self.items[:n])


def load_pairs(spec: str | Path = BUILTIN) -> ResponsePairs:
    """Loads pairs.

    Args:
        spec: `builtin`: 100 pairs that ship with the package; `alpaca`: the first 1000 of `tatsu-lab/alpaca` from the
            hub, at a pinned revision (CC BY-NC 4.0); or a JSON list or JSON Lines of objects with `instruction` and
            `response` (or `output`, and `input`, which is put below the instruction, as in Alpaca).

    Raises:
        UserError: If the file is missing or malformed, the hub does not give it, a text is empty, or
            there are fewer than two pairs.
    """
    if str(spec) == BUILTIN:
        return _read(Path(__file__).parent / "pairs.jsonl", BUILTIN)
    if str(spec) == ALPACA:
        return _alpaca()
    return _read(Path(spec), Path(spec).name)


def of_pairs(name: str, items: Sequence[ResponsePair]) -> ResponsePairs:
    """Pairs under a name.

    Raises:
        UserError: If there are fewer than two.
    """
    if len(items) < 2:
        raise UserError(f"{name}: found {len(items)} pairs of instruction and response. Expected at least 2.")
    return ResponsePairs(name, tuple(items))


def _read(path: Path, name: str) -> ResponsePairs:
    rows = read_rows(path, "a file of instruction-response pairs")
    return _checked(name, [(f"{path}, {place}", row) for place, row in rows])


def _alpaca() -> ResponsePairs:
    from implicit_if.harness.tuning.data.read_file import read_file

    try:
        path = dataset_file(ALPACA_REPO, _ALPACA_FILE, ALPACA_REVISION)
    except OSError as error:
        raise UserError(
            f"{ALPACA_REPO} could not be fetched ({why(error)}). Check the connection, or give a local copy: "
            f"pairs=PATH of a JSON file with instruction, input and output."
        ) from error
    rows = read_file(path)[:ALPACA_PAIRS]
    return _checked(ALPACA, [(f"{ALPACA_REPO}, {place}", row) for place, row in rows])


def _checked(name: str, rows: list[tuple[str, dict[str, Any]]]) -> ResponsePairs:
    faults: list[UserError] = []
    pairs: list[ResponsePair] = []
    for place, row in rows:
        instruction, response = row.get("instruction"), row.get("response", row.get("output"))
        more = row.get("input") or ""
        if not all(isinstance(text, str) and text.strip() for text in (instruction, response)):
            faults.append(UserError(f"{place}: expected the texts instruction and response (or output), not empty."))
        elif not isinstance(more, str):
            faults.append(UserError(f"{place}: input is {type(more).__name__}, expected text."))
        else:
            text = f"{str(instruction).strip()}\n{more.strip()}" if more.strip() else str(instruction).strip()
            pairs.append(ResponsePair(text, str(response).strip()))
    raise_all(faults, name)
    return of_pairs(name, pairs)
