"""What a RUN on the command line stands for: systems with their scores, whatever kind of folder or file holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.chat_templates import load_template, template_names
from implicit_if.harness.columns import ATTEMPTS, FORM
from implicit_if.harness.comparing.loading import judgement_from, judgement_of
from implicit_if.harness.comparing.published import is_published, read_published
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.instructions.identify import identify_set, system_name
from implicit_if.harness.judging.attempts import Attempts, single_answers
from implicit_if.harness.judging.judged_run import JudgedRun, decide, with_attempts
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.system_answers import load_system
from implicit_if.harness.outputs import Output, OutputsMeta, join_instructions, load_meta, load_outputs
from implicit_if.harness.references import reference_names, stored_answers
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.stats.attempt_rate import decisions
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.storage import read_json
from implicit_if.harness.system_kinds import Kind, kind_of_model
from implicit_if.leaderboards.boards.rows import is_reference, label_of
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submitting.sources import Source, find_annotations, judged_results, read_source
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import form_measures
from implicit_if.leaderboards.verification.verify import verify

_ABLATION = "table.json"


@dataclass(frozen=True)
class Run:
    """One system's numbers from one run.

    Shapes: `n` instructions with a verdict.

    Attributes:
        name: What its source calls the system.
        scores: Signed, by metric; without win rates where nothing was judged against a reference.
        form: Measures of form, by the names of `columns.FORM`.
        kind: What was done to the base model, where that is known.
        long_name: A name that tells it from other systems of the same `name`; may be empty.
        ids: `[n]`; empty where only scores are known.
        preferences: `[n]` in [0, 1].
        lengths: `[2, n]` characters of the system's and the reference's answers.
        attempts: `[n]` 1.0 where the answer is an attempt; empty if nobody decided.
        reference_sha256: Hash of the answers judged against; empty where it is not known.
        outputs: The system's answers, where they are at hand.
        judged: The same with their verdicts, where there are any.
        decided: Which answers are attempts, where nothing was judged against a reference.
        tags: Role tags of the chat template.
        verified: The submission, if it is one.
    """

    name: str
    scores: Mapping[str, Score]
    form: Mapping[str, float | None]
    kind: Kind | None = None
    long_name: str = ""
    ids: tuple[str, ...] = ()
    preferences: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    lengths: Floats = field(default_factory=lambda: np.zeros((2, 0)), repr=False, compare=False)
    attempts: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    reference_sha256: str = ""
    outputs: Sequence[Output] = field(default=(), repr=False, compare=False)
    judged: JudgedRun | None = field(default=None, repr=False, compare=False)
    decided: Attempts | None = field(default=None, repr=False, compare=False)
    tags: Sequence[str] = ()
    verified: Verified | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Reading:
    """How runs are read.

    Attributes:
        reference: A named reference or outputs file, for files of outputs that were judged against it.
        judge: Name or first digits of the fingerprint of the judge, where files hold several.
        judge_of_attempts: Decides which answers are attempts; None leaves attempt rates out where they are not stored.
        instructions: The instruction set, for answers that hold no texts and for named references.
    """

    reference: str | None = None
    judge: str | None = None
    judge_of_attempts: Judge | None = None
    instructions: InstructionSet | None = None


def load_runs(spec: str, reading: Reading) -> list[Run]:
    """The systems of one RUN.

    Args:
        spec: A submission or a folder of submissions; lm-eval's `--output_path` or one `results_*.json`; a `save=`
            folder; a folder of `implicit-if ablate`; a file of outputs with its annotations beside it; alpaca-eval's
            `annotations.json`; or a named reference.
        reading: See `Reading`.

    Raises:
        UserError: If it is none of these, or incomplete; says which option helps.
        SubmissionError: If a submission does not verify.
    """
    path = Path(spec)
    if not path.exists():
        if spec in reference_names():
            return [_reference(spec, reading)]
        raise UserError(
            f"{spec!r}: no such file, folder or named reference. Expected a submission, lm-eval's --output_path, a "
            f"save= folder, a folder of implicit-if ablate, outputs, or one of: {', '.join(reference_names())}."
        )
    if path.is_dir():
        return list(_folder(path, reading))
    if is_published(path) and "output_1" in path.read_text(encoding="utf-8-sig", errors="replace"):
        return [_alpaca_eval(path, reading)]
    if path.name.startswith("results_"):
        return [_of_source(read_source(path, None, None, partial=True), path, reading)]
    return [_outputs(path, reading)]


def _folder(path: Path, reading: Reading) -> Iterator[Run]:
    submissions = (
        [path]
        if (path / read.METADATA).is_file()
        else sorted(found.parent for depth in ("*", "*/*") for found in path.glob(f"{depth}/{read.METADATA}"))
    )
    if submissions:
        yield from (_submission(verify(folder)) for folder in submissions)
    elif (path / _ABLATION).is_file():
        yield from _ablation(path / _ABLATION)
    elif (path / "outputs.json").is_file() and not (path / "annotations.jsonl").is_file():
        yield _outputs(path / "outputs.json", reading)
    elif (path / "outputs.json").is_file():
        yield _of_source(read_source(path, None, None, partial=True), path, reading)
    elif results := judged_results(path):
        yield from (_of_source(read_source(one, None, None, partial=True), one, reading) for one in results)
    else:
        raise UserError(
            f"{path}: holds no run. Expected a submission ({read.METADATA}), lm-eval's results (results_*.json of a "
            f"task with a judge, run with --log_samples), a save= folder (outputs.json) or a folder of implicit-if "
            f"ablate ({_ABLATION})."
        )


def _submission(verified: Verified) -> Run:
    reference = " (the reference)" if is_reference(verified) else ""
    return Run(
        name=label_of(verified) + reference,
        scores=verified.scores,
        form=verified.form,
        kind=verified.metadata.system.kind,
        long_name=verified.metadata.name + reference,
        ids=verified.instruction_ids,
        preferences=verified.preferences,
        lengths=verified.lengths.astype(float),
        attempts=decisions(verified.attempts),
        reference_sha256=verified.metadata.reference.sha256,
        tags=verified.metadata.template.tags if verified.metadata.template is not None else (),
        verified=verified,
    )


def _ablation(path: Path) -> Iterator[Run]:
    content = read_json(path, "the table of implicit-if ablate")
    try:
        for row in content["rows"]:
            scores = {name: Score.model_validate(score) for name, score in row["scores"].items()}
            form = {column.name: row.get(column.name) for column in FORM}
            yield Run(str(row["system"]), scores, form, "base" if row["preset"] == "none" else "rules")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of implicit-if ablate ({type(error).__name__}). Make it again: implicit-if ablate "
            f"--out {path.parent}"
        ) from error


def _alpaca_eval(path: Path, reading: Reading) -> Run:
    found = read_published(path)
    names = found.pairs[0].system.generator, found.pairs[0].reference.generator
    instruction_set = identify_set([pair.instruction_id for pair in found.pairs], reading.instructions)
    run = JudgedRun(found.pairs, found.judgement, *instruction_set, names[1], "offline")
    return _of_judged(names[0], with_attempts(run, reading.judge_of_attempts), ())


def _outputs(path: Path, reading: Reading) -> Run:
    """A file of outputs; without a reference its attempt rate and form alone."""
    system, meta = _texts(load_outputs(path), reading), load_meta(path)
    name, tags = system_name(system, path), _tags_of(meta)
    settings = AnswerSettings.of_meta(meta)
    if reading.reference is None:
        return _unjudged(name, system, tags, settings, path, reading)
    reference = stored_answers(reading.reference, {o.instruction_id: o.instruction for o in system})
    store = path.with_suffix(".annotations.jsonl")
    if not store.is_file():
        raise UserError(
            f"{store}: no such file. The verdicts on {path} are expected there: implicit-if judge {path} --reference "
            f"{reading.reference}"
        )
    pairs = _pairs(system, _texts(reference, reading), path)
    judgement = judgement_of(pairs, store, reading.judge)
    instruction_set = identify_set([p.instruction_id for p in pairs], reading.instructions, path)
    named = system_name(reference, Path(reading.reference))
    run = JudgedRun(pairs, judgement, *instruction_set, named, "offline", answers=settings)
    return _of_judged(name, _decided(run, reading), tags)


def _reference(spec: str, reading: Reading) -> Run:
    found = load_system(Path(spec), reading.instructions)
    return _unjudged(spec, found.outputs, _tags_of(found.meta), AnswerSettings.of_meta(found.meta), None, reading)


def _unjudged(
    name: str,
    outputs: Sequence[Output],
    tags: Sequence[str],
    settings: AnswerSettings,
    path: Path | None,
    reading: Reading,
) -> Run:
    scores, decided = {}, None
    ids = [output.instruction_id for output in outputs]
    if reading.judge_of_attempts is not None and all(output.instruction is not None for output in outputs):
        decided = decide(single_answers(outputs), reading.judge_of_attempts).expecting(_expected(ids))
        scores = {ATTEMPTS: decided.score(*identify_set(ids, reading.instructions, path), settings)}
    return Run(name, scores, form_measures(outputs, tags), outputs=outputs, decided=decided, tags=tags)


def _of_source(source: Source, path: Path, reading: Reading) -> Run:
    """A run of lm-eval, by its results or its `save=` folder."""
    system, reference = _texts(source.system, reading), _texts(source.reference, reading)
    pairs = _pairs(system, reference, path)
    verdicts = find_annotations(
        source.stores, [p.system for p in pairs], [p.reference for p in pairs], reading.judge or source.judge
    )
    instruction_set = identify_set([p.instruction_id for p in pairs], reading.instructions)
    if instruction_set[0] == "custom" and source.instruction_set:
        instruction_set = (source.instruction_set, None)
    settings = AnswerSettings.of(source.template, source.generation, source.system_instruction, source.dtype)
    run = JudgedRun(
        pairs,
        judgement_from(pairs, verdicts, path),
        *instruction_set,
        reference[0].generator,
        "offline",
        answers=settings,
    )
    run = replace(run, judgement=replace(run.judgement, expected=_expected([p.instruction_id for p in pairs])))
    made = source.made.get("kind") or kind_of_model(source.model)
    return replace(
        _of_judged(system_name(system, path), _decided(run, reading), _tags(source.template, source.tags)),
        kind=made,
    )


def _of_judged(name: str, run: JudgedRun, tags: Sequence[str]) -> Run:
    kept = run.judgement.judged
    pairs = [pair for pair, judged in zip(run.pairs, kept, strict=True) if judged]
    decided = np.zeros(0)
    if run.attempts is not None and run.attempts.judgement.complete:
        decided = decisions(run.attempts.judgement.preferences[kept])
    return Run(
        name=name,
        scores=run.scores,
        form=form_measures(run.outputs, tags),
        ids=tuple(pair.instruction_id for pair in pairs),
        preferences=run.judgement.preferences[kept],
        lengths=np.array([[len(pair.shown[side]) for pair in pairs] for side in (0, 1)], dtype=float),
        attempts=decided,
        reference_sha256=outputs_sha256(run.reference),
        outputs=run.outputs,
        judged=run,
        tags=tags,
    )


def _decided(run: JudgedRun, reading: Reading) -> JudgedRun:
    """The run with the attempts among its answers, where their instructions are known."""
    known = all(pair.instruction for pair in run.pairs)
    return with_attempts(run, reading.judge_of_attempts) if known else run


def _pairs(system: Sequence[Output], reference: Sequence[Output], path: Path) -> list[Pair]:
    """Both answers to every instruction that the system answered, sorted by id."""
    others = {output.instruction_id: output for output in reference}
    missing = [o.instruction_id for o in system if o.instruction_id not in others]
    if missing:
        raise UserError(
            f"{path}: the reference does not answer {len(missing)} of {len(system)} instructions (first: "
            f"{missing[0]}). Expected the answers that were judged against: --reference FILE."
        )
    pairs = [Pair(o.instruction_id, o.instruction or "", o, others[o.instruction_id]) for o in system]
    return sorted(pairs, key=lambda pair: pair.instruction_id)


def _texts(outputs: Sequence[Output], reading: Reading) -> list[Output]:
    """The answers with their instructions' texts, where these are known."""
    known = {} if reading.instructions is None else reading.instructions.texts()
    known = {**load_instructions("builtin").texts(), **known}
    return [
        join_instructions([o], known)[0] if o.instruction is None and o.instruction_id in known else o for o in outputs
    ]


def _expected(ids: Sequence[str]) -> int | None:
    """The size of the shipped set that these instructions are a part of; None where they are all of it, or another."""
    builtin = load_instructions("builtin").texts().keys()
    return len(builtin) if set(ids) < builtin else None


def _tags_of(meta: OutputsMeta | None) -> Sequence[str]:
    return () if meta is None else _tags(meta.template, (meta.model_extra or {}).get("template_tags"))


def _tags(template: Mapping[str, Any], told: Sequence[str] | None) -> Sequence[str]:
    """The role tags of a chat template; none where it is not known."""
    if told is not None:
        return told
    name = str(template.get("name") or "")
    return load_template(name).tags if name in template_names() else ()
