"""Any runs as a page to read, before anything is submitted: the board's page, of what is on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from implicit_if import __version__
from implicit_if.harness.columns import ATTEMPTS, SCORES
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.failure_forms import failure_forms
from implicit_if.harness.judging.judged_run import JudgedRun
from implicit_if.harness.judging.registry import backend_of
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.attempt_rate import THRESHOLD
from implicit_if.harness.stats.vectors import Floats
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.web.document import (
    ANSWERS,
    BUDGET,
    Texts,
    dump,
    html_document,
    payload_element,
    payload_script,
)
from implicit_if.harness.web.tables import CLIPPED, FIRST, category_table, form_data, pairing_data, score_data
from implicit_if.leaderboards.runs.answers import Answered, answers_of
from implicit_if.leaderboards.runs.run import Run
from implicit_if.leaderboards.runs.token_ranks import Ranks, ranks_of
from implicit_if.leaderboards.verification.scores import form_measures

TEXTS = Texts(
    title="implicit-if view",
    lead="Runs on this machine: how often each system tries to do what is asked, how well, and what it said.",
    command="implicit-if view",
    noscript="implicit-if table prints the same numbers.",
)
_WITHOUT = ("seeds", "badge", "tie_group")
_CARDS = 6


@dataclass(frozen=True)
class View:
    """What belongs on disk.

    Attributes:
        html: The page.
        beside: Scripts with answers by path beside the page; empty where all answers are in it.
    """

    html: str
    beside: Mapping[str, bytes]


def make_view(runs: Sequence[Run], ranks: Ranks | None = None, budget: int = BUDGET) -> View:
    """The page of these runs: a table for those judged alike, and their answers.

    Args:
        runs: At least one, in the order of the user.
        ranks: Token ranks of answers, where they were computed.
        budget: Bytes of the page.

    Raises:
        UserError: If no run has answers or scores to show.
    """
    if not runs:
        raise UserError("no run to show. Expected at least one RUN.")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_group(run), []).append(run)
    boards: list[dict[str, Any]] = []
    payloads: dict[str, str] = {}
    for number, group in enumerate(groups.values(), start=1):
        board, held = _board(group, f"runs-{number}", ranks)
        boards.append(board)
        payloads |= held
    boards.sort(key=lambda board: -len(board["rows"]))  # what a reader sees first has most systems
    texts = TEXTS
    if (count := len(boards)) > 1:
        apart = f" By reference and judge, if any, they stand in {count} tables: choose one under Board."
        texts = replace(TEXTS, lead=TEXTS.lead + apart)
    size = len(html_document(texts, boards, {}, __version__, without=_WITHOUT).encode())
    size += sum(len(payload_element(key, text).encode()) + 1 for key, text in payloads.items())
    if size <= budget:
        return View(html_document(texts, boards, payloads, __version__, without=_WITHOUT), {})
    scripts = {f"{ANSWERS}/{key}.js": payload_script(key, text) for key, text in payloads.items()}
    return View(html_document(texts, boards, {}, __version__, beside=True, without=_WITHOUT), scripts)


def _group(run: Run) -> str:
    """What runs of one table share: the instructions' set, the reference's answers and the judge."""
    settings = _settings(run)
    if settings is None:
        return sha256_json([run.reference_sha256])
    return sha256_json(
        [settings.instruction_set, settings.n, settings.judge, settings.judge_hash, settings.reference_hash]
    )


def _settings(run: Run) -> Signature | None:
    score = run.scores.get("win_rate") or next(iter(run.scores.values()), None)
    return None if score is None else score.settings


def _board(runs: Sequence[Run], slug: str, ranks: Ranks | None) -> tuple[dict[str, Any], dict[str, str]]:
    settings, compared = _settings(runs[0]), "win_rate" in runs[0].scores
    readings = [answers_of(run) for run in runs]
    signatures = dict.fromkeys(str(score.settings) for run in runs for score in run.scores.values())
    payloads: dict[str, str] = {}
    rows = []
    for number, (run, reading) in enumerate(zip(runs, readings, strict=True)):
        members = []
        if reading is not None:
            key = _add_payloads(payloads, reading, ranks)
            members = [{"id": f"{slug}.{number + 1}", "revision": "", "key": key}]
        rows.append(_row(run, members))
    judged, beside = next((run.judged for run in runs if run.judged is not None), None), None
    if judged is not None and judged.reference_attempt_rate is not None:
        rows.append(_reference_row(judged, next(run.tags for run in runs if run.judged is judged)))
        beside = len(rows) - 1
    found = [reading for reading in readings if reading is not None]
    board = {
        "slug": slug,
        "rules": False,
        "set": settings.instruction_set if settings else "answers",
        "n": max((len(reading.ids) for reading in found), default=settings.n if settings else 0),
        "reference": settings.reference if settings and compared else None,
        "judge": settings.judge if settings and compared else None,
        "signatures": list(signatures),
        "warnings": _warnings(runs),
        "rows": rows,
        "gallery": _gallery(readings, beside),
    }
    names = {item.id: item.category or "other" for item in load_instructions("builtin").items}
    if found and all(set(reading.ids) <= names.keys() and reading.ids == found[0].ids for reading in found):
        seeds: list[list[tuple[Floats, Floats]]] = [[] if r is None else [_for_categories(r)] for r in readings]
        board |= category_table([names[i] for i in found[0].ids], [*seeds, *([[]] * (len(rows) - len(runs)))], rows)
    return board, payloads


def _for_categories(reading: Answered) -> tuple[Floats, Floats]:
    """Preferences and probabilities; of attempts none unless all were decided."""
    preferences = reading.preferences if reading.preferences.size else np.full(len(reading.ids), np.nan)
    known = reading.probabilities.size and not np.isnan(reading.probabilities).any()
    return preferences, reading.probabilities if known else np.zeros(0)


def _row(run: Run, members: list[dict[str, str]]) -> dict[str, Any]:
    shown = run.scores.get("win_rate") or run.scores.get(ATTEMPTS)
    return {
        "label": one_line(run.name),
        "name": "" if run.long_name == run.name else one_line(run.long_name),
        "base": "",
        "kind": run.kind or "other",
        "badge": "",
        "reference": run.verified is not None and run.name.endswith("(the reference)"),
        "tie_group": None,
        **_scores(run.scores),
        **form_data(run.form),
        "n": 0 if shown is None else shown.n_expected,
        "n_judged": 0 if shown is None else shown.n_judged,
        "members": members,
    }


def _reference_row(judged: JudgedRun, tags: Sequence[str]) -> dict[str, Any]:
    """The reference, which has no win rate against itself."""
    rate = judged.reference_attempt_rate
    scores = {} if rate is None else {ATTEMPTS: rate}
    run = Run(judged.reference_name or judged.reference[0].generator, scores, form_measures(judged.reference, tags))
    return _row(run, []) | {"label": f"{one_line(run.name)} (the reference)", "reference": True}


def _scores(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {column.name: score_data(scores.get(column.metric)) for column in SCORES}


def _warnings(runs: Sequence[Run]) -> list[str]:
    found = []
    win_rate = runs[0].scores.get("win_rate")
    backend = backend_of(win_rate.settings.judge) if win_rate is not None and win_rate.settings.judge else None
    if backend is not None and backend.caution:
        found.append(backend.caution)
    for run in runs:
        for name, score in run.scores.items():
            if not score.complete:
                found.append(f"{run.name}: {name.replace('_', ' ')} of {score.n_judged} of {score.n_expected} answers.")
        if run.judged is not None:
            found += [f"{run.name}: {note}" for note in run.judged.control.notes]
    how = {str(s.settings.answers) for run in runs for name, s in run.scores.items() if name == "win_rate"}
    if len(how) > 1:
        found.append("these systems did not all answer under the same settings; see the signatures.")
    return [one_line(text, 500) for text in dict.fromkeys(found)]


def _gallery(readings: Sequence[Answered | None], beside: int | None = None) -> list[dict[str, Any]]:
    """The first instructions that all runs answered, in the order of the set; `beside`: the row of the reference."""
    found = [(at, reading) for at, reading in enumerate(readings) if reading is not None][:_CARDS]
    if not found:
        return []
    place = {item.id: number for number, item in enumerate(load_instructions("builtin").items)}
    common = set.intersection(*(set(reading.ids) for _, reading in found))
    other = next((reading for _, reading in found if reading.run.judged is not None), None)
    gallery = []
    for i in sorted(common, key=lambda i: (place.get(i, len(place)), i))[:FIRST]:
        answers = [_card(at, reading, reading.ids.index(i)) for at, reading in found]
        if beside is not None and other is not None:
            answers.append(_reference_card(beside, other, other.ids.index(i)))
        first = found[0][1]
        gallery.append({"id": i, "instruction": first.texts[first.ids.index(i)], "answers": answers})
    return gallery


def _card(at: int, reading: Answered, k: int) -> list[Any]:
    tries = _or_none(float(reading.probabilities[k])) if reading.probabilities.size else None
    text = reading.answers[k].output[:CLIPPED]
    return [at, text, None if tries is None else tries >= THRESHOLD, _forms(reading, k)]


def _reference_card(at: int, reading: Answered, k: int) -> list[Any]:
    decided = reading.run.judged.reference_attempts if reading.run.judged is not None else None
    probability = None if decided is None else decided.probabilities[k]
    answer = reading.references[k]
    forms = failure_forms(answer.output, answer.finish_reason, reading.texts[k] or "", reading.run.tags)
    return [at, answer.output[:CLIPPED], None if probability is None else probability >= THRESHOLD, forms]


def _add_payloads(payloads: dict[str, str], reading: Answered, ranks: Ranks | None) -> str:
    """Puts a run's answers, and the instructions it shares with others, under keys made of their content."""
    pairing = dump(pairing_data(reading.ids, reading.texts, [output.output for output in reading.references]))
    pairing_key = sha256_json(pairing)[:32]
    payloads[pairing_key] = pairing
    n = len(reading.ids)
    shown = {
        "facts": _facts(reading.run),
        "pairing": pairing_key,
        "outputs": [output.output for output in reading.answers],
        "finish": [output.finish_reason for output in reading.answers],
        "tokens": [output.n_tokens for output in reading.answers],
        "attempts": _listed(reading.probabilities) if reading.probabilities.size else None,
        "preferences": _listed(reading.preferences) if reading.preferences.size else [None] * n,
        "orders": {order: _listed(values) for order, values in reading.by_order.items()},
        "forms": [_forms(reading, k) for k in range(n)],
        "ranks": ranks_of(ranks, reading.answers) if ranks else None,
    }
    key = sha256_json([reading.run.name, shown])[:32]
    payloads[key] = dump(shown | {"key": key})
    return key


def _forms(reading: Answered, k: int) -> list[str]:
    answer = reading.answers[k]
    return failure_forms(answer.output, answer.finish_reason, reading.texts[k] or "", reading.run.tags)


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = [("system", run.name), ("kind", run.kind or ""), ("role tags", ", ".join(map(repr, run.tags)))]
    facts += [(name.replace("_", " "), f"{score.render()}, {score.settings}") for name, score in run.scores.items()]
    return [(name, text) for name, text in facts if text]


def _listed(values: Floats) -> list[float | None]:
    return [_or_none(round(float(value), 4)) for value in values]


def _or_none(value: float) -> float | None:
    return None if value != value else value


def write_view(view: View, folder: Path) -> Path:
    """Writes `index.html` and what it needs into a folder, and returns its path."""
    from implicit_if.harness.storage import atomic_write

    for name, data in view.beside.items():
        with atomic_write(folder / name, "wb") as file:
            file.write(data)
    with atomic_write(folder / "index.html") as file:
        file.write(view.html)
    return folder / "index.html"
