"""What is put to a judge: pairs of answers to the same instruction, aligned by its id, and single answers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from implicit_if.harness.annotations import Annotation, Order
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import Comparison, Verdict
from implicit_if.harness.outputs import Output
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.thoughts import without_thoughts

IDENTICAL, EMPTY = "identical answers", "empty answer"
"""What stands in place of a judge's words where none was asked."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one instruction.

    Attributes:
        instruction_id: The id both answers carry.
        instruction: The instruction's text.
        system: The answer that is scored.
        reference: The answer it is judged against.
    """

    instruction_id: str
    instruction: str
    system: Output
    reference: Output

    @property
    def shown(self) -> tuple[str, str]:
        """The system's and the reference's answer as judges see them: without what the models thought before."""
        return without_thoughts(self.system.output), without_thoughts(self.reference.output)

    def comparison(self, key: str, order: Order) -> Comparison:
        """The question to a judge in one presentation order."""
        first, second = self.shown
        if order == "reference_first":
            first, second = second, first
        return Comparison(key, self.instruction, first, second)

    @property
    def hashes(self) -> tuple[str, str]:
        """See `Item`."""
        return self.system.sha256, self.reference.sha256

    @property
    def settled(self) -> tuple[float, str] | None:
        """Identical answers are a tie."""
        return (0.5, IDENTICAL) if self.system.sha256 == self.reference.sha256 else None


@dataclass(frozen=True, slots=True)
class SingleAnswer:
    """One answer, of which a judge says whether it attempts its instruction.

    Attributes:
        instruction_id: The id the answer carries.
        instruction: The instruction's text.
        system: The answer.
    """

    instruction_id: str
    instruction: str
    system: Output

    def comparison(self, key: str, order: Order) -> Comparison:
        """The question to a judge; there is no second answer."""
        return Comparison(key, self.instruction, without_thoughts(self.system.output), "")

    @property
    def hashes(self) -> tuple[str, str]:
        """See `Item`."""
        return self.system.sha256, ""

    @property
    def settled(self) -> tuple[float, str] | None:
        """An empty answer is no attempt."""
        return None if without_thoughts(self.system.output).strip() else (0.0, EMPTY)


class Item(Protocol):
    """What is put to a judge: a `Pair` or a `SingleAnswer`.

    Attributes:
        instruction_id: The instruction's id.
    """

    @property
    def instruction_id(self) -> str: ...

    @property
    def hashes(self) -> tuple[str, str]:
        """Hashes of the system's and the reference's answer; "" where there is none."""
        ...

    @property
    def settled(self) -> tuple[float, str] | None:
        """The verdict and its reason, where no judge need be asked."""
        ...

    def comparison(self, key: str, order: Order) -> Comparison:
        """The question to a judge in one presentation order."""
        ...


def annotation_of(item: Item, judge: str, fingerprint: str, order: Order, verdict: Verdict) -> Annotation:
    """A judge's verdict as it is stored: for the system, whichever answer was first."""
    first, error = verdict.prefers_first, verdict.error
    if first is None or error is not None:
        first, error = None, error or "the judge gave no reason"
    elif not 0 <= first <= 1:
        first, error = None, f"the judge's preference is {first!r}, expected a probability in [0, 1]"
    system, reference = item.hashes
    return Annotation(
        instruction_id=item.instruction_id,
        order=order,
        preference=1 - first if first is not None and order == "reference_first" else first,
        raw=verdict.raw,
        error=error,
        judge=judge,
        fingerprint=fingerprint,
        system_sha256=system,
        reference_sha256=reference,
        latency=_finite(verdict.latency),
        cost=_finite(verdict.cost),
    )


