"""The task's arguments, as they come through `--metadata`, checked before a model is loaded."""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.judging.attempts import choose
from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE, ask_once, attempts_file, default_store
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import check_judge_spec, get_judge
from implicit_if.harness.lm_eval_plugin import option_values, runs_lm_eval
from implicit_if.harness.references import AUTO, BASE, load_reference
from implicit_if.harness.signature import WIN_RATE_TASK as TASK

_JUDGE_OPTION, _ATTEMPTS_OPTION = "judge_", "judge_attempts_"


@dataclass(frozen=True)
class Settings:
    """What `--metadata` may hold for this task; other keys are other tasks' or the model's.

    Attributes:
        judge: A judge's name, e.g. "embedded"; `judge_<option>=value` are its options.
        judge_attempts: The judge of attempts, or "none"; `judge_attempts_<option>=value` are its options. None for
            "embedded" where its package is there, else "none" (see `attempts.choose`).
        reference: "auto", "base", a named reference, or the path of an outputs file.
        instructions: "auto", "builtin", "alpaca_eval", or a path.
        template: A chat template's name or path; not used under `--apply_chat_template`.
        save: A folder for outputs, reference outputs and annotations; None keeps annotations in the user's cache only.
        judge_options: Options of the judge.
        attempts_options: Options of the judge of attempts.
    """

    judge: str = "embedded"
    judge_attempts: str | None = None
    reference: str = AUTO
    instructions: str = "auto"
    template: str = "tulu"
    save: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)
    attempts_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Settings:
        """Picks this task's arguments.

        Raises:
            UserError: On a value that is no text, or on a key that looks like a misspelt argument.
        """
        names = {f.name for f in fields(cls)} - {"judge_options", "attempts_options"}
        asked = {k: v for k, v in metadata.items() if k.startswith(_JUDGE_OPTION) and k not in names}
        attempts = {k.removeprefix(_ATTEMPTS_OPTION): v for k, v in asked.items() if k.startswith(_ATTEMPTS_OPTION)}
        options = {k.removeprefix(_JUDGE_OPTION): v for k, v in asked.items() if not k.startswith(_ATTEMPTS_OPTION)}
        own = {k: v for k, v in metadata.items() if k in names and v is not None}
        for key, value in own.items():
            if not isinstance(value, (str, Path)):
                raise UserError(f"--metadata {key}={value!r}: found {type(value).__name__}, expected text.")
        for key in metadata.keys() - names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.85)
            if near:
                raise UserError(f"--metadata {key}={metadata[key]}: no such argument. Did you mean {near[0]!r}?")
        for key in typed_metadata(sys.argv).keys() - names - asked.keys():
            raise unknown_name(
                "argument --metadata", key, names, fix=f"An option of the judge is {_JUDGE_OPTION}{key}=."
            )
        found = cls(**{k: str(v) for k, v in own.items()}, judge_options=options, attempts_options=attempts)
        return found if found.save is None else replace(found, save=str(Path(found.save).expanduser()))

    def check(self) -> None:
        """Everything that can be found wrong without a model.

        Raises:
            UserError: Unknown judge, template, instruction set or path; a reference that does not fit.
        """
        check_judge_spec(self.judge)
        self.load_template()
        judge = self.build_judge()
        if self.save is not None:
            check_folder(Path(self.save))
        if not self.store(judge).exists():
            ask_once(judge)
        attempts = self.build_attempts()
        if attempts is not None and not self.attempts_store(attempts).exists():
            ask_once(attempts)
        instructions = self.load_instructions()
        if self.reference not in (AUTO, BASE):
            load_reference(self.reference, instructions, places=asked_places(sys.argv, len(instructions.items)))

    def load_instructions(self) -> InstructionSet:
        """The instruction set; the same object for the same spec within a process."""
        return _instructions(self.instructions)

    def load_template(self) -> ChatTemplate:
        """The chat template."""
        return load_template(self.template)

    def build_judge(self) -> Judge:
        """The judge."""
        return get_judge(self.judge, **self.judge_options)

    def build_attempts(self) -> Judge | None:
        """The judge of attempts, if any."""
        return choose(self.judge_attempts, self.attempts_options)

    def attempts_store(self, judge: Judge) -> Path:
        """The file of its verdicts; see `store`."""
        return attempts_file(judge, None if self.save is None else Path(self.save) / ATTEMPTS_FILE)

    def store(self, judge: Judge) -> Path:
        """The file of the judge's verdicts: in the folder `save=`, or in the user's cache."""
        return default_store(judge) if self.save is None else Path(self.save) / "annotations.jsonl"


def typed_metadata(argv: Sequence[str]) -> dict[str, str]:
    """What follows `--metadata` on lm_eval's command line, where no other task is asked for that it might be meant for.

    Merged arguments do not tell whose they are; the model's own and other tasks' are none of ours to refuse.
    """
    tasks = [task for value in option_values(argv, "--tasks", "-t") for task in value.split(",")]
    if not runs_lm_eval(argv) or tasks != [TASK]:
        return {}
    values = option_values(argv, "--metadata")
    with contextlib.suppress(ValueError):
        if isinstance(found := json.loads(" ".join(values)), dict):
            return found
    parts = [part for value in values for part in value.split(",")]  # lm_eval takes both ways of writing several
    return dict(part.split("=", 1) for part in parts if "=" in part)


def asked_places(argv: Sequence[str], n: int) -> range | None:
    """Which of n instructions lm_eval's command line asks, as `--limit` says; None for all.

    Nothing is known, so none is given, where another program calls lm_eval or `--samples` chooses them.
    """
    if not runs_lm_eval(argv) or option_values(argv, "--samples", "-E"):
        return range(0)
    try:
        limit = float(next(iter(option_values(argv, "--limit", "-L")), "nan"))
    except ValueError:  # lm_eval itself refuses it
        return None
    if not limit > 0:
        return None
    return range(min(n, math.ceil(n * limit) if limit < 1 else int(limit)))


def check_folder(folder: Path) -> None:
    """Makes sure that a run can write its files into a folder.

    Raises:
        UserError: If it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"save={folder}: cannot be written ({error.strerror or error}). Expected a folder you may write to, which "
            f"is made if it is missing."
        ) from error


@functools.lru_cache(maxsize=8)
def _instructions(spec: str) -> InstructionSet:
    return load_instructions(spec)
