"""A judged run: the reference chosen, answers saved, judged and scored once. Tasks, commands and Python share it.

It knows nothing of how answers are generated.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.answer_form import foreign_words
from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.chat_templates import ChatTemplate
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.instructions import InstructionSet
from implicit_if.harness.judging.attempts import EMBEDDED, Attempts
from implicit_if.harness.judging.judgement import Judgement, among, part_of
from implicit_if.harness.judging.pairs import Pair, SingleAnswer
from implicit_if.harness.judging.protocol import Judge, candidates, is_pointwise
from implicit_if.harness.judging.registry import backend_of
from implicit_if.harness.judging.runner import annotate, estimated_cost
from implicit_if.harness.judging.scoring import control_judgement, score_judgement
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs
from implicit_if.harness.references import BASE, choose_reference, load_reference
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import cache_dir, sha256_text, write_json

if TYPE_CHECKING:
    from implicit_if.harness.stats.length_control.estimator_choice import LengthControl, Method
    from implicit_if.harness.stats.length_control.priors import LengthPrior


ATTEMPTS_FILE = "attempts.jsonl"
"""Verdicts on attempts, beside `annotations.jsonl` in a folder of answers."""


@dataclass(frozen=True)
class Reference:
    """What a run is judged against.

    Attributes:
        name: "base", a named reference, or a path.
        because: Why, if the user did not choose.
        outputs: Its answers in the set's order; None for "base", whose answers the run generates.
    """

    name: str
    because: str | None
    outputs: list[Output] | None

    def note(self, option: str) -> str | None:
        """The line that says what was chosen and which option chooses another; None if the user chose."""
        return (
            None if self.because is None else f"judged against {self.name} ({self.because}; {option} chooses another)"
        )


def ask_once(judge: Judge) -> None:
    """Lets a language model judge something short, before hours of generation: a wrong key or no credit shows here.

    In the first of several processes only.

    Raises:
        UserError: If the judge's server refuses or cannot be reached; says why.
    """
    backend = backend_of(judge.name)
    if backend is None or backend.kind != "language model" or int(os.environ.get("LOCAL_RANK", "0")):
        return
    texts = ("Say hello.", "Hello!", "No.")
    answers = [Output.model_validate({"instruction": texts[0], "output": t, "generator": "trial"}) for t in texts[1:]]
    pair = Pair(answers[0].instruction_id, texts[0], *answers)
    item = SingleAnswer(pair.instruction_id, pair.instruction, pair.system) if is_pointwise(judge) else pair
    with tempfile.TemporaryDirectory() as folder:
        annotate([item], judge, Path(folder) / "trial.jsonl", progress=False)


def find_reference(
    spec: str,
    instructions: InstructionSet,
    base_model: str,
    *,
    answers_as_base: bool,
    places: Iterable[int] | None = None,
) -> Reference:
    """The reference a spec stands for, loaded; arguments and errors as in `choose_reference` and `load_reference`."""
    name, because = choose_reference(spec, instructions, base_model, answers_as_base=answers_as_base)
    return Reference(name, because, None if name == BASE else load_reference(name, instructions, places=places))


def sidecar(
    generator: str,
    instructions: InstructionSet,
    template: ChatTemplate | str | None,
    generation: Mapping[str, Any],
    model: Mapping[str, Any],
    **more: Any,
) -> OutputsMeta:
    """How a run's answers are made; a template that is text, or None if that is not known, is the model's own."""
    if isinstance(template, ChatTemplate):
        named = {"name": template.name, "sha256": template.sha256}
    else:
        named = {"name": "model"} | ({"sha256": sha256_text(template)} if template else {})
    return OutputsMeta(
        generator=generator,
        instruction_set=instructions.name,
        instruction_revision=instructions.revision,
        model=dict(model),
        template=named,
        generation=dict(generation),
        **more,
    )


def save_answers(folder: Path, system: Sequence[Output], reference: Sequence[Output], meta: OutputsMeta) -> None:
    """Writes `outputs.json` with its sidecar, and `reference.json`."""
    save_outputs(folder / "outputs.json", system, meta)
    save_outputs(folder / "reference.json", reference)


@dataclass(frozen=True)
class JudgedRun:
    """One system's answers with their verdicts; scores are computed when first asked for, and once.

    Attributes:
        pairs: The answers, with the reference's.
        judgement: The verdicts, in the pairs' order.
        instruction_set: Name of the instruction set.
        instruction_revision: Its revision, if it has one.
        reference_name: The reference's name; empty takes its answers' `generator`.
        method: The length control asked for.
        prior: Another prior for it than the judge's.
        answers: What shaped the system's answers.
        attempts: Which of the system's answers are attempts; None if no judge was asked.
        reference_attempts: The same of the reference's.
    """

    pairs: Sequence[Pair]
    judgement: Judgement
    instruction_set: str
    instruction_revision: str | None
    reference_name: str = ""
    method: Method = "auto"
    prior: LengthPrior | None = None
    answers: AnswerSettings = NOTHING_KNOWN
    attempts: Attempts | None = None
    reference_attempts: Attempts | None = None

    @cached_property
    def control(self) -> LengthControl:
        """The length control."""
        return control_judgement(self.judgement, self.pairs, self.instruction_set, method=self.method, prior=self.prior)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The scores by metric: the attempt rate, if a judge of attempts was asked, and those of `score_judgement`."""
        return self._rate(self.attempts, self.answers) | score_judgement(
            self.judgement,
            self.pairs,
            self.instruction_set,
            self.instruction_revision,
            self.reference_name or self.pairs[0].reference.generator,
            control=self.control,
            answers=self.answers,
        )

    @cached_property
    def reference_attempt_rate(self) -> Score | None:
        """The reference's attempt rate; its signature tells nothing of how the reference's answers were made."""
        return self._rate(self.reference_attempts, NOTHING_KNOWN).get(ATTEMPTS)

    @property
    def judgements(self) -> list[Judgement]:
        """All verdicts: on the pairs, then on attempts."""
        parts = (self.attempts, self.reference_attempts)
        return [self.judgement, *(part.judgement for part in parts if part is not None)]

    @property
    def complete(self) -> bool:
        """Whether every verdict is there, those on attempts included."""
        return all(judgement.complete for judgement in self.judgements)

    def _rate(self, attempts: Attempts | None, answers: AnswerSettings) -> dict[str, Score]:
        if attempts is None:
            return {}
        return {ATTEMPTS: attempts.score(self.instruction_set, self.instruction_revision, answers)}

    @property
    def outputs(self) -> list[Output]:
        """The system's answers."""
        return [pair.system for pair in self.pairs]

    @property
    def reference(self) -> list[Output]:
        """The reference's answers."""
        return [pair.reference for pair in self.pairs]

    def save_scores(self, folder: Path) -> None:
        """Writes `scores.json`."""
        write_json(folder / "scores.json", {name: score.model_dump() for name, score in self.scores.items()})


