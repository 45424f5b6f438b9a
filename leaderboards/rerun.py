"""A maintainer generates a submission's answers again: what may be run is a short list, all else is data.

The command line is built from checked parts only. Weights are loaded from safetensors, code in a model's repository is
never run, and a model must be named on the hub: a path would be one of this machine.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.chat_templates import load_template, template_names
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.lm_eval_plugin import task_folders
from implicit_if.harness.outputs import Output, load_outputs
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import atomic_write, json_bytes, write_json
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submission.data_files import annotation_rows, output_rows, parse_rows
from implicit_if.leaderboards.submission.maintainer_files import Rerun, within
from implicit_if.leaderboards.submission.read import read_content
from implicit_if.leaderboards.submission.schema import Metadata
from implicit_if.leaderboards.submitting.sources import find_annotations
from implicit_if.leaderboards.verification.checks import built_by_name, known_sets
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import score_rows
from implicit_if.leaderboards.verification.verify import verify

_HUB = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,95}"
_NUMBER = r"-?\d{1,9}(\.\d{1,9})?"
_BOOL = r"True|False|true|false"

_HF = {
    "pretrained": _HUB,
    "revision": _WORD,
    "subfolder": _WORD,
    "tokenizer": _HUB,
    "dtype": r"auto|float32|float16|bfloat16",
    "max_length": _NUMBER,
    "add_bos_token": _BOOL,
}
_RULES = {"rules": _WORD, "drop": _WORD, "missing": _WORD}
MODELS: Mapping[str, Mapping[str, str]] = {
    "hf": _HF,
    "rules_poe": {**_HF, **_RULES},
    "rules_poe_vllm": {**_HF, **_RULES},
    "urial": {**_HF, "prefix": _WORD},
    "proxy_tuned": {**_HF, **_RULES, "expert": _HUB, "anti_expert": _HUB, "alpha": _NUMBER},
}
"""lm-eval's model classes that may be run, and the form each of their arguments must have."""
_RULE_OPTION = re.compile(r"[a-z][a-z0-9_]{0,31}\.[A-Za-z_]{1,40}")
_GENERATION = {"max_gen_toks": _NUMBER, "do_sample": _BOOL, "temperature": _NUMBER, "top_p": _NUMBER, "top_k": _NUMBER}


def check_arguments(metadata: Metadata, overrides: Mapping[str, str]) -> dict[str, str]:
    """The model's arguments that will be passed, all of a form that can do no harm.

    Args:
        metadata: The submission's; not trusted.
        overrides: The maintainer's, which win and may be paths.

    Raises:
        UserError: If the submission says nothing about its run, or an argument is not on the list.
    """
    if metadata.run is None:
        raise UserError(f"{metadata.id}: its metadata hold no `run`, so it cannot be rerun.")
    forms = MODELS.get(metadata.run.model)
    if forms is None:
        raise unknown_name("model class of a rerun", metadata.run.model, MODELS)
    arguments = {}
    for name, value in metadata.run.model_args.items():
        if name in overrides or name in ("trust_remote_code", "use_safetensors", "batch_size", "device"):
            continue
        text = str(value)
        form = _NUMBER if _RULE_OPTION.fullmatch(name) else forms.get(name)
        if form is None or not re.fullmatch(form, text) or (form is _HUB and Path(text).exists()):
            raise UserError(
                f"{metadata.id}: model argument {one_line(name, 60)}={one_line(text, 60)} is not among those a rerun "
                f"passes on ({', '.join(forms)}), is malformed, or is a path here. If it is harmless, give "
                f"it: --model-arg NAME=VALUE"
            )
        arguments[name] = text
    if metadata.dtype is not None and re.fullmatch(_HF["dtype"], metadata.dtype):
        arguments.setdefault("dtype", metadata.dtype)
    arguments |= overrides
    if "pretrained" not in arguments and metadata.run.model == "hf":
        raise UserError(f"{metadata.id}: names no model. Give it: --model-arg pretrained=org/model")
    return {**arguments, "trust_remote_code": "False", "use_safetensors": "True"}


def task_names() -> list[str]:
    """The tasks of this package, sorted."""
    return sorted(
        path.stem for folder in task_folders() for path in folder.glob("*/*.yaml") if path.stem == path.parent.name
    )


