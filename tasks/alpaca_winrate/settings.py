"""The task's arguments, as they come through `--metadata`, checked before a model is loaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from implicit_if.harness.chat import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import check_judge_spec, get_judge
from implicit_if.harness.outputs import Output, join_instructions, load_outputs

BASE = "base"
"""The reference that the model at work gives itself: its base without rules."""

_JUDGE_OPTION = "judge_"


@dataclass(frozen=True)
class Settings:
    """What `--metadata` may hold for this task; other keys are other tasks' or the model's.

    Attributes:
        judge: A judge's name, e.g. "embedded"; `judge_<option>=value` are its options.
        reference: "base", or the path of an outputs file.
        instructions: "auto", "builtin", "alpaca_eval", or a path.
        template: A chat template's name or path; not used under `--apply_chat_template`.
        save: A folder for outputs, reference outputs and annotations; None keeps annotations in the user's cache only.
        judge_options: Options of the judge.
    """

    judge: str = "embedded"
    reference: str = BASE
    instructions: str = "auto"
    template: str = "tulu"
    save: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Settings:
        """Picks this task's arguments.

        Raises:
            UserError: On a value that is no text, or on a key that looks like a misspelt argument.
        """
        names = {f.name for f in fields(cls)} - {"judge_options"}
        options = {k.removeprefix(_JUDGE_OPTION): v for k, v in metadata.items() if k.startswith(_JUDGE_OPTION)}
        own = {k: v for k, v in metadata.items() if k in names and v is not None}
        for key, value in own.items():
            if not isinstance(value, (str, Path)):
                raise UserError(f"--metadata {key}={value!r}: found {type(value).__name__}, expected text.")
        for key in metadata.keys() - names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.85)
            if near:
                raise UserError(f"--metadata {key}={metadata[key]}: no such argument. Did you mean {near[0]!r}?")
        return cls(**{k: str(v) for k, v in own.items()}, judge_options=options)

    def check(self) -> None:
        """Everything that can be found wrong without a model.

        Raises:
            UserError: Unknown judge, template, instruction set or path; a reference that does not fit.
        """
        check_judge_spec(self.judge)
        self.load_template()
        self.build_judge()
        instructions = self.load_instructions()
        if self.reference != BASE:
            self.load_reference(instructions)

    def load_instructions(self) -> InstructionSet:
        """The instruction set; the same object for the same spec within a process."""
        return _instructions(self.instructions)

    def load_template(self) -> ChatTemplate:
        """The chat template."""
        return load_template(self.template)

    def build_judge(self) -> Judge:
        """The judge."""
        return get_judge(self.judge, **self.judge_options)

    def load_reference(self, instructions: InstructionSet) -> dict[str, Output]:
        """The reference's outputs by instruction id, for a reference that is a path.

        Raises:
            UserError: If an instruction of the set has no answer.
        """
        if not Path(self.reference).exists():
            raise UserError(
                f"--metadata reference={self.reference}: no such file. Expected 'base' or the path of an outputs file."
            )
        outputs = {o.instruction_id: o for o in join_instructions(load_outputs(self.reference), instructions.texts())}
        missing = [i.id for i in instructions.items if i.id not in outputs]
        if missing:
            raise UserError(
                f"--metadata reference={self.reference}: {len(missing)} of the {len(instructions.items)} instructions "
                f"of {instructions.name!r} have no answer there (first: {missing[0]}). Expected answers to the same "
                f"instruction set; choose it with --metadata instructions=."
            )
        return outputs


@functools.lru_cache(maxsize=8)
def _instructions(spec: str) -> InstructionSet:
    return load_instructions(spec)
