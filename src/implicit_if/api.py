"""The Python face: judge, score, compare, decode under the rules, tune, verify. Short functions on the shared pieces.

Import it as `import implicit_if as iif`; it knows nothing that the commands do not use too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.comparing.loading import Seed, judgement_of, load_seed
from implicit_if.harness.comparing.preference_table import JudgedSystem, length_models, make_table
from implicit_if.harness.comparing.published import read_published
from implicit_if.harness.comparing.report import Report, make_report
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import InstructionSet, load_instructions
from implicit_if.harness.instructions.identify import identify_set
from implicit_if.harness.judging.attempts import Attempts, build_embedded, choose, classify, single_answers
from implicit_if.harness.judging.judged_run import ATTEMPTS_FILE, JudgedRun, default_store, judge_pairs, with_attempts
from implicit_if.harness.judging.pairs import Pair, make_pairs
from implicit_if.harness.judging.protocol import Judge
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.outputs import Output, OutputsMeta, join_instructions, load_meta, load_outputs
from implicit_if.harness.references import stored_answers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

    from implicit_if.leaderboards.verification.result import Verified

Answers = str | Path | Sequence[Output] | Sequence[str]
"""A file of outputs, a named reference (as reference only), outputs, or texts in the order of the instructions."""
Texts = list[str] | tuple[str, ...]
Instructions = str | InstructionSet | Sequence[str]
"""What `load_instructions` takes or returns, or the texts."""


def judge(
    outputs: Answers,
    reference: Answers,
    *,
    judge: str | Judge,
    instructions: Instructions | None = None,
    annotations: str | Path | None = None,
    name: str = "system",
    reference_name: str = "reference",
    allow_missing: bool = False,
    max_cost: float | None = None,
    progress: bool = False,
    judge_attempts: str | Judge | None = None,
    attempts_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> JudgedRun:
    """Verdicts and scores of a system's answers against a reference's.

    Args:
        outputs: The system's answers.
        reference: The reference's.
        judge: A judge, or a name or YAML file as `implicit-if judge --judge` takes it.
        instructions: What was answered; needed for answers that are texts.
        annotations: The file of verdicts, kept and reused; None takes one in the user's cache.
        name: The system's name, for answers that are texts.
        reference_name: The reference's name, for answers that are texts.
        allow_missing: Whether the reference may answer more instructions than the system.
        max_cost: US dollars a paid judge may spend.
        progress: Shows a bar on stderr.
        judge_attempts: The judge that decides which answers attempt their instructions, e.g. "openai:MODEL", or "none";
            None takes "embedded" where it is installed.
        attempts_options: Its options.
        **options: The judge's options.

    Returns:
        The run: `scores` by metric with interval and signature, `judgement` with every verdict.

    Raises:
        UserError: On answers that do not match, an unknown judge, a permanent fault of it, or the cost limit.
    """
    pairs, chosen, n_expected = _pairs(outputs, reference, instructions, name, reference_name, allow_missing)
    asked = get_judge(judge, **options) if isinstance(judge, str) else judge
    store = Path(annotations) if annotations is not None else default_store(asked)
    return judge_pairs(
        pairs,
        asked,
        store,
        *chosen,
        answers=AnswerSettings.of_meta(_meta(outputs)),
        n_expected=n_expected,
        attempts=_judge_of_attempts(judge_attempts, attempts_options),
        attempts_store=store.with_suffix(f".{ATTEMPTS_FILE}"),
        max_cost=max_cost,
        progress=progress,
    )


@overload
def attempts(instruction: str, answer: str) -> float: ...


@overload
def attempts(instruction: Texts, answer: Texts) -> list[float]: ...


def attempts(instruction: str | Texts, answer: str | Texts) -> float | list[float]:
    """The probability that an answer attempts its instruction, by the shipped classifier.

    An answer attempts an instruction if it tries to do what is asked; it may be wrong, incomplete or badly written.

    Args:
        instruction: An instruction, or several.
        answer: Its answer, or as many; what a model thought before it does not count.

    Returns:
        In [0, 1], of several a list; from 0.5 on it is decided to be an attempt. 0 for an empty answer.

    Raises:
        UserError: If the numbers of instructions and answers differ, or the extra `embedded` is not installed.
    """
    several = not isinstance(instruction, str)
    texts, answers = ([value] if isinstance(value, str) else list(value) for value in (instruction, answer))
    if len(texts) != len(answers) or several == isinstance(answer, str):
        raise UserError(f"{len(answers)} answers to {len(texts)} instructions. Expected one each, or two texts.")
    build_embedded(None, {})
    outputs = [
        Output.model_validate({"instruction": t, "output": a, "generator": "-"})
        for t, a in zip(texts, answers, strict=True)
    ]
    found = [p or 0.0 for p in classify(single_answers(outputs)).probabilities]
    return found if several else found[0]


def score(
    annotations: str | Path,
    outputs: Answers | None = None,
    reference: Answers | None = None,
    *,
    judge: str | None = None,
    instructions: Instructions | None = None,
    name: str = "system",
    reference_name: str = "reference",
    allow_missing: bool = False,
    judge_attempts: str | Judge | None = None,
) -> JudgedRun:
    """The scores that verdicts in a file give; no judge of pairs is loaded or asked.

    Args:
        annotations: The file of verdicts; alpaca-eval's `annotations.json` holds the answers, too.
        outputs: See `judge`.
        reference: See `judge`.
        judge: Name, or first digits of the fingerprint, of the judge; needed if the file holds several.
        instructions: See `judge`.
        name: See `judge`.
        reference_name: See `judge`.
        allow_missing: See `judge`.
        judge_attempts: See `judge`.

    Raises:
        UserError: If the file holds no verdict about these answers, or several judges'.
    """
    path, asked = Path(annotations), _judge_of_attempts(judge_attempts)
    store = path.with_suffix(f".{ATTEMPTS_FILE}")
    if outputs is None or reference is None:
        found = read_published(path)
        known = load_instructions(instructions) if isinstance(instructions, str) else None
        chosen = identify_set([p.instruction_id for p in found.pairs], known)
        return with_attempts(JudgedRun(found.pairs, found.judgement, *chosen), asked, store)
    pairs, chosen, n_expected = _pairs(outputs, reference, instructions, name, reference_name, allow_missing)
    judgement = replace(judgement_of(pairs, path, judge), expected=n_expected)
    run = JudgedRun(pairs, judgement, *chosen, answers=AnswerSettings.of_meta(_meta(outputs)))
    return with_attempts(run, asked, store)


def compare(
    systems: Mapping[str, JudgedRun | Sequence[JudgedRun] | str | Path], *, level: float = 0.95, seed: int = 0
) -> Report:
    """Win rates, paired differences and tie groups of judged systems, as `implicit-if compare` prints them.

    Args:
        systems: By name: a run, runs that are its seeds, or a file of annotations.
        level: Nominal coverage of the intervals.
        seed: Seed of the permutation tests.

    Raises:
        UserError: For fewer than two systems, or systems that cannot be compared.
    """
    if len(systems) < 2:
        raise UserError(f"found {len(systems)} system(s). Expected at least two to compare.")
    runs = {name: [given] if isinstance(given, JudgedRun) else given for name, given in systems.items()}
    loaded = [
        JudgedSystem(name, [load_seed(Path(own))] if isinstance(own, str | Path) else [_seed(run, name) for run in own])
        for name, own in runs.items()
    ]
    table = make_table(loaded)
    answered = [own for own in runs.values() if not isinstance(own, str | Path)]
    if len(answered) < len(runs):
        return make_report(table, level=level, seed=seed)
    outputs = [[{o.instruction_id: o for o in run.outputs} for run in own] for own in answered]
    references = [[{o.instruction_id: o for o in run.reference} for run in own] for own in answered]
    first = answered[0][0]
    return make_report(
        table,
        length_models(table, outputs, references, first.prior),
        level=level,
        seed=seed,
        reference=first.reference_name or first.reference[0].generator,
        instructions=(first.instruction_set, first.instruction_revision),
        attempts=_attempts(dict(zip(runs, answered, strict=True))),
    )


def rules_processor(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Tensor,
    rules: str = "paper",
    *,
    drop: str | None = None,
    options: Mapping[str, Any] | None = None,
    missing: str = "note",
) -> LogitsProcessorList:
    """The rules as what `model.generate(..., logits_processor=...)` takes.

    Args:
        model: Tells which ids end a response, and the device.
        tokenizer: The model's.
        input_ids: int64 `[b, s]`, the left-padded prompts as `generate` gets them.
        rules: A preset's name, or a YAML file.
        drop: Rules to leave out, joined by "+".
        options: Changes by "rule.option", e.g. {"eos.maximum": 10}.
        missing: What happens to a string that is no token: "note" leaves it out and says so; "error".

    Raises:
        UserError: For an unknown preset, rule or option, or a string that is no token of the tokenizer.
    """
    import torch
    from transformers import LogitsProcessorList

    from implicit_if.model_wrappers.rules.presets import customise, load_preset
    from implicit_if.model_wrappers.rules.product import BoundRules, RulesProcessor
    from implicit_if.model_wrappers.rules.tokens import scope_start

    ends = getattr(model.generation_config, "eos_token_id", None) or tokenizer.eos_token_id
    if ends is None:
        raise UserError("neither the model nor the tokenizer says what ends a response. Set tokenizer.eos_token.")
    preset = customise(load_preset(rules), drop, options)
    eos = [ends] if isinstance(ends, int) else ends
    bound = BoundRules.bind(preset, tokenizer, eos, missing=missing).to(input_ids.device)
    if bound.missing:
        print(f"note: rules: no token for {', '.join(map(repr, bound.missing))}: left out", file=sys.stderr)
    width, starts = input_ids.shape[1], None
    if bound.prompt_after is not None:
        texts = tokenizer.batch_decode([row[row != tokenizer.pad_token_id] for row in input_ids])
        places = [scope_start(tokenizer, text, bound.prompt_after, {"add_special_tokens": False}) for text in texts]
        starts = torch.tensor([width - n + start for start, n in places], device=input_ids.device)
    return LogitsProcessorList([RulesProcessor(bound, width, starts)])


def tune(
    recipe: str | Path,
    out: str | Path,
    *,
    base: str | None = None,
    data: str | Path | None = None,
    profile: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """The folder of a tuned model, as `implicit-if tune` writes it; an interrupted run goes on.

    Args:
        recipe: A shipped recipe's name, or a YAML file.
        out: Folder of the finished model.
        base: The base model: hub name, folder, or a registered name.
        data: Local file of the recipe's data.
        profile: Settings of a base model, e.g. "llama2-7b/reference".
        seed: Order of the rows.
        settings: Changes by dotted key, e.g. {"train.epochs": 3}.

    Raises:
        UserError: See `harness.tuning.recipe.load_recipe` and `harness.tuning.runner.tune`.
    """
    from implicit_if.harness.tuning.recipe import load_recipe
    from implicit_if.harness.tuning.runner import tune as run

    overrides = [f"{key}={value}" for key, value in (settings or {}).items()]
    return run(load_recipe(recipe, overrides, base=base, profile=profile, data=data, seed=seed), out)


def verify(folder: str | Path) -> Verified:
    """A submission's numbers, recomputed from its answers and verdicts.

    Args:
        folder: `leaderboards/submissions/<org>__<model>/<revision>`.

    Raises:
        UserError: Lists what is wrong.
    """
    from implicit_if.leaderboards.verification.verify import verify as check

    return check(folder)


def _meta(outputs: Answers) -> OutputsMeta | None:
    return load_meta(outputs) if isinstance(outputs, str | Path) else None


def _judge_of_attempts(judge: str | Judge | None, options: Mapping[str, Any] | None = None) -> Judge | None:
    return choose(judge, options) if judge is None or isinstance(judge, str) else judge


def _attempts(systems: Mapping[str, Sequence[JudgedRun]]) -> dict[str, list[Attempts]] | None:
    """The attempts of systems whose every run was asked for them."""
    found = {name: [run.attempts for run in runs if run.attempts is not None] for name, runs in systems.items()}
    return found if all(len(found[name]) == len(runs) for name, runs in systems.items()) else None


def _pairs(
    outputs: Answers,
    reference: Answers,
    instructions: Instructions | None,
    name: str,
    reference_name: str,
    allow_missing: bool,
) -> tuple[list[Pair], tuple[str, str | None], int | None]:
    """The pairs, name and revision of the instruction set, and how many answers there should be if there are fewer."""
    given = load_instructions(instructions) if isinstance(instructions, str) else instructions
    system = load_outputs(outputs) if isinstance(outputs, str | Path) else _outputs(outputs, given, name)
    if isinstance(reference, str | Path):
        other = stored_answers(str(reference), {o.instruction_id: o.instruction for o in system})
    else:
        other = _outputs(reference, given, reference_name)
    known = given if isinstance(given, InstructionSet) else None
    if known is not None:
        system, other = (join_instructions(side, known.texts()) for side in (system, other))
    pairs = make_pairs(system, other, allow_missing=allow_missing)
    path = Path(outputs) if isinstance(outputs, str | Path) else None
    chosen = identify_set({pair.instruction_id for pair in pairs}, known, path)
    return pairs, chosen, len(other) if allow_missing else None


def _outputs(answers: Sequence[Output] | Sequence[str], instructions: Any, name: str) -> list[Output]:
    """Outputs as they are, or texts with the instructions they answer."""
    outputs = [answer for answer in answers if isinstance(answer, Output)]
    if len(outputs) == len(answers):
        return outputs
    if strange := [(n, type(a).__name__) for n, a in enumerate(answers) if not isinstance(a, str)]:
        raise UserError(f"{name}: answer {strange[0][0]} is {strange[0][1]}. Expected texts, or an Output each.")
    if instructions is None:
        raise UserError(f"{name}: answers without instructions. Give instructions=, the texts they answer.")
    texts = [item.text for item in instructions.items] if isinstance(instructions, InstructionSet) else instructions
    if len(texts) != len(answers):
        raise UserError(f"{name}: {len(answers)} answers to {len(texts)} instructions. Expected one each, in order.")
    rows = zip(texts, answers, strict=True)
    return [Output.model_validate({"instruction": t, "output": a, "generator": name}) for t, a in rows]


def _seed(run: JudgedRun, name: str) -> Seed:
    """A run as what `compare` reads from a file of annotations."""
    judged = {v.instruction_id: v.preference for v in run.judgement if v.preference is not None}
    references = {pair.instruction_id: pair.reference.sha256 for pair in run.pairs}
    about = run.judgement
    return Seed(
        Path(name),
        about.judge,
        about.fingerprint,
        tuple(sorted(about.orders)),
        judged,
        frozenset(references),
        references,
        answers=run.answers,
    )
