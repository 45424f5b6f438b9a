"""Named references: stored answers that systems are judged against, e.g. `gemma-3-270m/instruction-full-s1`.

A named reference is a folder here with one outputs file per instruction set, `<set>@<hash>.json` as in a score's
signature, and its sidecar. Instruction texts are left out: ids are enough to find each answer. Where the texts may not
be shipped, what an answer quotes of its instruction is left out too; see `quotes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.instructions import InstructionSet
from implicit_if.harness.outputs import Output, OutputsMeta, join_instructions, load_meta, load_outputs
from implicit_if.harness.provenance import load_provenance
from implicit_if.harness.references.quotes import lift_quotes, put_quotes_back
from implicit_if.harness.storage import write_json

FOLDER = Path(__file__).parent

AUTO = "auto"
BASE = "base"
"""The reference that the model at work gives itself: its base without rules."""

FALLBACK = "gemma-3-270m/instruction-full-s1"
"""What a model of unknown base is judged against."""


def reference_names(folder: Path = FOLDER) -> list[str]:
    """Every named reference, as `<base model>/<system>`."""
    return sorted({path.parent.relative_to(folder).as_posix() for path in _files(folder)})


def sibling_of(base_model: str, folder: Path = FOLDER) -> str | None:
    """The reference that systems of a base model are judged against: the same model, instruction-tuned.

    Of several the first by name whose answers no other one supersedes: published answers stay, and better ones get a
    name of their own that points back.

    Args:
        base_model: Its name on the hub ("google/gemma-3-270m"), a registered name ("embedded"), or the folder of a
            model that `implicit-if tune` made: what that model's base has.
        folder: Where references are.
    """
    if provenance := load_provenance(base_model):
        base_model = provenance.base.name
    siblings, superseded = [], set()
    for path in _files(folder):
        meta = load_meta(path)
        if meta is not None and base_model in meta.model.get("bases", []):
            superseded.add(meta.model.get("supersedes"))
            if path.parent.name.partition("-")[0] == "instruction":
                siblings.append(path.parent.relative_to(folder).as_posix())
    return next((name for name in siblings if name not in superseded), None)


def choose_reference(
    spec: str, instructions: InstructionSet, base_model: str, *, answers_as_base: bool, folder: Path = FOLDER
) -> tuple[str, str | None]:
    """Resolves "auto": the sibling of the model's base if there is one, else the model's own base.

    Args:
        spec: What the user asked for.
        instructions: The instruction set.
        base_model: See `sibling_of`.
        answers_as_base: Whether the model at work can answer as its own base.
        folder: Where named references are.

    Returns:
        "base", a name or a path; and why, if the user did not choose.

    Raises:
        UserError: If nothing fits.
    """
    if spec != AUTO:
        return spec, None
    sibling = sibling_of(base_model, folder)
    if sibling is not None and covers(sibling, instructions, folder):
        return sibling, "reference=auto: the same base model, tuned on instructions"
    if answers_as_base:
        return BASE, f"reference=auto: no tuned sibling of {base_model} has answers to {instructions.signature}"
    if covers(FALLBACK, instructions, folder):
        return FALLBACK, "reference=auto: the model's base is not known, so its own sibling is not either"
    raise UserError(
        f"reference=auto: no stored reference has answers to {instructions.signature}, and this model class cannot "
        f"answer as its own base. Give --metadata reference=<outputs file>."
    )


def covers(name: str, instructions: InstructionSet, folder: Path = FOLDER) -> bool:
    """Whether a named reference has answers to an instruction set."""
    return _path(name, instructions, folder).exists()


def reference_meta(name: str, instructions: InstructionSet, folder: Path = FOLDER) -> OutputsMeta | None:
    """How a named reference's answers were made; None for a path, or without answers to the set."""
    return load_meta(_path(name, instructions, folder)) if name in reference_names(folder) else None


def load_reference(
    spec: str, instructions: InstructionSet, folder: Path = FOLDER, places: Iterable[int] | None = None
) -> list[Output]:
    """A reference's answers to the instructions of a set, in the set's order.

    Args:
        spec: A name, or the path of an outputs file.
        instructions: The set.
        folder: Where named references are.
        places: Which of the set's instructions are asked, counted from 0, as under `--limit`; None: all. A file that
            answers none of the set is refused in any case.

    Raises:
        UserError: If there is neither such a name nor such a file, or an instruction has no answer there.
    """
    if spec in reference_names(folder):
        path = _path(spec, instructions, folder)
        if not path.exists():
            stored = ", ".join(sorted(p.stem for p in _files(folder) if p.parent == folder / spec))
            raise UserError(
                f"reference {spec!r} has no answers to {instructions.signature}; it has {stored}. Choose one of these "
                f"instruction sets, or give a path: --reference FILE."
            )
        outputs = _read(path, instructions.texts())
    else:
        outputs = load_outputs(_own_file(spec, folder))
    return _complete(outputs, instructions, spec, places)


