"""The answers that a command judges: a user's file, or a named reference in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_if.harness.instructions.identify import system_name
from implicit_if.harness.outputs import Output, OutputsMeta, join_instructions, load_meta, load_outputs
from implicit_if.harness.references import load_reference, reference_meta, reference_names

if TYPE_CHECKING:
    from implicit_if.harness.instructions import InstructionSet

HELP_OUTPUTS = (
    "answers: JSON, JSON Lines or CSV of instruction and output (or prompt and response), alpaca-eval's outputs, "
    "lm-eval's samples_*.jsonl, or a named reference, e.g. gemma-3-270m/response"
)


@dataclass(frozen=True)
class SystemAnswers:
    """A system's answers and what is known of them.

    Attributes:
        name: The system's name, fit for a terminal.
        outputs: Its answers.
        meta: How they were made; None if that is not known.
        instructions: The set they answer, where it was named or goes with a named reference.
        path: The user's file; None for a named reference.
    """

    name: str
    outputs: list[Output]
    meta: OutputsMeta | None
    instructions: InstructionSet | None
    path: Path | None

    def beside(self, ending: str) -> Path | None:
        """A file beside the answers, `<stem>.<ending>`; None for a named reference, beside which nothing is written."""
        return None if self.path is None else self.path.with_suffix(f".{ending}")


def load_system(spec: Path, given: InstructionSet | None) -> SystemAnswers:
    """Reads the answers that a user names.

    Args:
        spec: A file, or the name of a reference.
        given: The instruction set that the user names, which gives texts to answers stored by id; None for a named
            reference takes its answers to the built-in instructions.

    Raises:
        UserError: If there is neither such a file nor such a reference, or its answers do not fit.
    """
    from implicit_if.harness.instructions import load_instructions

    name = spec.as_posix()
    if not spec.exists() and name in reference_names():
        given = given or load_instructions("builtin")
        return SystemAnswers(name, load_reference(name, given), reference_meta(name, given), given, None)
    outputs = load_outputs(spec)
    if given is not None:
        outputs = join_instructions(outputs, given.texts())
    return SystemAnswers(system_name(outputs, spec), outputs, load_meta(spec), given, spec)
