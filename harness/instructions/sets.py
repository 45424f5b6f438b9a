"""What an instruction set is, and how one is built from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import instruction_id
from implicit_if.harness.storage import sha256_json

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        id: See `implicit_if.harness.outputs.instruction_id`.
        text: The text as the file has it; chat templates strip it.
        category: The kind of task, where the set records one.
        dataset: The subset it comes from, where the set records one.
    """

    id: str
    text: str
    category: str | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class InstructionSet:
    """A named list of instructions at a pinned revision.

    Attributes:
        name: "builtin", "validation", "alpaca_eval", or a local file's name without its ending.
        revision: What pins the content: a commit of the hub, else `content_sha256`.
        licence: SPDX identifier, or "unknown" for a local file.
        shippable: True if the licence lets results carry the texts; otherwise they carry ids only.
        items: The instructions in the file's order, no two alike.
        chosen_because: Why this set was taken, if that was not the user's explicit choice.
    """

    name: str
    revision: str
    licence: str
    shippable: bool
    items: tuple[Instruction, ...]
    chosen_because: str | None = None

    def texts(self) -> dict[str, str]:
        """Instruction text by id, in the set's order."""
        return {item.id: item.text for item in self.items}

    @property
    def content_sha256(self) -> str:
        """See `content_sha256`."""
        return content_sha256(self.items)

    @property
    def signature(self) -> str:
        """The set in a score's signature, e.g. `builtin@1a2b3c4d`: equal if and only if the instructions are."""
        return f"{self.name}@{self.content_sha256[:8]}"


def content_sha256(items: Sequence[Instruction]) -> str:
    """Hex sha256 over the sorted ids: the same instructions in another order are the same set."""
    return sha256_json(sorted(item.id for item in items))


def to_documents(instructions: InstructionSet) -> list[dict[str, str | None]]:
    """The set as lm-eval documents: `instruction_id`, `instruction`, `category`, `dataset`, in the set's order."""
    return [
        {
            "instruction_id": item.id,
            "instruction": item.text,
            "category": item.category,
            "dataset": item.dataset if item.dataset is not None else instructions.name,
        }
        for item in instructions.items
    ]


def parse_instructions(rows: Sequence[tuple[str, Any]], source: str) -> tuple[Instruction, ...]:
    """Builds instructions from rows, refusing the whole file if one row is wrong.

    Args:
        rows: Where each row stands (e.g. "row 3") and its JSON value: an object with `instruction` and optionally
            `category` and `dataset`. Other keys (`output`, `generator`) are not read.
        source: The file, for messages.

    Raises:
        UserError: If there are no rows, or rows are malformed, empty or duplicates; names the file and the rows.
    """
    items: list[Instruction] = []
    problems: list[str] = []
    first_at: dict[str, str] = {}
    for place, row in rows:
        if (problem := _problem(row)) is not None:
            problems.append(f"{place}: {problem}")
            continue
        item = Instruction(
            instruction_id(row["instruction"]), row["instruction"], row.get("category"), row.get("dataset")
        )
        if (before := first_at.setdefault(item.id, place)) != place:
            problems.append(f"{place}: the same instruction as {before}")
        items.append(item)
    if problems:
        shown = "; ".join(problems[:_SHOWN_PROBLEMS])
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise UserError(
            f"{source}: {shown}{more}. Expected objects with a text `instruction`, each different. Fix these rows."
        )
    if not items:
        raise UserError(f"{source}: no instructions found. Expected at least one object with `instruction`.")
    return tuple(items)


def _problem(row: Any) -> str | None:
    """What is wrong with one row, or None."""
    if not isinstance(row, dict):
        return f"found {type(row).__name__}, expected an object"
    text = row.get("instruction")
    if not isinstance(text, str):
        return f"`instruction` is {type(text).__name__}" if "instruction" in row else "no `instruction`"
    if not text.strip():
        return "empty instruction"
    for key in ("category", "dataset"):
        if not isinstance(row.get(key), str | None):
            return f"`{key}` is {type(row[key]).__name__}, expected text"
    if row.get("input"):
        return "`input` has text, which would be lost; write it into `instruction`"
    try:
        "".join([text, row.get("category") or "", row.get("dataset") or ""]).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not text"
    return None