def stored_answers(spec: str, texts: Mapping[str, str | None], folder: Path = FOLDER) -> list[Output]:
    """A reference's answers, for systems whose answers tell which instruction set it is.

    Args:
        spec: A name, or the path of an outputs file, which is read as it stands.
        texts: The instructions the systems answered: text by id, None where their outputs hold none.
        folder: Where named references are.

    Returns:
        The answers to these and all other instructions of the set; of the others, without what they quote.

    Raises:
        UserError: If there is neither such a name nor such a file, none of the reference's sets holds all instructions,
            or an answer quotes an instruction without text.
    """
    if spec not in reference_names(folder):
        return load_outputs(_own_file(spec, folder))
    files = [path for path in _files(folder) if path.parent == folder / spec]
    for path in files:
        outputs = _read(path, texts)
        if {output.instruction_id for output in outputs}.issuperset(texts):
            return outputs
    raise UserError(
        f"reference {spec!r} has no answers to some of these {len(texts)} instructions; it has answers to "
        f"{', '.join(path.stem for path in files)}. Expected answers to one of these sets, or a path: --reference FILE."
    )


def store_answers(path: Path, outputs: Sequence[Output], instructions: InstructionSet, meta: OutputsMeta) -> None:
    """Writes a named reference's file and sidecar, without the instructions' texts.

    Args:
        path: `<folder>/<name>/<signature of the set>.json`.
        outputs: One answer per instruction of the set.
        instructions: The set.
        meta: How the answers were made.
    """
    texts = instructions.texts()
    rows = [output.model_dump() | {"instruction": None} for output in outputs]
    if not instructions.shippable:
        rows = [row | {"output": lift_quotes(row["output"], texts[row["instruction_id"]])} for row in rows]
    write_json(path.with_suffix(".meta.json"), meta.model_dump())
    write_json(path, rows)


def _read(path: Path, texts: Mapping[str, str | None]) -> list[Output]:
    """A named reference's answers, whole where the instruction's text is given."""
    outputs = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        key, stored = row["instruction_id"], row["output"]
        text = texts.get(key, "")
        if text is None and not isinstance(stored, str):
            raise UserError(
                f"reference {path.parent.name}: its answer quotes the instruction {key}, whose text the outputs do not "
                f"hold. Name the instruction set they were made with: --instructions NAME."
            )
        outputs.append(Output.model_validate(row | {"output": put_quotes_back(stored, text or "")}))
    return outputs


def _complete(
    outputs: Iterable[Output], instructions: InstructionSet, spec: str, places: Iterable[int] | None
) -> list[Output]:
    items = instructions.items
    wanted = items if places is None else [items[place] for place in places if place < len(items)]
    by_id = {output.instruction_id: output for output in outputs}
    if not any(item.id in by_id for item in items):
        wanted = items
    missing = [item.id for item in wanted if item.id not in by_id]
    if missing:
        raise UserError(
            f"reference {spec}: {len(missing)} of the {len(wanted)} instructions of "
            f"{instructions.name!r} have no answer there (first: {missing[0]}). Expected answers to the same "
            f"instruction set; choose it with --instructions (in lm_eval: --metadata instructions=)."
        )
    return join_instructions([by_id[item.id] for item in wanted], instructions.texts())


def _own_file(spec: str, folder: Path) -> Path:
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    if path.suffix.lower() in (".json", ".jsonl", ".csv") or spec.startswith((".", "/", "~")):
        found = "it is a folder" if path.is_dir() else "no such file"
        raise UserError(
            f"reference {spec}: {found}. Expected a file of outputs, or a named reference, e.g. {FALLBACK}."
        )
    raise unknown_name("reference", spec, reference_names(folder), fix="The path of an outputs file is accepted too.")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*/*@*.json") if not path.name.endswith(".meta.json"))


def _path(name: str, instructions: InstructionSet, folder: Path) -> Path:
    return folder / name / f"{instructions.signature}.json"
