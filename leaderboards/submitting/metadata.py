"""Fills in a submission's metadata: what the source tells, then what the user adds; what is missing is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.chat_templates import load_template, template_names
from implicit_if.harness.embedded_base import EMBEDDED, HUB_NAME, LICENCE, SHORT_NAME
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet
from implicit_if.harness.outputs import Output, join_instructions
from implicit_if.harness.provenance import Provenance, load_provenance
from implicit_if.harness.safe_text import file_name
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.system_kinds import SYSTEM_KINDS, kind_of_model
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION
from implicit_if.leaderboards.submitting.sources import Source
from implicit_if.leaderboards.verification.checks import known_sets

_RULES = re.compile(r"rules:(?P<preset>[^@,]*)")
_EMBEDDED = {"name": HUB_NAME, "licence": LICENCE}


_PLACEHOLDERS = ("your/model", "org/model", "your-org/your-model", "my-org/my-model")


class Draft(NamedTuple):
    """A submission's metadata but for `files`, and what the user should know about them.

    Attributes:
        metadata: See `schema.Metadata`.
        notes: What was left out or assumed, one line each.
    """

    metadata: dict[str, Any]
    notes: list[str]


def align(source: Source, instructions: InstructionSet | None) -> tuple[list[Output], list[Output]]:
    """System and reference answers to the same instructions, sorted by id, with texts where the set is known.

    Raises:
        UserError: If they do not answer the same instructions.
    """
    texts = instructions.texts() if instructions is not None else {}
    sides = []
    for outputs in (source.system, source.reference):
        known = [o for o in outputs if o.instruction is not None or o.instruction_id in texts]
        rest = [o for o in outputs if o.instruction is None and o.instruction_id not in texts]
        sides.append(sorted([*join_instructions(known, texts), *rest], key=lambda o: o.instruction_id))
    system, reference = sides
    for output in (*system, *reference):
        if not output.output.isascii() and any("\ud800" <= c <= "\udfff" for c in output.output):
            raise UserError(
                f"the answer of {output.generator!r} to instruction {output.instruction_id} holds half of a surrogate "
                f"pair, which is not text. Correct that answer and judge it again."
            )
    subsets = {o.instruction_id: o.dataset for o in system}  # not every kind of source notes it with the reference
    answered = {o.instruction_id for o in reference}
    for name, theirs, mine in (("reference", subsets.keys(), answered), ("system", answered, subsets.keys())):
        if missing := sorted(theirs - mine):
            raise UserError(
                f"the {name} does not answer {len(missing)} of {len(theirs)} instructions (first: {missing[0]}). "
                f"Only complete results can be submitted: answer these, too, and judge them."
            )
    return system, [o.model_copy(update={"dataset": subsets[o.instruction_id]}) for o in reference]


def draft(
    source: Source,
    system: Sequence[Output],
    reference: Sequence[Output],
    annotations: Sequence[Annotation],
    given: Mapping[str, Any],
) -> Draft:
    """Metadata from the source and from options, which win.

    Args:
        source: What was read.
        system: Its answers, aligned.
        reference: The reference's.
        annotations: The verdicts.
        given: Options by the names of `submit_command`; absent or None where not given.

    Raises:
        UserError: Names the option for everything that is missing.
    """
    if str(given["name"]).casefold() in _PLACEHOLDERS:
        raise UserError(f"--name {given['name']}: is the example's. Give your own, e.g. --name my-org/my-model.")
    notes: list[str] = []
    provenance = load_provenance(str(source.model_args.get("pretrained") or "-"))
    kind = _system(source, provenance, given)
    instruction_set = _instruction_set(source, system, bool(given.get("texts")))
    run = _run(source, given, notes)
    metadata: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": source.task,
        "name": given["name"],
        "revision": given.get("revision") or _revision(source, system),
        "system": kind,
        "base_model": _base_model(source, provenance, given, kind["kind"]),
        "recipe": _recipe(provenance, given),
        "data": _data(provenance, given),
        "template": _template(source, given, notes),
        "instruction_set": instruction_set,
        "reference": {"name": reference[0].generator, "sha256": outputs_sha256(reference)},
        "judge": _judge(annotations),
        "generation": {k: _plain(v) for k, v in sorted(source.generation.items())},
        "system_instruction": source.system_instruction,
        "dtype": source.dtype,
        "run": run,
        "contact": given.get("contact"),
        "links": list(given.get("link") or []),
        "licence": given["licence"],
    }
    return Draft(metadata, notes)


def _system(source: Source, provenance: Provenance | None, given: Mapping[str, Any]) -> dict[str, Any]:
    made = source.made or _made_by_name(source)
    kind = given.get("system") or made.get("kind")
    recipe = given.get("recipe") or (provenance and provenance.recipe)
    if kind is None and recipe:
        kind = next((k for k in ("instruction", "response") if str(recipe).startswith(k)), "single_task")
    if kind is None:
        raise UserError(f"--system is missing: say what was done to the base model ({', '.join(SYSTEM_KINDS)}).")
    seed = given.get("seed") if given.get("seed") is not None else provenance and provenance.seed
    tells = kind == "rules" and not given.get("only")  # which says the same in other words
    return {
        "kind": kind,
        "task": given.get("task") or (recipe if kind == "single_task" else None),
        "preset": given.get("preset") or (made.get("preset") or "paper" if kind == "rules" else None),
        "without": list(given.get("without") or (made.get("without") or [] if tells else [])),
        "only": list(given.get("only") or []),
        "control": given.get("control"),
        "seed": seed,
        "description": given.get("description"),
    }


def _made_by_name(source: Source) -> dict[str, Any]:
    """The system's kind, preset and rules left out, for results of version 0.1, which name the system only."""
    dropped = [d for d in str(source.model_args.get("drop") or "").split("+") if d]
    made: dict[str, Any] = {"kind": kind_of_model(source.model), "without": dropped}
    if source.product is None or made["kind"] not in ("rules", None):
        return made
    if source.product.startswith(("rules:none", "none")):
        return {"kind": "base"}
    if match := _RULES.match(source.product):
        name = match["preset"]
        for rule in reversed(dropped):
            name = name.removesuffix(f"-{rule}")
        made |= {"kind": "rules", "preset": name if source.model_args else name.split("-")[0]}
    return made


