"""What a RUN on the command line stands for: systems with their scores, whatever kind of folder or file holds them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.comparing.loading import judgement_from, judgement_of
from implicit_if.harness.comparing.published import is_published, read_published
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.identify import identify_set, system_name
from implicit_if.harness.judging.judged_run import JudgedRun, with_attempts
from implicit_if.harness.judging.system_answers import load_system
from implicit_if.harness.outputs import load_meta, load_outputs
from implicit_if.harness.references import reference_names, stored_answers
from implicit_if.harness.signature import outputs_sha256
from implicit_if.harness.stats.attempt_rate import decisions
from implicit_if.harness.system_kinds import kind_of_model
from implicit_if.leaderboards.boards.rows import is_reference, label_of
from implicit_if.leaderboards.runs.ablation import TABLE, ablation_runs
from implicit_if.leaderboards.runs.run import (
    Reading,
    Run,
    expected_of,
    pairs_of,
    tags_by,
    tags_of,
    unjudged,
    with_decided,
    with_texts,
)
from implicit_if.leaderboards.submission import read
from implicit_if.leaderboards.submitting.sources import Source, find_annotations, judged_results, read_source
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import form_measures
from implicit_if.leaderboards.verification.verify import verify


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
    elif (path / TABLE).is_file():
        yield from ablation_runs(path / TABLE, reading)
    elif (path / "outputs.json").is_file() and not (path / "annotations.jsonl").is_file():
        yield _outputs(path / "outputs.json", reading)
    elif (path / "outputs.json").is_file():
        yield _of_source(read_source(path, None, None, partial=True), path, reading)
    elif results := judged_results(path):
        yield from _lm_eval(list(results), reading)
    else:
        raise UserError(
            f"{path}: holds no run. Expected a submission ({read.METADATA}), lm-eval's results (results_*.json of a "
            f"task with a judge, run with --log_samples), a save= folder (outputs.json) or a folder of implicit-if "
            f"ablate ({TABLE})."
        )


def _lm_eval(results: Sequence[Path], reading: Reading) -> Iterator[Run]:
    """The runs in a folder of lm_eval's; one without its answers is left out with a note if there are others."""
    lost: list[UserError] = []
    for one in results:
        try:
            source = read_source(one, None, None, partial=True)
        except UserError as error:
            lost.append(error)
        else:
            yield _of_source(source, one, reading)
    if len(lost) == len(results):
        raise lost[0]
    for fault in lost:
        print(f"implicit-if: note: left out: {fault}", file=sys.stderr)


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


def _alpaca_eval(path: Path, reading: Reading) -> Run:
    found = read_published(path)
    names = found.pairs[0].system.generator, found.pairs[0].reference.generator
    instruction_set = identify_set([pair.instruction_id for pair in found.pairs], reading.instructions)
    run = JudgedRun(found.pairs, found.judgement, *instruction_set, names[1], "offline")
    return _of_judged(names[0], with_attempts(run, reading.judge_of_attempts), ())


def _outputs(path: Path, reading: Reading) -> Run:
    """A file of outputs; without a reference its attempt rate and form alone."""
    system, meta = with_texts(load_outputs(path), reading), load_meta(path)
    name, tags = system_name(system, path), tags_of(meta)
    settings = AnswerSettings.of_meta(meta)
    if reading.reference is None:
        return unjudged(name, system, tags, settings, path, reading)
    reference = stored_answers(reading.reference, {o.instruction_id: o.instruction for o in system})
    store = path.with_suffix(".annotations.jsonl")
    if not store.is_file():
        raise UserError(
            f"{store}: no such file. The verdicts on {path} are expected there: implicit-if judge {path} --reference "
            f"{reading.reference}"
        )
    pairs = pairs_of(system, with_texts(reference, reading), path)
    judgement = judgement_of(pairs, store, reading.judge)
    instruction_set = identify_set([p.instruction_id for p in pairs], reading.instructions, path)
    named = system_name(reference, Path(reading.reference))
    run = JudgedRun(pairs, judgement, *instruction_set, named, "offline", answers=settings)
    return _of_judged(name, with_decided(run, reading), tags)


def _reference(spec: str, reading: Reading) -> Run:
    found = load_system(Path(spec), reading.instructions)
    return unjudged(spec, found.outputs, tags_of(found.meta), AnswerSettings.of_meta(found.meta), None, reading)


def _of_source(source: Source, path: Path, reading: Reading) -> Run:
    """A run of lm-eval, by its results or its `save=` folder."""
    system, reference = with_texts(source.system, reading), with_texts(source.reference, reading)
    pairs = pairs_of(system, reference, path)
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
    run = replace(run, judgement=replace(run.judgement, expected=expected_of([p.instruction_id for p in pairs])))
    made = source.made.get("kind") or kind_of_model(source.model)
    return replace(
        _of_judged(system_name(system, path), with_decided(run, reading), tags_by(source.template, source.tags)),
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
