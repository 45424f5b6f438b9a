"""One system's numbers and answers from one run, and what its readers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.chat_templates import load_template, template_names
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.instructions.identify import identify_set
from implicit_if.harness.judging.attempts import Attempts, single_answers
from implicit_if.harness.judging.judged_run import JudgedRun, decide, with_attempts
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.outputs import Output, OutputsMeta, join_instructions
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.system_kinds import Kind
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.scores import form_measures


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


def unjudged(
    name: str,
    outputs: Sequence[Output],
    tags: Sequence[str],
    settings: AnswerSettings,
    path: Path | None,
    reading: Reading,
) -> Run:
    """A run that was judged against nothing: its attempt rate and form alone."""
    scores, decided = {}, None
    ids = [output.instruction_id for output in outputs]
    if reading.judge_of_attempts is not None and all(output.instruction is not None for output in outputs):
        decided = decide(single_answers(outputs), reading.judge_of_attempts).expecting(expected_of(ids))
        scores = {ATTEMPTS: decided.score(*identify_set(ids, reading.instructions, path), settings)}
    return Run(name, scores, form_measures(outputs, tags), outputs=outputs, decided=decided, tags=tags)


def with_decided(run: JudgedRun, reading: Reading) -> JudgedRun:
    """The run with the attempts among its answers, where their instructions are known."""
    known = all(pair.instruction for pair in run.pairs)
    return with_attempts(run, reading.judge_of_attempts) if known else run


def pairs_of(system: Sequence[Output], reference: Sequence[Output], path: Path) -> list[Pair]:
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


def with_texts(outputs: Sequence[Output], reading: Reading) -> list[Output]:
    """The answers with their instructions' texts, where these are known."""
    known = {} if reading.instructions is None else reading.instructions.texts()
    known = {**load_instructions("builtin").texts(), **known}
    return [
        join_instructions([o], known)[0] if o.instruction is None and o.instruction_id in known else o for o in outputs
    ]


def expected_of(ids: Sequence[str]) -> int | None:
    """The size of the shipped set that these instructions are a part of; None where they are all of it, or another."""
    builtin = load_instructions("builtin").texts().keys()
    return len(builtin) if set(ids) < builtin else None


def tags_of(meta: OutputsMeta | None) -> Sequence[str]:
    """The role tags that a sidecar tells of; none where there is no sidecar."""
    return () if meta is None else tags_by(meta.template, (meta.model_extra or {}).get("template_tags"))


def tags_by(template: Mapping[str, Any], told: Sequence[str] | None) -> Sequence[str]:
    """The role tags of a chat template; none where it is not known."""
    if told is not None:
        return told
    name = str(template.get("name") or "")
    return load_template(name).tags if name in template_names() else ()
