"""Scores of a submission's rows, the same on every machine, and whether two sets of scores agree."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

from implicit_if.harness.annotations import Order
from implicit_if.harness.answer_form import form_of, mean
from implicit_if.harness.answer_settings import AnswerSettings
from implicit_if.harness.columns import ATTEMPTS, FORM
from implicit_if.harness.judging.attempts import Attempts
from implicit_if.harness.judging.judgement import Judgement
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.judging.scoring import control_judgement, score_judgement
from implicit_if.harness.outputs import Output
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature
from implicit_if.leaderboards.submission.data_files import MAX_TOKENS, AnnotationRow, OutputRow
from implicit_if.leaderboards.submission.schema import JudgeInfo, Metadata, Scores

_RANGES: dict[str, tuple[float, float]] = {
    ATTEMPTS: (0, 100),
    "win_rate": (0, 100),
    "discrete_win_rate": (0, 100),
    "length_controlled_win_rate": (0, 100),
    "position_bias": (-100, 100),
}
_FORM_RANGES = {column.name: (0, column.highest) for column in FORM} | {"n_tokens": (0, MAX_TOKENS)}
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}((a|b|rc|\.post|\.dev)\d{1,4}){0,3}(\+(unknown|g?[0-9a-f]{4,40}))?")
_METHOD = re.compile(r"[a-z][a-z_-]{0,30}( over \d{1,3} seeds?)?(\([a-z0-9.,-]{1,20}\))?(;[a-z][a-z_-]{0,20}){0,3}")
"""The forms of versions and of methods' names, in which no sentence fits."""

TOLERANCE = 1e-6
"""How far a stored number may be from the recomputed one, in its own unit: processors round sums differently."""


def score_rows(
    metadata: Metadata,
    outputs: Sequence[OutputRow],
    reference: Sequence[OutputRow],
    annotations: Sequence[AnnotationRow],
    pairs: Sequence[Pair] | None = None,
    attempts: Attempts | None = None,
) -> tuple[Judgement, Scores]:
    """Scores and measures of form.

    Length is controlled by the offline estimator always: alpaca-eval's needs a file that not every machine has, and a
    board's numbers must not depend on it.

    Args:
        metadata: Says under which names.
        outputs: `[n]` sorted by instruction.
        reference: `[n]` likewise, to the same instructions.
        annotations: A verdict on each pair in each order.
        pairs: The rows as `pairs_of` gives them, where they are at hand.
        attempts: Which answers are attempts, as far as it is known.
    """
    ids = [row["instruction_id"] for row in outputs]
    judgement = judgement_of(annotations, metadata.judge, ids)
    pairs = pairs or pairs_of(outputs, reference)
    info = metadata.instruction_set
    control = control_judgement(judgement, pairs, info.name, method="offline")
    scores = score_judgement(
        judgement,
        pairs,
        info.name,
        info.revision,
        metadata.reference.name,
        control=control,
        answers=answer_settings_of(metadata),
    )
    if attempts is not None:
        rate = attempts.score(info.name, info.revision, answer_settings_of(metadata))
        scores = {ATTEMPTS: rate, **scores}
    scores = {name: score.signed(replace(score.settings, task=metadata.task)) for name, score in scores.items()}
    tags = metadata.template.tags if metadata.template is not None else []
    form = form_measures([pair.system for pair in pairs], tags)
    return judgement, Scores(scores=scores, form=form)


def judgement_of(rows: Sequence[AnnotationRow], judge: JudgeInfo, ids: Sequence[str]) -> Judgement:
    """Verdicts that were checked to be complete, as what `annotate` would have returned for them."""
    found = {(row["instruction_id"], row["order"]): row["preference"] for row in rows}
    orders: tuple[Order, ...] = tuple(judge.orders)
    by_order = {order: array("d", [found[i, order] for i in ids]) for order in orders}
    return Judgement(judge.name, judge.fingerprint, orders, list(ids), by_order, [])


def pairs_of(
    outputs: Sequence[OutputRow], reference: Sequence[OutputRow], texts: Mapping[str, str] | None = None
) -> list[Pair]:
    """The rows as pairs, with the instructions' texts as far as they are known."""
    known, build = texts or {}, Output.model_construct  # validated already, which takes long
    return [
        Pair(s["instruction_id"], known.get(s["instruction_id"], ""), build(**s), build(**r))
        for s, r in zip(outputs, reference, strict=True)
    ]


def answer_settings_of(metadata: Metadata) -> AnswerSettings:
    """What shaped the answers, as `submit` records it; a control's are shaped by nothing of it."""
    if metadata.system.kind == "control":
        return AnswerSettings()
    template = None if metadata.template is None else metadata.template.model_dump()
    told = metadata.system_instruction or metadata.generation.get("system_instruction")  # there until version 0.2
    instruction = told if isinstance(told, str) else None
    return AnswerSettings.of(template, metadata.generation, instruction, metadata.dtype)


