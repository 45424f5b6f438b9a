"""What a submission is made from: lm-eval's results and samples, the task's `save=` folder, or single files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from implicit_if.harness.annotations import Annotation, AnnotationStore, Order, annotation_key
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.attempts import EMBEDDED, annotations_of, classify, is_installed, single_answers
from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE
from implicit_if.harness.outputs import Output, load_meta, load_outputs
from implicit_if.harness.signature import WIN_RATE_TASK
from implicit_if.harness.storage import cache_dir, read_json, read_rows

_RESULTS = re.compile(r"results_(?P<date>.+)\.json")
_ORDERS: tuple[Order, ...] = ("none", "reference_first", "system_first")


@dataclass(frozen=True)
class Source:
    """Answers, verdicts, and what is known about how they came about; what is not known is absent.

    Attributes:
        task: The lm-eval task.
        system: The system's answers.
        reference: The answers they were judged against.
        stores: Files that may hold the verdicts, the likeliest first.
        judge: Name or fingerprint of the judge, where the source tells.
        attempts_stores: Files that may hold another judge's verdicts on attempts than the shipped classifier's.
        attempts_judge: Name or fingerprint of that judge, where the source tells.
        instruction_set: Name, where the source tells.
        content: First 8 digits of the hash over the whole set's ids, where the source tells.
        template: `name` and `sha256` of the chat template.
        tags: Role tags of the model's own template, where the task noted them.
        generation: Generation arguments.
        system_instruction: What stood before every prompt, if anything.
        dtype: The type of the weights, e.g. "float32".
        model: lm-eval's model class.
        model_args: Its arguments.
        revision: The model's commit.
        versions: Of lm-eval and what it ran on.
        product: What was done to the base model, by our wrappers' own name for it.
        made: The same as data: kind, preset, rules left out; see `Identity.describe`.
    """

    system: list[Output]
    reference: list[Output]
    stores: list[Path]
    judge: str | None = None
    attempts_stores: Sequence[Path] = ()
    attempts_judge: str | None = None
    instruction_set: str | None = None
    content: str | None = None
    template: dict[str, str] = field(default_factory=dict)
    tags: list[str] | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    system_instruction: str | None = None
    dtype: str | None = None
    model: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    product: str | None = None
    made: dict[str, Any] = field(default_factory=dict)
    task: str = WIN_RATE_TASK


def read_source(path: Path, reference: Path | None, annotations: Path | None, *, partial: bool = False) -> Source:
    """Reads whatever kind of source it is.

    Args:
        path: A folder of lm-eval's `--output_path` or one of its `results_*.json`; a folder of the task's `save=`; or
            a file of outputs.
        reference: The reference's outputs; needed for a file of outputs.
        annotations: The verdicts; needed for a file of outputs unless they lie beside it.
        partial: Whether a run with `--limit` is taken, which cannot be submitted.

    Raises:
        UserError: If it is none of these, ambiguous, or incomplete; says which option helps.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder. Expected lm-eval's --output_path, a save= folder or outputs.")
    if path.is_dir() and (path / "outputs.json").is_file():
        other = reference or path / "reference.json"
        return _from_files(path / "outputs.json", other, annotations or path / "annotations.jsonl")
    if path.is_dir():
        return _from_lm_eval(_only_results(path), annotations, partial)
    if _RESULTS.fullmatch(path.name):
        return _from_lm_eval(path, annotations, partial)
    if reference is None:
        raise UserError(f"{path}: a file of outputs needs --reference FILE, the outputs it was judged against.")
    return _from_files(path, reference, annotations or path.with_suffix(".annotations.jsonl"))


def find_annotations(
    stores: Sequence[Path], system: Sequence[Output], reference: Sequence[Output], judge: str | None
) -> list[Annotation]:
    """The verdicts about exactly these answers, from the first store that has any.

    Args:
        stores: Files of annotations; missing ones are passed over.
        system: The system's answers.
        reference: The reference's.
        judge: Name of the judge or first digits of its fingerprint; needed if a store holds several judges' verdicts.

    Returns:
        For every pair and order at most one verdict, all of one judge.

    Raises:
        UserError: If there are none, or several judges'.
    """
    others = {o.instruction_id: o.sha256 for o in reference}
    answers = {o.instruction_id: (o.sha256, others.get(o.instruction_id, "")) for o in system}
    for store in stores:
        if not store.is_file():
            continue
        found: dict[str, dict[str, Annotation]] = {}
        for a in AnnotationStore(store).read().verdicts.values():
            hashes = answers.get(a.instruction_id)
            if hashes != (a.system_sha256, a.reference_sha256):
                continue
            if judge is None or a.judge == judge or (len(judge) >= 4 and a.fingerprint.startswith(judge)):
                found.setdefault(a.fingerprint, {})[a.key] = a
        if len(found) > 1:
            names = ", ".join(sorted(f"{next(iter(v.values())).judge} ({f[:8]})" for f, v in found.items()))
            raise UserError(f"{store}: holds verdicts of {len(found)} judges ({names}). Choose one with --judge.")
        for verdicts in found.values():
            return _in_order(verdicts, answers)
    looked = ", ".join(map(str, stores)) or "no file"
    raise UserError(
        f"no verdict about these answers found (looked in {looked}). Name the file with --annotations FILE, or judge "
        f"them: implicit-if judge OUTPUTS --reference FILE --judge NAME --annotations FILE"
    )


