"""Runs an audit: asks model, base and sibling the same probes, and measures. Answers are kept as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from implicit_if.harness.analysis.adherence import Embed, task_adherence
from implicit_if.harness.analysis.audit.probes import GENERAL, TASK, Probe, probes_sha256, single_turn
from implicit_if.harness.analysis.audit.report import AuditAnswer, AuditReport, Rate, rates
from implicit_if.harness.chat_templates import ChatTemplate
from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output, instruction_id
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.references.recitation import TrainingTexts
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import sha256_json

_AT_ONCE = 32
"""Probes between two writes to the file of answers."""
_BATCH = 8
"""Answers that are classified between two steps of the bar."""


def ask(
    lm: Any,
    probes: Sequence[Probe],
    template: ChatTemplate | None,
    store: Path,
    *,
    max_gen_toks: int,
    sampling: Mapping[str, Any] | None = None,
) -> list[Any]:
    """One answer a probe, as texts with `finish_reason` where the model class tells it.

    Args:
        lm: A model class of lm-eval.
        probes: What to ask.
        template: Of the prompts; None is the model's own.
        store: JSON Lines of answers already there, which are not asked again; new ones are appended.
        max_gen_toks: Tokens an answer may have.
        sampling: Generation arguments such as temperature and seed; None decodes greedily.
    """
    from lm_eval.api.instance import Instance

    settings = {"until": [], "do_sample": sampling is not None, "max_gen_toks": max_gen_toks} | dict(sampling or {})
    prompts = [_prompt(lm, probe, template) for probe in probes]
    who = [str(getattr(lm, "base_identity", "")), str(getattr(lm, "product_name", "")), settings]
    keys = [sha256_json([*who, prompt]) for prompt in prompts]
    kept = {row["key"]: row for row in read_records(store)}
    todo = [i for i, key in enumerate(keys) if key not in kept]
    for at in range(0, len(todo), _AT_ONCE):
        chunk = todo[at : at + _AT_ONCE]
        if sampling is not None and "seed" in sampling:
            import torch

            torch.manual_seed(int(sampling["seed"]))  # for each part, so that a rerun draws what is missing
        requests = [
            Instance("generate_until", {}, (prompts[i], {k: v for k, v in settings.items() if k != "seed"}), 0)
            for i in chunk
        ]
        for i, answer in zip(chunk, lm.generate_until(requests), strict=True):
            row = {"key": keys[i], "answer": str(answer), "finish_reason": getattr(answer, "finish_reason", None)}
            append_records(store, [row])
            kept[keys[i]] = row
    return [kept[key] for key in keys]


def _prompt(lm: Any, probe: Probe, template: ChatTemplate | None) -> str:
    messages = list(probe.messages)
    if template is None:
        return str(lm.apply_chat_template(messages))
    return template.render(messages, eos_token=lm.tokenizer.eos_token, add_generation_prompt=True)


def audited(
    systems: Mapping[str, Sequence[Any]],
    probes: Sequence[Probe],
    *,
    model: str,
    base: str,
    tags: Sequence[str],
    settings: Mapping[str, str],
    task_rows: Sequence[tuple[str, str]] = (),
    embed: Embed | None = None,
    judge: Any = None,
    verdicts: Path | None = None,
) -> AuditReport:
    """Measures the answers of some systems.

    Args:
        systems: Rows of `ask` by "model", "base" and "sibling".
        probes: What was asked.
        model: The model's name.
        base: The base's name.
        tags: Role tags of the prompts' format.
        settings: What shaped the answers.
        task_rows: Instructions and responses that the model was tuned on. Nothing of them stands in the report: where
            answers recite them is a mark, and the instructions among the probes are shown by number.
        embed: Sentence embeddings, needed with `task_rows`.
        judge: Who compares model and base; None leaves the win rate out.
        verdicts: The judge's file, needed with a judge.
    """
    from tqdm import tqdm

    from implicit_if.harness.judging.backends.embedded_attempts import attempt_probabilities, fingerprint

    answers = []
    for system, rows in systems.items():
        texts = [(probe.instruction, str(row["answer"])) for probe, row in zip(probes, rows, strict=True)]
        chances: list[float] = []
        for start in tqdm(range(0, len(texts), _BATCH), f"attempts of the {system}"):
            chances += attempt_probabilities(texts[start : start + _BATCH])
        answers += [
            AuditAnswer(system, probe, text, None if row["finish_reason"] is None else row["finish_reason"] == "eos", p)
            for probe, row, (_, text), p in zip(probes, rows, texts, chances, strict=True)
        ]
    adherence = {}
    for system in ("model", "base"):
        own = [a for a in answers if a.system == system and a.probe.kind in (GENERAL, TASK)]
        if own and task_rows and embed is not None:
            adherence[system] = task_adherence(task_rows, [(a.probe.instruction, a.answer) for a in own], embed)
    shown, recited = _without_task_data(answers, task_rows)
    return AuditReport(
        model,
        base,
        (*rates(answers, tags), *recited),
        _win_rate(answers, judge, verdicts) if judge is not None and verdicts is not None else None,
        adherence,
        tuple(shown),
        tuple(tags),
        {**settings, "attempts": f"embedded@{fingerprint()[:8]}", "probes": probes_sha256(probes)[:8]},
    )


def _without_task_data(
    answers: Sequence[AuditAnswer], task_rows: Sequence[tuple[str, str]]
) -> tuple[list[AuditAnswer], list[Rate]]:
    """Answers without what they recite of the task's data, its instructions by number only, and who recites how often.

    A report is passed on more freely than the data a model was tuned on.
    """
    if not task_rows:
        return list(answers), []
    texts = TrainingTexts(text for row in task_rows for text in row)
    place = {instruction: number for number, (instruction, _) in enumerate(task_rows, start=1)}
    shown, times = [], {a.system: 0 for a in answers}
    for a in answers:
        text, passages = texts.withhold(a.answer)
        times[a.system] += passages > 0
        number = place.get(a.probe.instruction)
        probe = a.probe if number is None else single_turn(a.probe.kind, f"[row {number} of the task's data]")
        shown.append(replace(a, answer=text, probe=probe))
    asked = {system: sum(a.system == system for a in answers) for system in times}
    return shown, [Rate("recites_training", system, k, asked[system]) for system, k in times.items()]


def _win_rate(answers: Sequence[AuditAnswer], judge: Any, verdicts: Path) -> Score | None:
    from implicit_if.harness.judging.judged_run import judge_pairs
    from implicit_if.harness.judging.pairs import make_pairs

    made: dict[str, list[Output]] = {"model": [], "base": []}
    for a in answers:
        if a.system in made and a.probe.kind == GENERAL:
            made[a.system].append(
                Output(
                    instruction_id=instruction_id(a.probe.instruction),
                    instruction=a.probe.instruction,
                    output=a.answer,
                    generator=a.system,
                    finish_reason=None if a.finished is None else "eos" if a.finished else "length",
                )
            )
    if not made["base"] or not made["model"]:
        return None
    run = judge_pairs(make_pairs(made["model"], made["base"]), judge, verdicts, "builtin", None)
    score = run.scores["win_rate"]
    return score if score.interval is not None else None


def parse_limits(texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """`--fail-above` and `--fail-below`: shares between 0 and 1 by the name of a rate.

    Raises:
        UserError: If a rate is not known, or its limit is no share.
    """
    from implicit_if.harness.cli import name_values
    from implicit_if.harness.errors import unknown_name

    found = {}
    for name, text in name_values(texts, "--fail-above", "attempt_rate=0.5").items():
        if name not in known:
            raise unknown_name("rate", name, known)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"{name}={text}: expected a share between 0 and 1, e.g. attempt_rate=0.5.")
        found[name] = value
    return found