def _base_model(source: Source, provenance: Provenance | None, given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    pretrained = source.model_args.get("pretrained")
    wrapped = kind_of_model(source.model) is not None
    guess: dict[str, Any] = dict(_EMBEDDED) if wrapped and pretrained is None else {}
    if wrapped and isinstance(pretrained, str) and not is_local(pretrained):
        guess = {"name": pretrained, "revision": source.revision}
    if provenance:
        guess = {"name": provenance.base.name, "revision": provenance.base.revision}
    if guess.get("name") in (EMBEDDED, SHORT_NAME):
        guess = dict(_EMBEDDED)
    if guess.get("name") and is_local(str(guess["name"])):
        guess = {}
    if given.get("base_model") not in (None, guess.get("name")):
        guess = {}  # what is known is about another model
    added = {"name": "base_model", "revision": "base_revision", "licence": "base_licence"}
    guess |= {key: given[option] for key, option in added.items() if given.get(option)}
    if kind == "control" and not guess.get("name"):
        return {"name": "none"}
    if not guess.get("name"):
        raise UserError("--base-model is missing: the name of the pretrained model, e.g. --base-model org/model.")
    return guess


def _recipe(provenance: Provenance | None, given: Mapping[str, Any]) -> dict[str, Any] | None:
    name = given.get("recipe") or (provenance and provenance.recipe)
    return {"name": str(name), "fingerprint": provenance and provenance.recipe_fingerprint} if name else None


def _data(provenance: Provenance | None, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = []
    for text in given.get("data") or []:
        name, _, rest = str(text).partition("=")
        licence, _, url = rest.partition(",")
        data.append({"name": name, "licence": licence or None, "url": url or None})
    known = provenance.data if provenance else {}
    if not data and known.get("origin") and not is_local(str(known["origin"])):
        data.append({"name": str(known["origin"]), "licence": known.get("licence")})
    return data


def _template(source: Source, given: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    if given.get("template"):
        chosen = load_template(given["template"])
        return {"name": chosen.name, "sha256": chosen.sha256, "tags": list(chosen.tags)}
    if not source.template.get("name"):
        notes.append("no chat template is recorded, so there is no format_leak_rate; --template NAME adds it")
        return None
    name = source.template["name"]
    if name == "model":  # version 0.1's task looked for its own template's tags then
        return {**source.template, "tags": list(load_template("tulu").tags if source.tags is None else source.tags)}
    if name in template_names() and load_template(name).sha256 == source.template.get("sha256", ""):
        return {**source.template, "tags": list(load_template(name).tags)}
    notes.append(f"the tags of the chat template {name!r} are not known; --template FILE adds format_leak_rate")
    return {**source.template, "tags": []}


def _instruction_set(source: Source, system: Sequence[Output], texts: bool) -> dict[str, Any]:
    content = sha256_json([o.instruction_id for o in system])
    name, revision = source.instruction_set or "custom", content
    for known, (pinned, known_content) in known_sets().items():
        if content == known_content:
            name, revision = known, pinned
    if source.content is not None and not content.startswith(source.content):
        raise UserError(
            f"the answers are to {len(system)} instructions that are not the whole set {name!r} "
            f"({source.instruction_set}@{source.content}). Only complete results can be submitted; run without --limit."
        )
    if name in known_sets() and content != known_sets()[name][1]:
        raise UserError(
            f"the answers are to {len(system)} instructions that are not exactly those of {name!r}. "
            f"Only complete results can be submitted; answer and judge the rest."
        )
    return {"name": file_name(name, 64), "revision": revision, "n": len(system), "texts": texts}


def _judge(annotations: Sequence[Annotation]) -> dict[str, Any]:
    seen = {a.order for a in annotations}
    orders = ["none"] if seen == {"none"} else ["system_first", "reference_first"]
    return {"name": annotations[0].judge, "fingerprint": annotations[0].fingerprint, "orders": orders}


def _run(source: Source, given: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """What a rerun needs, without paths of the submitter's machine."""
    if source.model is None and not given.get("run_model"):
        notes.append("how lm-eval made the answers is not recorded, so nobody can rerun it; submit from --output_path")
        return None
    arguments = {}
    for key, value in sorted({**source.model_args, **(given.get("run_arg") or {})}.items()):
        if is_local(str(value)):
            notes.append(f"model argument {key} is a local path and was left out; --run-arg {key}=org/model for reruns")
        elif value is not None:
            arguments[key] = _plain(value)
    return {"model": given.get("run_model") or source.model, "model_args": arguments, "versions": source.versions}


def _revision(source: Source, system: Sequence[Output]) -> str:
    """The model's commit, else a hash over the answers: never a name that another system could have."""
    commit = source.revision or ""
    return commit[:12] if re.fullmatch(r"[0-9a-f]{12,64}", commit) else outputs_sha256(system)[:12]


def _plain(value: Any) -> Any:
    """A value the metadata can hold: scalars and lists of text as they are, everything else as text."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return value if value is None or isinstance(value, str | int | float) else str(value)


def is_local(text: str) -> bool:
    """Whether a value is a path of this machine, which tells about its user and helps nobody else."""
    return text.startswith(("/", "~", ".", "file:")) or "\\" in text or Path(text).is_dir()
