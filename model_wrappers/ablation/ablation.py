"""The ablation: one loaded base model answers under every part of its rules, and every answer is judged.

Every stage keeps what it has: a batch of answers is in `answers/<system>.jsonl` as soon as it is generated, a verdict
in `annotations.jsonl` as soon as it is obtained. Whatever stops the run, the same call goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from implicit_if.harness.answer_form import form_of
from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.chat_templates import ChatTemplate
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import Instruction, InstructionSet
from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE, judge_systems, sidecar
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.scoring import read_with
from implicit_if.harness.locks import locked
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs
from implicit_if.harness.references import BASE
from implicit_if.harness.storage import check_writable
from implicit_if.model_wrappers.ablation.table import AblationRow, AblationTable
from implicit_if.model_wrappers.answer_cache import AnswerMemory
from implicit_if.model_wrappers.rules.presets import Preset, Rule, customise, load_preset


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: E.g. "without eos".
        preset: Its rules.
    """

    name: str
    preset: Preset

    @property
    def file(self) -> str:
        """The name as a file name, one to one."""
        kind, _, what = self.name.partition(" ")
        return f"{kind}-{quote(what, safe='')}" if what else kind


def systems_of(preset: Preset, *, tokens: bool = False, missing: Sequence[str] = ()) -> list[Variant]:
    """Base, all rules, each rule left out, each rule alone, and with `tokens` each string of a token list left out.

    A system with the rules of an earlier one is not repeated: with two rules, "only" the one is "without" the other.

    Args:
        preset: The rules.
        tokens: Whether to leave out strings, too.
        missing: Strings for which the model has no token, which cannot be left out.

    Raises:
        UserError: If there are no rules.
    """
    if not preset.rules:
        raise UserError(f"rules={preset.name}: no rules, so there is none to leave out. Expected e.g. rules=paper.")
    names = [rule.name for rule in preset.rules]
    systems = [Variant(BASE, load_preset("none")), Variant("rules", preset)]
    systems += [Variant(f"without {name}", customise(preset, name)) for name in names]
    systems += [Variant(f"only {name}", customise(preset, "+".join(n for n in names if n != name))) for name in names]
    if tokens:
        systems += [s for rule in preset.rules for s in _without_strings(preset, rule, missing)]
    unique: dict[str, Variant] = {}
    for system in systems:
        unique.setdefault(system.preset.sha256, system)
    return list(unique.values())