def judge_systems(
    systems: Sequence[Sequence[Pair]],
    judge: Judge,
    store: Path,
    instruction_set: str,
    instruction_revision: str | None,
    answers: Sequence[AnswerSettings] = (),
    *,
    attempts: Judge | None = None,
    attempts_store: Path | None = None,
    max_cost: float | None = None,
    **options: Any,
) -> list[JudgedRun]:
    """Judges several systems' answers in one run of the judge.

    Args:
        systems: Each system's pairs.
        judge: The judge.
        store: File of annotations.
        instruction_set: Name of the instruction set.
        instruction_revision: Its revision, if it has one.
        answers: What shaped each system's answers; empty: not known.
        attempts: The judge of attempts, asked about the systems' and the references' answers; None asks none.
        attempts_store: Its file of annotations, but see `attempts_file`; None takes one in the user's cache.
        max_cost: US dollars that both judges together may spend.
        **options: Further arguments of `annotate`.
    """
    for pairs in systems:
        _note_words(pairs)
    pairs = [pair for system in systems for pair in system]
    singles = _both_sides(pairs)
    more: float | None = 0.0
    if attempts is not None:
        file = attempts_file(attempts, attempts_store)
        more = estimated_cost(singles, attempts, file) if attempts.paid else 0.0
    judgement = annotate(pairs, judge, store, max_cost=max_cost, more=more, **options)
    decided = None
    if attempts is not None:
        decided = _decisions(singles, attempts, attempts_store, max_cost=max_cost, spent=judgement.spent, **options)
    runs, start = [], 0
    for system, settings in zip(systems, answers or [NOTHING_KNOWN] * len(systems), strict=True):
        part = slice(start, start := start + len(system))
        run = JudgedRun(system, part_of(judgement, part), instruction_set, instruction_revision, answers=settings)
        if decided is not None:
            own, other = _sides(singles, decided, part)
            run = replace(run, attempts=own, reference_attempts=other)
        runs.append(run)
    return runs