def make_pairs(
    system_outputs: Sequence[Output], reference_outputs: Sequence[Output], *, allow_missing: bool = False
) -> list[Pair]:
    """Aligns two systems' outputs by instruction id, in the system's order.

    Args:
        system_outputs: The answers that are scored.
        reference_outputs: The answers they are judged against; may be the same, which is warned of.
        allow_missing: Lets the reference answer more instructions than the system, as after `--limit`. The system
            may never answer more than the reference.

    Raises:
        UserError: If the sets of instructions do not match, an instruction comes twice, or its text is unknown.
    """
    system = _by_id(system_outputs, "system")
    reference = _by_id(reference_outputs, "reference")
    _check_match(system, reference, allow_missing)
    pairs = [Pair(i, _text(s, reference[i]), s, reference[i]) for i, s in system.items()]
    for side, answers in (("system", system), ("reference", reference)):
        _note_thoughts(side, answers)
    if pairs and all(p.system.output == p.reference.output for p in pairs):
        warnings.warn(
            "the system's answers are the reference's, so every comparison is a tie; give other outputs as reference",
            stacklevel=2,
        )
    return pairs


def _note_thoughts(side: str, answers: dict[str, Output]) -> None:
    shown = [rest for o in answers.values() if (rest := without_thoughts(o.output)) != o.output]
    if shown:
        warnings.warn(
            f"{len(shown)} of the {side}'s {len(answers)} answers begin with the model's thoughts, which no judge is "
            f"shown; {sum(not rest.strip() for rest in shown)} of them are nothing else and count as empty",
            stacklevel=3,
        )


def _by_id(outputs: Sequence[Output], side: str) -> dict[str, Output]:
    found: dict[str, Output] = {}
    for output in outputs:
        if found.setdefault(output.instruction_id, output) is not output:
            raise UserError(
                f"{side} outputs: instruction {output.instruction_id} is answered twice. "
                f"Expected one answer per instruction; remove one of them."
            )
    return found


def _check_match(system: dict[str, Output], reference: dict[str, Output], allow_missing: bool) -> None:
    if not system or not reference:
        raise UserError(
            f"found {len(system)} system and {len(reference)} reference outputs, expected at least one each."
        )
    only_system = [i for i in system if i not in reference]
    only_reference = [i for i in reference if i not in system]
    if len(only_system) == len(system):
        raise UserError(
            f"the {len(system)} system and {len(reference)} reference outputs share no instruction. "
            f"Expected answers to the same instruction set; generate one side again with the other's instructions."
        )
    if not only_system and (allow_missing or not only_reference):
        return
    found = "; ".join(
        f"{len(ids)} only in the {side} outputs ({_first(ids, answers)})"
        for side, ids, answers in (("system", only_system, system), ("reference", only_reference, reference))
        if ids
    )
    fix = (
        "Generate the reference's missing answers."
        if only_system
        else "Generate the system's missing answers, or judge those there are with --allow-missing."
    )
    raise UserError(f"the instruction sets do not match: {len(system) - len(only_system)} shared, {found}. {fix}")


def unanswered(system: Sequence[Output], reference: Sequence[Output]) -> str | None:
    """Which of the reference's instructions the system did not answer, the first ones by name; None if none."""
    answered = {output.instruction_id for output in system}
    lost = {output.instruction_id: output for output in reference if output.instruction_id not in answered}
    if not lost:
        return None
    return f"{len(lost)} of the reference's {len(reference)} instructions have no answer: {_first(list(lost), lost)}"


def _first(ids: Sequence[str], answers: dict[str, Output]) -> str:
    """The first ids, each with the beginning of its instruction where that is known."""
    texts = (answers[key].instruction for key in ids[:_SHOWN])
    named = [key if text is None else f"{key} {one_line(text, 40)!r}" for key, text in zip(ids, texts, strict=False)]
    return ", ".join(named) + (", ..." if len(ids) > _SHOWN else "")


def _text(system: Output, reference: Output) -> str:
    text = system.instruction if system.instruction is not None else reference.instruction
    if text is None:
        raise UserError(
            f"instruction {system.instruction_id}: neither side's outputs hold its text. "
            f"Name the instruction set they were made with: --instructions NAME."
        )
    return text


def _finite(value: float | None) -> float | None:
    """None for what is no time or cost, so that a judge that measured none does not lose the batch."""
    return value if value is not None and 0 <= value < math.inf else None