def find_attempts(source: Source, system: Sequence[Output], judge: str | None, shipped: bool) -> list[Annotation]:
    """The verdicts on attempts that a submission must hold.

    Args:
        source: Says where they may be.
        system: The system's answers.
        judge: As in `find_annotations`, of the judge of attempts.
        shipped: Whether the submission tells the instructions' texts, so that the shipped classifier's verdicts are
            computed from it and not stored.

    Returns:
        None where the shipped classifier's are computed, or there are no others.

    Raises:
        UserError: As `find_annotations`.
    """
    stores = [store for store in source.attempts_stores if store.is_file()]
    if judge not in (None, EMBEDDED) or (judge is None and stores):
        return find_annotations(stores, system, (), judge or source.attempts_judge)
    if shipped or not is_installed() or any(output.instruction is None for output in system):
        return []
    return annotations_of(classify(single_answers(system)))


def _in_order(verdicts: Mapping[str, Annotation], answers: Mapping[str, tuple[str, str]]) -> list[Annotation]:
    fingerprint = next(iter(verdicts.values())).fingerprint
    keys = (annotation_key(fingerprint, i, *hashes, order) for i, hashes in answers.items() for order in _ORDERS)
    return [verdicts[key] for key in keys if key in verdicts]


def judged_results(folder: Path) -> dict[Path, dict[str, dict[str, Any]]]:
    """The results of tasks with a judge in a folder of lm-eval's, sorted by path, each with its tasks' settings."""
    found = sorted(p for p in folder.rglob("results_*.json") if _RESULTS.fullmatch(p.name))
    return {p: tasks for p in found if (tasks := _judged_tasks(_load(p)))}


def _only_results(folder: Path) -> Path:
    mine = judged_results(folder)
    if not mine:
        raise UserError(
            f"{folder}: found no results of {WIN_RATE_TASK} (results_*.json) and no outputs.json. Expected the folder "
            f"given to lm_eval --output_path, run with --log_samples, or the folder given to --metadata save=."
        )
    if len(mine) > 1:
        names = ", ".join(sorted({name for tasks in mine.values() for name in tasks}))
        shown = "\n  ".join(map(str, list(mine)[:10]))
        raise UserError(f"{folder}: holds {len(mine)} results of {names}; name one of them instead:\n  {shown}")
    return next(iter(mine))


def _from_lm_eval(results: Path, annotations: Path | None, partial: bool) -> Source:
    content = _load(results)
    tasks = _judged_tasks(content)
    if len(tasks) != 1:
        found = ", ".join(tasks) or "none"
        raise UserError(
            f"{results}: holds results of {found}; expected one judged task: lm_eval --tasks {WIN_RATE_TASK}."
        )
    ((task, config),) = tasks.items()
    date = _RESULTS.fullmatch(results.name)
    samples = results.with_name(f"samples_{task}_{date['date'] if date else ''}.jsonl")
    if not samples.is_file():
        raise UserError(f"{samples}: no such file. The answers are needed: run lm_eval with --log_samples.")
    run, metadata = content.get("config", {}), config.get("metadata") or {}
    if run.get("limit") is not None and not partial:
        raise UserError(f"{results}: made with --limit {run['limit']}. Only complete runs can be submitted.")
    name, _, digits = str(metadata.get("instruction_set", "")).rpartition("@")
    fingerprint = metadata.get("judge_fingerprint")
    stores = [annotations] if annotations else []
    if not stores and metadata.get("save"):
        stores.append(Path(metadata["save"]) / "annotations.jsonl")
    if not annotations and fingerprint:
        stores.append(cache_dir() / "annotations" / f"{fingerprint[:16]}.jsonl")
    template = {"name": str(metadata.get("template", "")), "sha256": metadata.get("template_sha256")}
    if template["name"] == "model":
        template["sha256"] = content.get("chat_template_sha")
    return Source(
        system=load_outputs(samples),
        reference=_references(samples),
        stores=stores,
        judge=fingerprint,
        attempts_stores=_attempts_stores(metadata),
        attempts_judge=metadata.get("judge_attempts_fingerprint"),
        instruction_set=name or None,
        content=digits or None,
        template={k: str(v) for k, v in template.items() if v},
        tags=metadata.get("template_tags"),
        generation=_with_seed(config.get("generation_kwargs") or {}, run.get("torch_seed")),
        system_instruction=metadata.get("system_instruction"),
        dtype=_dtype(run.get("model_dtype")),
        model=run.get("model"),
        model_args=_arguments(run.get("model_args")),
        revision=run.get("model_sha") or None,
        versions={
            name: str(content[key])
            for name, key in (("lm_eval", "lm_eval_version"), ("transformers", "transformers_version"))
            if content.get(key)
        },
        product=run.get("product"),
        made=dict(run.get("system") or {}),
        task=task,
    )