def fits(told: Signature, expected: Signature) -> bool:
    """Whether a stored signature is the expected one; the version may differ.

    Version 0.1's tell neither template, generation arguments nor type.
    """
    answers = expected.answers
    if told.answers == AnswerSettings(system_instruction=answers.system_instruction):
        answers = told.answers
    return replace(told, version=expected.version) == replace(expected, answers=answers)


def form_measures(answers: Sequence[Output], tags: Sequence[str]) -> dict[str, float | None]:
    """`form_of` a submission's answers, without `format_leak_rate` where there are no tags, and the mean `n_tokens`."""
    form = form_of(answers, tags)
    if not tags:
        form["format_leak_rate"] = None
    return form | {"n_tokens": mean([float(a.n_tokens) for a in answers if a.n_tokens is not None])}


def strange_labels(scores: Mapping[str, Score]) -> list[str]:
    """Versions and methods, which nothing is compared with, that are none; one line a metric."""
    return [
        f"scores.json: {metric[:40]}: {what} is {one_line(label, 40)!r}, which is none of this program's"
        for metric, score in scores.items()
        for what, label, form in (
            ("version", score.settings.version, _VERSION),
            ("length control", score.settings.lc or "", _METHOD),
            ("interval's method", score.interval.method if score.interval is not None else "", _METHOD),
        )
        if label and not form.fullmatch(label)
    ]


def impossible(told: Scores) -> list[str]:
    """What no answers and verdicts could give, of scores that come without them; one line a number."""
    unknown = [*(told.scores.keys() - _RANGES.keys()), *(told.form.keys() - _FORM_RANGES.keys())]
    problems = [f"scores.json: {name[:40]} is not among what this program computes" for name in sorted(unknown)]
    for metric, score in told.scores.items():
        low, high = _RANGES.get(metric, (-100, 100))
        if score.value is not None and not low <= score.value <= high:
            problems.append(f"scores.json: {metric[:40]}: is {score.value}, expected percent")
        interval = score.interval
        if interval is not None and not low - 100 <= interval.low <= interval.high <= high + 100:
            problems.append(f"scores.json: {metric[:40]}: its interval is not one of percents")
        if metric != "length_controlled_win_rate" and score.settings.lc is not None:
            problems.append(f"scores.json: {metric[:40]}: its signature names a length control")
    for name, value in told.form.items():
        low, high = _FORM_RANGES.get(name, (0, 0))
        if value is not None and name in _FORM_RANGES and not low <= value <= high:
            problems.append(f"scores.json: form.{name} is {value}, expected {low} to {high}")
    return problems


def score_differences(told: Mapping[str, Score], computed: Mapping[str, Score]) -> list[str]:
    """What differs between stored and recomputed scores, in one line a metric; the version may."""
    problems = [f"scores.json: {m} is missing" for m in computed.keys() - told.keys()]
    problems += [f"scores.json: {m[:40]} is not recomputed by this program" for m in told.keys() - computed.keys()]
    for metric in computed.keys() & told.keys():
        stored, found = told[metric], computed[metric]
        theirs, mine = stored.settings, found.settings
        if not fits(theirs, mine):
            problems.append(f"scores.json: {metric}: signature is {theirs}, expected {mine}")
        elif not same_score(stored, found):
            other = "" if theirs.version == mine.version else f" (by version {theirs.version}, this is {mine.version})"
            problems.append(f"scores.json: {metric} is {stored.render(6)}{other}, recomputed it is {found.render(6)}")
    return sorted(problems)


def same_score(a: Score, b: Score) -> bool:
    """Whether two scores agree in everything but their last digits and signatures."""
    ends = [(None, None) if s.interval is None else (s.interval.low, s.interval.high) for s in (a, b)]
    rest = [
        (s.n_judged, s.n_expected, s.interval and (s.interval.method, s.interval.level, s.interval.seed))
        for s in (a, b)
    ]
    return rest[0] == rest[1] and all(map(_close, (a.value, *ends[0]), (b.value, *ends[1])))


def form_differences(told: Mapping[str, float | None], computed: Mapping[str, float | None]) -> list[str]:
    """What differs between stored and recomputed measures of form; newer measures may be absent from the stored."""
    if strange := told.keys() - computed.keys():
        return [f"scores.json: form holds {', '.join(sorted(strange))}, expected {', '.join(sorted(computed))}"]
    return [
        f"scores.json: form.{name} is {told[name]}, recomputed it is {computed[name]}"
        for name in sorted(told)
        if not _close(told[name], computed[name])
    ]


def _close(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else abs(a - b) <= TOLERANCE * max(1.0, abs(b))