def _without_strings(preset: Preset, rule: Rule, missing: Sequence[str]) -> Iterator[Variant]:
    for option, weights in rule.options.items():
        if not isinstance(weights, tuple):
            continue
        for string, _ in weights:
            if string in missing:
                continue
            shown = json.dumps(string, ensure_ascii=False)
            changed = replace(rule, options=rule.options | {option: tuple(w for w in weights if w[0] != string)})
            rules = tuple(changed if r is rule else r for r in preset.rules)
            yield Variant(f"without {shown}", replace(preset, name=f"{preset.name}-{rule.name}.{shown}", rules=rules))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second process out of the folder, which would only repeat this one's work.

    Raises:
        UserError: If another process is at work there, or nothing can be written there.
    """
    import filelock

    check_writable(folder / "ablate.lock")
    try:
        with locked(folder / "ablate", timeout=0):
            yield
    except filelock.Timeout as error:
        raise UserError(f"{folder}: another process is at work there. Wait for it, or give another --out.") from error


class Ablation:
    """One model, one instruction set, one folder."""

    def __init__(
        self,
        lm: Any,
        instructions: InstructionSet,
        template: ChatTemplate,
        folder: Path,
        *,
        limit: int | None = None,
        generation: Mapping[str, Any] | None = None,
        reference: Sequence[Output] | None = None,
    ) -> None:
        """Prepares the run.

        Args:
            lm: A `RulesPoE` loaded by name; its own rules are the ones that are taken apart.
            instructions: What it answers.
            template: How an instruction becomes a prompt.
            folder: Where everything is kept.
            limit: The first so many instructions only.
            generation: lm-eval's generation arguments; decoding is greedy in any case.
            reference: Answers to every instruction of the set, in its order, that all systems are judged against;
                None judges against the base model's own.
        """
        self.lm, self.instructions, self.template, self.folder = lm, instructions, template, folder
        self.items: Sequence[Instruction] = instructions.items[:limit]
        self.reference = None if reference is None else reference[: len(self.items)]
        self.prompts = [template.render_prompt(item.text) for item in self.items]
        self.settings: dict[str, Any] = lm.generation_settings({"until": [], **(generation or {}), "do_sample": False})

    def run(
        self,
        judge: Judge,
        *,
        attempts: Judge | None = None,
        tokens: bool = False,
        max_cost: float | None = None,
    ) -> int:
        """Generates, judges, writes and prints the table.

        Args:
            judge: The judge of the win rates.
            attempts: The judge of attempts; None leaves their column empty.
            tokens: See `systems_of`.
            max_cost: US dollars that both judges together may spend.

        Returns:
            0; 1 if a verdict is missing.
        """
        systems = systems_of(self.lm.preset, tokens=tokens, missing=self.lm.rules.missing)
        _say(
            f"{len(systems)} systems, {len(self.items)} instructions of {self.instructions.name}, at most "
            f"{self.settings['max_gen_toks']} tokens an answer, judge {judge.name}; kept in {self.folder}"
        )
        try:
            outputs = self.generate(systems)
            self.lm.say_threads()
            table = self.judge(systems, outputs, judge, attempts, max_cost)
        except KeyboardInterrupt:
            _say(f"interrupted; {self.folder} holds what is done, the same command goes on from there")
            raise
        table.write(self.folder)
        print(f"{table.as_text()}\n{read_with(self.folder)}")
        return 0 if table.complete else 1

    def generate(self, systems: Sequence[Variant]) -> list[list[Output]]:
        """Every system's answers in the instructions' order, also written to `outputs/<system>.json`."""
        memories = [self._memory(system) for system in systems]
        tokens: int = self.settings["max_gen_toks"]
        todo = sum(len(batch) for memory in memories for batch in self.lm.batches(self.prompts, memory))
        made = []
        with tqdm(total=todo * tokens, unit="tok", smoothing=0, file=sys.stderr, disable=not todo) as bar:
            for number, (system, memory) in enumerate(zip(systems, memories, strict=True), start=1):
                bar.set_description(f"{number}/{len(systems)} {system.name}")
                answers = dict(self.lm.answer(self.prompts, system.preset, self.settings, memory, bar.update))
                outputs = [self._output(item, answers[i], system) for i, item in enumerate(self.items)]
                save_outputs(self.folder / "outputs" / f"{system.file}.json", outputs, self._meta(system))
                made.append(outputs)
        return made

    def judge(
        self,
        systems: Sequence[Variant],
        outputs: Sequence[Sequence[Output]],
        judge: Judge,
        attempts: Judge | None = None,
        max_cost: float | None = None,
    ) -> AblationTable:
        """Judges the systems in one run of each judge, and makes the table; arguments as of `run`."""
        reference = self.reference or outputs[0]
        judged = range(len(systems)) if self.reference else range(1, len(systems))
        pairs = [
            [
                Pair(own.instruction_id, item.text, own, other)
                for item, own, other in zip(self.items, outputs[number], reference, strict=True)
            ]
            for number in judged
        ]
        runs = judge_systems(
            pairs,
            judge,
            self.folder / "annotations.jsonl",
            self.instructions.name,
            self.instructions.revision,
            [AnswerSettings.of_meta(self._meta(systems[number])) for number in judged],
            attempts=attempts,
            attempts_store=self.folder / ATTEMPTS_FILE,
            max_cost=max_cost,
        )
        scores = {number: run.scores for number, run in zip(judged, runs, strict=True)}
        if (rate := runs[0].reference_attempt_rate) is not None:
            scores.setdefault(0, {ATTEMPTS: rate})
        for number, run in zip(judged, runs, strict=True):
            for note in run.control.notes:
                _say(f"{systems[number].name}: {note}")
        rows = [
            AblationRow(
                system.name, system.preset, form_of(outputs[number], self.template.tags), scores.get(number, {})
            )
            for number, system in enumerate(systems)
        ]
        return AblationTable(
            rows, self._setting() | {"reference": reference[0].generator}, len(self.instructions.items)
        )

    def _meta(self, system: Variant) -> OutputsMeta:
        model = self.lm.maker(system.preset).model
        return sidecar(system.name, self.instructions, self.template, self.settings, model)

    def _memory(self, system: Variant) -> AnswerMemory:
        memory: AnswerMemory = self.lm.memory(
            self.folder / "answers" / f"{system.file}.jsonl", system.preset, self.settings
        )
        return memory

    def _output(self, item: Instruction, answer: Any, system: Variant) -> Output:
        return Output(
            instruction_id=item.id,
            instruction=item.text,
            output=str(answer),
            generator=system.name,
            dataset=item.dataset or self.instructions.name,
            finish_reason=answer.finish_reason,
            n_tokens=answer.n_tokens,
        )

    def _setting(self) -> dict[str, Any]:
        """What all rows share and no signature says; no path of this machine, so that tables can be compared."""
        pretrained = self.lm.pretrained
        name = "embedded" if self.lm.embedded else Path(pretrained).name if Path(pretrained).is_dir() else pretrained
        return {
            "model": str(name),
            "model_identity": self.lm.base_identity,
            "dtype": str(self.lm.model.dtype).removeprefix("torch."),
            "rules": f"{self.lm.preset.name}@{self.lm.preset.sha256[:8]}",
            "template": f"{self.template.name}@{self.template.sha256[:8]}",
            "generation": self.settings,
        }


def _say(message: str) -> None:
    print(f"implicit-if: {message}", file=sys.stderr, flush=True)
