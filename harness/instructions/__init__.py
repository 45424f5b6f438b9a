"""Instruction sets: named lists of instructions at a pinned revision.

`load_instructions` takes what a user gives as `instructions=`: `builtin`, `validation`, `alpaca_eval`, `auto`, a path.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import replace
from pathlib import Path

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.hub import HubUnavailableError
from implicit_if.harness.instructions import alpaca_eval
from implicit_if.harness.instructions.local import SHIPPED, load_file, load_shipped
from implicit_if.harness.instructions.sets import Instruction, InstructionSet, content_sha256, to_documents

__all__ = ["SHIPPED", "Instruction", "InstructionSet", "content_sha256", "load_instructions", "to_documents"]

logger = logging.getLogger(__name__)

NAMES = ("alpaca_eval", "auto", *SHIPPED)

ASKED_PATIENCE = 15.0
AUTO_PATIENCE = 2.0


def load_instructions(spec: str) -> InstructionSet:
    """Loads an instruction set.

    Args:
        spec: `builtin`, the 80 instructions of this package; `validation`, 56 others of it, to choose epochs and rates
            on; `alpaca_eval`, the 805 of AlpacaEval, from the hub at a pinned revision or its cache; `auto`, AlpacaEval
            if it is cached or the hub answers within two seconds, else builtin (announced, and decided once per
            process: processes that must agree pass the chosen set's name on); or a path, a JSON list (alpaca-eval's
            files too) or JSON Lines of objects with `instruction`. A file with exactly the instructions of AlpacaEval,
            builtin or validation, in any order, is that set under its own name.

    Raises:
        UserError: If there is no such set or file, the file is malformed, or the hub does not give AlpacaEval.
    """
    if spec in SHIPPED:
        return load_shipped(spec)
    if spec == "alpaca_eval":
        return _alpaca_eval()
    if spec == "auto":
        return _auto()
    path = Path(spec).expanduser()
    if path.suffix not in (".json", ".jsonl") and os.sep not in spec:
        raise unknown_name("instruction set", spec, NAMES, fix="A path to a .json or .jsonl file is accepted too.")
    return _recognised(load_file(path), path)


def _alpaca_eval() -> InstructionSet:
    try:
        return alpaca_eval.load_alpaca_eval(ASKED_PATIENCE)
    except HubUnavailableError as error:
        raise UserError(
            f"the hub does not give the instruction set 'alpaca_eval' ({error}). Use instructions=<path> with a copy "
            f"of {alpaca_eval.FILE} from the dataset {alpaca_eval.REPOSITORY}, or instructions=builtin."
        ) from error


@functools.cache
def _auto() -> InstructionSet:
    """Cached, so that one run never sees two sets because the network came or went."""
    try:
        found = alpaca_eval.load_alpaca_eval(AUTO_PATIENCE)
    except HubUnavailableError as error:
        reason = f"instructions=auto: the hub does not give AlpacaEval ({error})"
        logger.warning(
            "%s, so the 80 builtin instructions are used. For AlpacaEval give instructions=<path>; "
            "instructions=builtin silences this.",
            reason,
        )
        return replace(load_shipped("builtin"), chosen_because=reason)
    reason = "instructions=auto: the hub or its cache gave AlpacaEval"
    logger.info("%s; its %d instructions are used.", reason, len(found.items))
    return replace(found, chosen_because=reason)


def _recognised(found: InstructionSet, path: Path) -> InstructionSet:
    """A local file under the name and licence of the known set that it holds; else never under a known set's name."""
    if found.content_sha256 == alpaca_eval.CONTENT_SHA256:
        known = alpaca_eval.alpaca_eval_set(found.items)
    elif shipped := [own for own in map(load_shipped, SHIPPED) if own.content_sha256 == found.content_sha256]:
        known = replace(shipped[0], items=found.items)
    else:
        return replace(found, name=f"{found.name}-local") if found.name in NAMES else found
    reason = f"{path.name} holds exactly the instructions of {known.name}"
    logger.info("%s and is used as that set.", reason)
    return replace(known, chosen_because=reason)