def _attempts_stores(metadata: Mapping[str, Any]) -> list[Path]:
    """Where the verdicts of the judge of attempts are, unless it is the shipped classifier."""
    fingerprint = metadata.get("judge_attempts_fingerprint")
    if fingerprint is None or metadata.get("judge_attempts") == EMBEDDED:
        return []
    saved = [Path(metadata["save"]) / ATTEMPTS_FILE] if metadata.get("save") else []
    return [*saved, cache_dir() / "annotations" / f"{fingerprint[:16]}.jsonl"]


def _judged_tasks(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of the tasks that compare answers with a reference's, by name."""
    configs = results.get("configs")
    found = configs.items() if isinstance(configs, dict) else ()
    return {
        name: config
        for name, config in found
        if isinstance(config, dict)
        and {"judge_fingerprint", "reference_chosen_because"} & set(config.get("metadata") or ())
    }


def _from_files(outputs: Path, reference: Path, annotations: Path) -> Source:
    for path, option in ((reference, "--reference"), (annotations, "--annotations")):
        if not path.is_file():
            raise UserError(f"{path}: no such file. Name it with {option} FILE.")
    meta = load_meta(outputs)
    attempts = [outputs.with_suffix(f".{ATTEMPTS_FILE}"), annotations.parent / ATTEMPTS_FILE]
    if meta is None:
        return Source(load_outputs(outputs), load_outputs(reference), [annotations], attempts_stores=attempts)
    return Source(
        system=load_outputs(outputs),
        reference=load_outputs(reference),
        stores=[annotations],
        attempts_stores=attempts,
        instruction_set=meta.instruction_set,
        template={k: v for k, v in meta.template.items() if v},
        tags=(meta.model_extra or {}).get("template_tags"),
        generation=meta.generation,
        system_instruction=(meta.model_extra or {}).get("system_instruction"),
        dtype=_dtype(meta.model.get("model_dtype")),
        revision=meta.model.get("model_sha") or None,
        versions=meta.versions,
        product=meta.model.get("product"),
        made=dict(meta.model.get("system") or {}),
        task=str((meta.model_extra or {}).get("task") or WIN_RATE_TASK),
    )


def _with_seed(generation: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    """Generation arguments with the seed of what was drawn, if anything was."""
    return dict(generation) | ({"seed": seed} if generation.get("do_sample") and isinstance(seed, int) else {})


def _dtype(recorded: Any) -> str | None:
    """The type of the weights by its short name; None if it is not known."""
    return str(recorded or "").removeprefix("torch.") or None


def _references(samples: Path) -> list[Output]:
    """The reference's answers, which the task notes in every sample."""
    outputs = []
    for place, sample in read_rows(samples, "lm-eval's samples"):
        doc = sample.get("doc", {})
        if not isinstance(doc.get("reference"), dict):
            raise UserError(
                f"{samples}, {place}: no reference's answer. It is not there under --predict_only; judge the "
                f"outputs with implicit-if judge, then submit with --reference FILE --annotations FILE."
            )
        outputs.append(
            Output(
                instruction_id=doc["instruction_id"],
                instruction=doc["instruction"],
                dataset=doc.get("dataset"),
                **doc["reference"],
            )
        )
    return outputs


def _arguments(value: Any) -> dict[str, Any]:
    """lm-eval records `--model_args` as a mapping or as the text that was given."""
    if isinstance(value, dict):
        return dict(value)
    pairs: Iterable[tuple[str, str, str]] = (part.partition("=") for part in str(value or "").split(",") if part)
    return {key.strip(): text.strip() for key, _, text in pairs}


def _load(path: Path) -> dict[str, Any]:
    value = read_json(path, "lm-eval's results")
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {type(value).__name__}, expected lm-eval's results.")
    return value
