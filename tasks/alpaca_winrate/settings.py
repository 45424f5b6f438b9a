"""The task's arguments, as they come through `--metadata`, checked before a model is loaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import check_judge_spec, get_judge
from implicit_if.harness.references import AUTO, BASE, load_reference

_JUDGE_OPTION = "judge_"


@dataclass(frozen=True)
class Settings:
    """What `--metadata` may hold for this task; other keys are other tasks' or the model's.

    Attributes:
        judge: A judge's name, e.g. "embedded"; `judge_<option>=value` are its options.
        reference: "auto", "base", a named reference, or the path of an outputs file.
        instructions: "auto", "builtin", "alpaca_eval", or a path.
        template: A chat template's name or path; not used under `--apply_chat_template`.
        save: A folder for outputs, reference outputs and annotations; None keeps annotations in the user's cache only.
        judge_options: Options of the judge.
    """

    judge: str = "embedded"
    reference: str = AUTO
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
        if self.reference not in (AUTO, BASE):
            load_reference(self.reference, instructions)

    def load_instructions(self) -> InstructionSet:
        """The instruction set; the same object for the same spec within a process."""
        return _instructions(self.instructions)

    def load_template(self) -> ChatTemplate:
        """The chat template."""
        return load_template(self.template)

    def build_judge(self) -> Judge:
        """The judge."""
        return get_judge(self.judge, **self.judge_options)


@functools.lru_cache(maxsize=8)
def _instructions(spec: str) -> InstructionSet:
    return load_instructions(spec)
