"""A judged run: the reference chosen, answers saved, judged and scored once. Tasks, commands and Python share it.

It knows nothing of how answers are generated.
"""

from __future__ import annotations

import os
import sys
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.answer_form import foreign_words
from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.chat_templates import ChatTemplate
from implicit_if.harness.instructions import InstructionSet
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge, candidates
from implicit_if.harness.judging.registry import backend_of
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.judging.scoring import control_judgement, score_judgement
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs
from implicit_if.harness.references import BASE, choose_reference, load_reference
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import cache_dir, sha256_text, write_json

if TYPE_CHECKING:
    from implicit_if.harness.stats.length_control.estimator_choice import LengthControl, Method
    from implicit_if.harness.stats.length_control.priors import LengthPrior


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
    """Lets a language model judge one short pair, before hours of generation: a wrong key or no credit shows here.

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
    with tempfile.TemporaryDirectory() as folder:
        annotate([pair], judge, Path(folder) / "trial.jsonl", progress=False)


def find_reference(spec: str, instructions: InstructionSet, base_model: str, *, answers_as_base: bool) -> Reference:
    """The reference a spec stands for, loaded; arguments and errors as in `choose_reference` and `load_reference`."""
    name, because = choose_reference(spec, instructions, base_model, answers_as_base=answers_as_base)
    return Reference(name, because, None if name == BASE else load_reference(name, instructions))


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
    """

    pairs: Sequence[Pair]
    judgement: Judgement
    instruction_set: str
    instruction_revision: str | None
    reference_name: str = ""
    method: Method = "auto"
    prior: LengthPrior | None = None
    answers: AnswerSettings = NOTHING_KNOWN

    @cached_property
    def control(self) -> LengthControl:
        """The length control."""
        return control_judgement(self.judgement, self.pairs, self.instruction_set, method=self.method, prior=self.prior)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The scores by metric; see `score_judgement`."""
        return score_judgement(
            self.judgement,
            self.pairs,
            self.instruction_set,
            self.instruction_revision,
            self.reference_name or self.pairs[0].reference.generator,
            control=self.control,
            answers=self.answers,
        )

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
        **options: Further arguments of `annotate`.
    """
    for pairs in systems:
        _note_words(pairs)
    judgement = annotate([pair for pairs in systems for pair in pairs], judge, store, **options)
    runs, start = [], 0
    for pairs, settings in zip(systems, answers or [NOTHING_KNOWN] * len(systems), strict=True):
        part = slice(start, start := start + len(pairs))
        judged = part_of(judgement, part)
        runs.append(JudgedRun(pairs, judged, instruction_set, instruction_revision, answers=settings))
    return runs


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
    _note_words(pairs)
    judgement = replace(annotate(pairs, judge, store, **options), expected=n_expected)
    settings = (instruction_set, instruction_revision, reference_name, method, prior, answers)
    return JudgedRun(pairs, judgement, *settings)


def _note_words(pairs: Sequence[Pair]) -> None:
    """Says on stderr before a judge is asked if a system's answers are hardly a language."""
    if (note := foreign_words([p.system for p in pairs], [p.reference for p in pairs])) is not None:
        print(f"implicit-if: note: {one_line(pairs[0].system.generator)}: {note}", file=sys.stderr)


def default_store(judge: Judge) -> Path:
    """The file in the user's cache that keeps a judge's verdicts where no other is named."""
    files = [cache_dir() / "annotations" / f"{each.fingerprint[:16]}.jsonl" for each in candidates(judge)]
    return next((file for file in files if file.exists()), files[0])


def part_of(judgement: Judgement, part: slice) -> Judgement:
    """The verdicts on some of the pairs."""
    by_order = {order: array("d", values[part]) for order, values in judgement.by_order.items()}
    slots = list(zip(*judgement.by_order.values(), strict=True))  # the missing verdicts are listed pair by pair
    before, within = (sum(v != v for pair in slots[s] for v in pair) for s in (slice(part.start), part))
    return replace(
        judgement,
        instruction_ids=judgement.instruction_ids[part],
        by_order=by_order,
        unjudged=judgement.unjudged[before : before + within],
    )
