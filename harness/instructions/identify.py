"""What signatures call an instruction set and a system, for every command alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output, load_meta
from implicit_if.harness.safe_text import one_line

if TYPE_CHECKING:
    from implicit_if.harness.instructions import InstructionSet

_SHOWN = 3


def identify_set(
    ids: Collection[str], given: InstructionSet | None = None, outputs: Path | None = None
) -> tuple[str, str | None]:
    """Name and revision of the instructions: the given set's, a known set's, the sidecar's, else "custom" and None.

    Args:
        ids: Of the instructions that were answered; a part of a known set is that set.
        given: The set the user names.
        outputs: The outputs file, whose sidecar may tell.

    Raises:
        UserError: If an instruction is not in the given set.
    """
    from implicit_if.harness.instructions import SHIPPED, alpaca_eval, load_instructions

    found = set(ids)
    if given is not None:
        strange = sorted(found - given.texts().keys())
        if strange:
            raise UserError(
                f"--instructions: {len(strange)} of {len(found)} outputs answer no instruction of {given.name!r} "
                f"(first: {strange[0]}). Expected the set they were made with; leave it out if they hold the texts."
            )
        return given.name, given.revision
    if found <= set(alpaca_eval.official_ids()):
        return "alpaca_eval", alpaca_eval.REVISION
    for shipped in map(load_instructions, SHIPPED):
        if found <= shipped.texts().keys():
            return shipped.name, shipped.revision
    meta = None if outputs is None else load_meta(outputs)
    return (meta.instruction_set, meta.instruction_revision) if meta and meta.instruction_set else ("custom", None)


def system_name(outputs: Sequence[Output], path: Path) -> str:
    """The generator of a system's answers, fit for a terminal; the file's name where they do not say.

    Raises:
        UserError: If there are several.
    """
    names = sorted({output.generator for output in outputs})
    if len(names) > 1:
        raise UserError(
            f"{path}: answers of {len(names)} systems in one file ({', '.join(map(one_line, names[:_SHOWN]))}). "
            f"Expected one `generator`; split the file."
        )
    return one_line(names[0], 1_000) or path.stem
