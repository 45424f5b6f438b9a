"""Cells: one command each, with what must be there before and after it. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from implicit_if.harness.errors import unknown_name
from implicit_if.harness.replicate.costs import Costs, Work, costs

API_JOBS = 4
"""Cells that ask a judge over a network at once, unless the user says another number."""
EPOCHS = "{epochs of %s}"
"""In a command: the number that the cell of that name chose."""
DATA = "{data of %s}"
"""In a command: the local file of that recipe's data; without one it and the option before it are left out."""
ROWS = "{rows of %s}"
"""In a command: that recipe's rows as analyses take them, with the local file if there is one."""
SOURCE = "{source of %s|%s}"
"""In a command: what a submission says of that recipe's data, which is the name of the local file if there is one."""


@dataclass(frozen=True)
class Cell:
    """One command, and what must be there before and after it.

    Attributes:
        name: Also its folder's, `cells/<name>`.
        kind: select, tune, opponent, answer, judge, submit, adherence, ranking, tables, or comparison.
        needs: Names of the cells whose artefacts it reads.
        command: Its words; paths are relative to the matrix's folder. See `EPOCHS`, `DATA`, `ROWS`, `SOURCE`.
        artefacts: Files and folders it leaves, relative to the matrix's folder.
        gpus: GPUs it needs; 0 where a CPU will do.
        api: Whether it asks a judge over a network.
        scratch: What may be removed once it is whole, as a pattern.
        costs: Hours, memory, disk, judge calls and their cost.
        recipe: The recipe whose data it reads.
        withhold: Whether what its answers recite of that recipe's data is left out of them.
        recipe_sha256: Hash of all that the recipe says, where it is trained.
        reads: The user's own files in its command, whose content it depends on.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    artefacts: tuple[str, ...]
    gpus: int = 0
    api: bool = False
    scratch: str = ""
    costs: Costs = field(default_factory=lambda: costs(Work()))
    recipe: str | None = None
    withhold: bool = False
    recipe_sha256: str | None = None
    reads: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What `plan --json` writes of it."""
        value = asdict(self)
        return {**{key: value[key] for key in ("name", "kind", "needs", "gpus")}, **value.pop("costs"), **value}


def find(cells: Sequence[Cell], name: str) -> Cell:
    """The cell of a name.

    Raises:
        UserError: If there is none.
    """
    known = {cell.name: cell for cell in cells}
    if name not in known:
        raise unknown_name("cell", name, known, fix="See implicit-if replicate plan MATRIX.")
    return known[name]


def levels(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells by the longest chain of cells that they wait for."""
    depth: dict[str, int] = {}
    for cell in cells:
        depth[cell.name] = 1 + max((depth[need] for need in cell.needs), default=-1)
    return [[c for c in cells if depth[c.name] == level] for level in range(1 + max(depth.values()))]


def folder(cell: str) -> str:
    """The folder of a cell."""
    return f"cells/{cell}"