def command_line(
    metadata: Metadata, arguments: Mapping[str, str], task: Mapping[str, str], options: Mapping[str, str | None]
) -> list[str]:
    """lm-eval's command line.

    Args:
        metadata: The submission's, arguments checked.
        arguments: From `check_arguments`.
        task: The task's arguments (`--metadata`).
        options: `device`, `batch_size` and `output_path`.

    Raises:
        UserError: If a generation argument is not on the list.
    """
    assert metadata.run is not None
    if metadata.task not in task_names():  # else it might name a file here, which lm-eval would run
        raise unknown_name("task of a rerun", metadata.task, task_names())
    generation, seed = [], metadata.generation.get("seed")
    for name, value in sorted(metadata.generation.items()):
        if (name == "until" and value == []) or name == "system_instruction":  # there until version 0.2
            continue
        if name == "seed" and isinstance(seed, int):  # lm-eval's own, for all of a run
            continue
        if name not in _GENERATION or not re.fullmatch(_GENERATION[name], str(value)):
            raise UserError(
                f"{metadata.id}: generation argument {one_line(name, 60)}={one_line(str(value), 60)} is not among "
                f"those a rerun passes on ({', '.join(_GENERATION)})."
            )
        generation.append(f"{name}={value}")
    line = [sys.executable, "-m", "lm_eval", "--model", metadata.run.model, "--tasks", metadata.task]
    line += ["--model_args", *(f"{k}={v}" for k, v in sorted(arguments.items()))]
    line += ["--metadata", *(f"{k}={v}" for k, v in sorted(task.items()))]
    line += ["--gen_kwargs", *generation] if generation else []
    line += ["--seed", str(seed)] if isinstance(seed, int) else []
    if told := metadata.system_instruction or metadata.generation.get("system_instruction"):
        line.append(f"--system_instruction={told}")
    if metadata.template is not None and metadata.template.name == "model":
        line.append("--apply_chat_template")
    for name, value in sorted(options.items()):
        line += [f"--{name}", value] if value is not None else []
    return line


def task_arguments(metadata: Metadata, folder: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """The task's arguments: reference and answers in `folder`, everything else by known names.

    Raises:
        UserError: If the instruction set, template or judge is not one of this program's; names the option.
    """
    instructions = given.get("instructions") or metadata.instruction_set.name
    if not given.get("instructions") and instructions not in known_sets():
        raise UserError(f"instruction set {one_line(instructions, 60)!r}: give the file: --instructions FILE")
    judge = given.get("judge") or metadata.judge.name
    if not given.get("judge") and not built_by_name(judge):
        raise UserError(f"judge {one_line(judge, 60)!r}: not one that is built by name; give --judge SPEC")
    task = {"instructions": instructions, "judge": judge}
    task |= {"reference": str(folder / "reference.json"), "save": str(folder / "saved")}
    template = metadata.template.name if metadata.template is not None else "tulu"
    if given.get("template"):
        task["template"] = str(given["template"])
    elif template != "model":
        known = template in template_names()
        if not known or (metadata.template and metadata.template.sha256 not in (None, load_template(template).sha256)):
            raise UserError(
                f"chat template {one_line(template, 60)!r}: not one of this program's; give --template FILE"
            )
        task["template"] = template
    return task


def write_reference(verified: Verified, folder: Path) -> None:
    """The submission's reference as an outputs file the task can read."""
    rows = parse_rows(read_content(verified.folder).rows("reference"), "outputs")
    write_json(folder / "reference.json", rows)


def execute(line: list[str]) -> None:
    """Runs the command line, without a shell.

    Raises:
        UserError: If it fails.
    """
    done = subprocess.run(line, check=False)
    if done.returncode:
        raise UserError(f"the rerun failed: lm_eval ended with status {done.returncode}; see its messages above.")


def compare(verified: Verified, saved: Path) -> Rerun:
    """What the rerun came to.

    Args:
        verified: The submission.
        saved: The task's `save=` folder.

    Raises:
        UserError: If it does not answer the same instructions, or another judge judged.
    """
    metadata = verified.metadata
    content = read_content(verified.folder)
    before = parse_rows(content.rows("outputs"), "outputs")
    system, reference = load_outputs(saved / "outputs.json"), load_outputs(saved / "reference.json")
    annotations: list[Annotation] = find_annotations([saved / "annotations.jsonl"], system, reference, None)
    if annotations[0].fingerprint != metadata.judge.fingerprint:
        raise UserError(
            f"the rerun was judged by {annotations[0].judge} ({annotations[0].fingerprint[:12]}), the submission by "
            f"{one_line(metadata.judge.name)} ({metadata.judge.fingerprint[:12]}); give that one with --judge."
        )
    rows = output_rows(system, texts=False)
    if [r["instruction_id"] for r in rows] != [r["instruction_id"] for r in before]:
        raise UserError("the rerun answers other instructions than the submission; check --instructions.")
    _, scores = score_rows(
        metadata, rows, output_rows(_named(reference, metadata), texts=False), annotation_rows(annotations)
    )
    same = sum(new["output"] == old["output"] for new, old in zip(rows, before, strict=True)) / len(rows)
    submitted = verified.scores["win_rate"]
    hashes = {n: h for n, h in content.hashes.items() if n not in read.BY_MAINTAINERS}
    return Rerun(
        submission_sha256=read.content_sha256(hashes),
        win_rate=scores.scores["win_rate"],
        submitted=submitted,
        agrees=within(scores.scores["win_rate"], submitted),
        identical_answers=same,
        versions={name: importlib.metadata.version(name) for name in ("lm_eval", "torch", "transformers")},
    )


def record(verified: Verified, rerun: Rerun) -> Verified:
    """Writes `rerun.json` and verifies the submission with it."""
    with atomic_write(verified.folder / read.RERUN, "wb") as file:
        file.write(json_bytes(rerun.model_dump(mode="json")))
    return verify(verified.folder)


def _named(reference: list[Output], metadata: Metadata) -> list[Output]:
    return [o.model_copy(update={"generator": metadata.reference.name}) for o in reference]