def _both_sides(pairs: Sequence[Pair]) -> list[SingleAnswer]:
    """Each pair's system, then its reference, as `_sides` takes them apart."""
    return [SingleAnswer(p.instruction_id, p.instruction, o) for p in pairs for o in (p.system, p.reference)]


def _sides(answers: Sequence[SingleAnswer], decided: Judgement, part: slice) -> tuple[Attempts, Attempts]:
    """The attempts among the answers of some pairs: each pair's system comes before its reference."""
    own, other = (range(2 * part.start + offset, 2 * part.stop, 2) for offset in (0, 1))
    first, second = (Attempts([answers[i] for i in places], among(decided, places)) for places in (own, other))
    return first, second


def judge_pairs(
    pairs: Sequence[Pair],
    judge: Judge,
    store: Path,
    instruction_set: str,
    instruction_revision: str | None,
    *,
    reference_name: str = "",
    method: Method = "auto",
    prior: LengthPrior | None = None,
    answers: AnswerSettings = NOTHING_KNOWN,
    n_expected: int | None = None,
    **options: Any,
) -> JudgedRun:
    """Judges one system's answers; arguments as in `judge_systems` and `JudgedRun`.

    With `n_expected` what the system left unanswered is missing, not absent.
    """
    (run,) = judge_systems([pairs], judge, store, instruction_set, instruction_revision, [answers], **options)
    return replace(
        run,
        judgement=replace(run.judgement, expected=n_expected),
        attempts=run.attempts and run.attempts.expecting(n_expected),
        reference_attempts=run.reference_attempts and run.reference_attempts.expecting(n_expected),
        reference_name=reference_name,
        method=method,
        prior=prior,
    )


def _note_words(pairs: Sequence[Pair]) -> None:
    """Says on stderr before a judge is asked if a system's answers are hardly a language."""
    if (note := foreign_words([p.system for p in pairs], [p.reference for p in pairs])) is not None:
        print(f"implicit-if: note: {one_line(pairs[0].system.generator)}: {note}", file=sys.stderr)


def default_store(judge: Judge) -> Path:
    """The file in the user's cache that keeps a judge's verdicts where no other is named."""
    files = [cache_dir() / "annotations" / f"{each.fingerprint[:16]}.jsonl" for each in candidates(judge)]
    return next((file for file in files if file.exists()), files[0])


def with_attempts(run: JudgedRun, judge: Judge | None, store: Path | None = None) -> JudgedRun:
    """A run whose pairs were judged elsewhere, with what a judge says about attempts; without one as it is."""
    if judge is None:
        return run
    singles = _both_sides(run.pairs)
    decided = _decisions(singles, judge, store)
    own, other = (a.expecting(run.judgement.expected) for a in _sides(singles, decided, slice(0, len(run.pairs))))
    return replace(run, attempts=own, reference_attempts=other)


def decide(answers: Sequence[SingleAnswer], judge: Judge, store: Path | None = None, **options: Any) -> Attempts:
    """Asks a judge of attempts about answers.

    Args:
        answers: The answers.
        judge: The judge.
        store: Its file of annotations, but see `attempts_file`; None takes one in the user's cache.
        **options: Further arguments of `annotate`.
    """
    return Attempts(answers, _decisions(answers, judge, store, **options))


def _decisions(answers: Sequence[SingleAnswer], judge: Judge, store: Path | None, **options: Any) -> Judgement:
    """What a judge of attempts says. That the shipped classifier's is stored is no news: it would say it again."""
    told = judge.name != EMBEDDED
    return annotate(answers, judge, attempts_file(judge, store), tell_reused=told, **options)


def attempts_file(judge: Judge, file: Path | None) -> Path:
    """The file of verdicts on attempts: of the shipped classifier, which may be asked anytime, the user's cache."""
    return default_store(judge) if file is None or judge.name == EMBEDDED else file
