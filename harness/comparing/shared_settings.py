"""How the answers of compared systems were made: looked up beside the verdicts, and the same for all of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import load_meta, load_outputs
from implicit_if.harness.safe_text import one_line

_SUFFIX = ".annotations.jsonl"
_SHARED = {"system_instruction": "system instruction", "template": "template", "generation": "generation arguments"}


def settings_beside(path: Path, verdicts: Sequence[Annotation]) -> AnswerSettings:
    """The settings in the sidecar of the answers that a file of verdicts is about, where these lie beside it.

    Args:
        path: `<stem>.annotations.jsonl` for `<stem>.json`, or `annotations.jsonl` for `outputs.json`.
        verdicts: The file's; the answers found must be those that they are about.
    """
    outputs = path.with_name(
        path.name.removesuffix(_SUFFIX) + ".json" if path.name.endswith(_SUFFIX) else "outputs.json"
    )
    try:
        meta = load_meta(outputs) if outputs.is_file() and path.suffix == ".jsonl" else None
        hashes = {o.instruction_id: o.sha256 for o in load_outputs(outputs)} if meta else {}
    except UserError:
        return NOTHING_KNOWN
    same = meta is not None and all(v.system_sha256 == hashes.get(v.instruction_id) for v in verdicts)
    return AnswerSettings.of_meta(meta) if same else NOTHING_KNOWN


def shared_settings(systems: Mapping[str, Sequence[AnswerSettings]]) -> tuple[AnswerSettings, list[str]]:
    """The settings that a table's numbers share, and what a reader must know about the rest.

    Args:
        systems: By system, what is known of each seed's answers.

    Returns:
        What is known of all and the same, and notes: whose settings are not known, and types that differ.

    Raises:
        UserError: If systems were asked under different system instructions, templates or generation arguments.
    """
    known = [(name, one) for name, seeds in systems.items() for one in seeds if one != NOTHING_KNOWN]
    for field, what in _SHARED.items():
        told = [(name, getattr(one, field)) for name, one in known]
        told = [(name, value) for name, value in told if value or field == "system_instruction"]
        for name, value in told[1:]:
            if value != told[0][1]:
                raise UserError(
                    f"{one_line(told[0][0])} and {one_line(name)} answered under different settings ({what}: "
                    f"{told[0][1] or 'none'}, {value or 'none'}). Such numbers never share a table: answer both alike."
                )
    unknown = [name for name, seeds in systems.items() if NOTHING_KNOWN in seeds]
    if not known:
        return NOTHING_KNOWN, []
    if unknown:
        names = ", ".join(map(one_line, unknown))
        return NOTHING_KNOWN, [f"note: how {names} answered is not recorded, so the signature leaves it out."]
    types = {name: sorted({one.dtype for one in seeds}) for name, seeds in systems.items()}
    values = {field: {getattr(one, field) for _, one in known} for field in (*_SHARED, "dtype")}
    common = {field: found.pop() for field, found in values.items() if len(found) == 1}
    notes = []
    if "dtype" not in common:
        listing = "; ".join(
            f"{one_line(name)}: {', '.join(t or 'not recorded' for t in ts)}" for name, ts in types.items()
        )
        notes.append(f"note: the weights that answered were of different types ({listing}).")
    return replace(NOTHING_KNOWN, **common), notes
