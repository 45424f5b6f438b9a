"""What the page shows: rows of all boards, and a payload of answers a submission. Plain values, ready for JSON.

A payload's key is a hash over the submission's bytes and the code that makes it: a payload file that is there is right.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness import answer_form
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging import attempt_features
from implicit_if.harness.judging import failure_forms as failure_forms_module
from implicit_if.harness.judging.failure_forms import failure_forms
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.published_numbers import Published
from implicit_if.harness.stats.attempt_rate import decisions
from implicit_if.harness.storage import sha256_file, sha256_json
from implicit_if.harness.system_kinds import Kind
from implicit_if.harness.web import tables as tables_module
from implicit_if.harness.web.tables import CLIPPED, FIRST, category_table, form_data, pairing_data, score_data
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.rows import Row
from implicit_if.leaderboards.verification.result import Verified

_FORM_MODULES = (answer_form.__file__, attempt_features.__file__, failure_forms_module.__file__, tables_module.__file__)
"""Code that decides what is in a payload besides this module's."""
GALLERY: tuple[Kind, ...] = ("base", "rules", "single_task", "response", "instruction")
"""Kinds of systems in the gallery."""

Outputs = Callable[[Verified], list[dict[str, Any]]]
"""Reads the rows of a submission's answers."""


def page_rows(
    boards: Sequence[tuple[Board, Board | None]], published: Sequence[Published], outputs: Outputs
) -> list[dict[str, Any]]:
    """Every table of the page: systems and rules of each board, then what was published."""
    tables = []
    for main, ablation in boards:
        tables.append(_with_answers(main, _board(main, False, published), outputs))
        if ablation is not None:
            tables.append(_board(ablation, True, ()))
    return tables + [
        {
            "slug": f"published-{number}",
            "published": True,
            **table.model_dump(exclude={"rows"}),
            "rows": [row.model_dump() | {"shown": f"{row.mean} ± {row.sd}"} for row in table.rows],
        }
        for number, table in enumerate(published, start=1)
    ]


def payload_key(verified: Verified) -> str:
    """Under which a submission's payload is found; attempts are decided here, not by the submission."""
    return sha256_json([_code(), verified.sha256, verified.attempts.round(4).tolist()])[:32]


def pairing_key(verified: Verified) -> str:
    """Under which the instructions and the reference's answers are found, which submissions share."""
    data = verified.metadata
    return sha256_json([_code(), data.reference.sha256, verified.instruction_ids, data.instruction_set.texts])[:32]


def payload(verified: Verified, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One submission: how it was made, its scores, and its answers in the order of its pairing.

    Args:
        verified: The submission.
        outputs: The rows of its `outputs.jsonl`; none if it is self-reported.
    """
    shown: dict[str, Any] = {"facts": _facts(verified), "pairing": pairing_key(verified) if outputs else None}
    if outputs:
        shown |= {
            "key": payload_key(verified),
            "outputs": [row["output"] for row in outputs],
            "forms": _forms(verified, outputs, verified.instruction_ids),
            "finish": [row["finish_reason"] for row in outputs],
            "tokens": [row["n_tokens"] for row in outputs],
            "attempts": verified.attempts.round(4).tolist() or None,
            "preferences": verified.preferences.round(4).tolist(),
            "orders": {order: values.round(4).tolist() for order, values in verified.by_order.items()},
        }
    return shown


def pairing(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What submissions share that answered one set and were judged against one reference; texts only if shippable."""
    return pairing_data(
        [pair.instruction_id for pair in pairs],
        [pair.instruction.strip() or None for pair in pairs],
        [pair.reference.output for pair in pairs],
    )


def characters(verified: Verified) -> float:
    """Characters of a submission's answers: each is at least a byte of its payload."""
    return (verified.form.get("avg_length") or 0.0) * len(verified.instruction_ids)


def _board(board: Board, rules: bool, published: Sequence[Published]) -> dict[str, Any]:
    key = board.key
    paper = next((table for table in published if table.of_systems()), None)
    models = [] if paper is None else _models(paper)
    return {
        "slug": f"{key.slug}-rules" if rules else key.slug,
        "rules": rules,
        "set": key.instruction_set,
        "n": key.n,
        "reference": key.reference,
        "judge": key.judge,
        "signature": str(key.signature()),
        "lc_signature": str(key.signature(lc=True)) if key.lc else None,
        "attempts_signature": None if board.attempts is None else str(board.attempts),
        "warnings": list(board.warnings),
        "paper": None if paper is None else f"{paper.authors}, {' / '.join(models)}",
        "rows": [_row(board, row) | {"paper": _published(row, paper, models)} for row in board.rows],
    }


def _models(paper: Published) -> list[str]:
    """The two base models with the most published systems."""
    found = [row.base_model for row in paper.of_systems()]
    return sorted(dict.fromkeys(found), key=lambda model: -found.count(model))[:2]


def _published(row: Row, paper: Published | None, models: Sequence[str]) -> str | None:
    """What was published of this kind of system, of each base model; None if nothing was."""
    if paper is None or row.kind == "control" or row.is_ablation:
        return None
    name = str(row.first.metadata.system.task) if row.kind == "single_task" else None
    values = []
    for model in models:
        same = (r for r in paper.of_systems() if r.base_model == model and r.kind == row.kind)
        values.append(next((f"{r.mean:g}" for r in same if name is None or r.system == name), "–"))
    return None if set(values) == {"–"} else " / ".join(values)


def _row(board: Board, row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "name": row.first.metadata.name,
        "base": row.base_model,
        "kind": row.kind,
        "badge": row.badge,
        "reference": row.is_reference,
        "tie_group": board.groups.get(row.id),
        **{name: score_data(score, sd) for name, (score, sd) in row.scores.items()},
        **form_data(row.form),
        "n": row.win_rate.n_expected,
        "n_judged": row.win_rate.n_judged,
        "members": [{"id": m.id, "revision": m.metadata.revision, "key": payload_key(m)} for m in row.members],
    }


def _with_answers(board: Board, shown: dict[str, Any], outputs: Outputs) -> dict[str, Any]:
    """A board with its gallery and its table by category, where there are answers to read."""
    known = {item.id: (place, item) for place, item in enumerate(load_instructions("builtin").items)}
    rows = [(i, row) for i, row in enumerate(board.rows) if not row.is_control and row.first.instruction_ids]
    if not rows:
        return shown
    ids = rows[0][1].first.instruction_ids
    model = Counter(row.base_model for _, row in rows).most_common(1)[0][0]
    first = sorted(ids, key=lambda i: (known[i][0] if i in known else len(known), i))[:FIRST]
    gallery: list[dict[str, Any]] = [
        {"id": i, "instruction": known[i][1].text.strip() if i in known else None, "answers": []} for i in first
    ]
    for at, row in rows:
        if row.base_model == model and row.kind in GALLERY:
            _add_to_gallery(gallery, at, row.first, outputs(row.first))
    names = {i: known[i][1].category or "other" for i in ids if i in known}
    if len(names) == len(ids):
        by_row = [[(m.preferences, m.attempts) for m in row.members if m.instruction_ids == ids] for row in board.rows]
        shown |= category_table([names[i] for i in ids], by_row, shown["rows"])
    return shown | {"gallery": gallery}


def _add_to_gallery(
    gallery: Sequence[dict[str, Any]], at: int, member: Verified, outputs: Sequence[Mapping[str, Any]]
) -> None:
    answers = {answer["instruction_id"]: answer for answer in outputs}
    tries = dict(zip(member.instruction_ids, decisions(member.attempts).tolist(), strict=False))
    for entry in gallery:
        if (answer := answers.get(entry["id"])) is None:
            continue
        entry["instruction"] = entry["instruction"] or answer.get("instruction")
        decided = tries.get(entry["id"])
        (forms,) = _forms(member, [answer], [entry["id"]])
        shown = [at, answer["output"][:CLIPPED], None if decided is None else bool(decided), forms]
        entry["answers"].append(shown)


def _forms(member: Verified, outputs: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> list[list[str]]:
    """What is wrong with the form of each answer."""
    texts = load_instructions("builtin").texts()
    tags = member.metadata.template.tags if member.metadata.template is not None else []
    return [
        failure_forms(row["output"], row["finish_reason"], row.get("instruction") or texts.get(i, ""), tags)
        for i, row in zip(ids, outputs, strict=True)
    ]


def _facts(verified: Verified) -> list[tuple[str, str | list[str]]]:
    """Name and text, in reading order; what is not known is left out."""
    data = verified.metadata
    facts: list[tuple[str, Any]] = [
        ("what", data.system.description),
        ("seed", data.system.seed),
        ("base model", _join((data.base_model.name, data.base_model.revision, data.base_model.licence))),
        ("recipe", _join(data.recipe and (data.recipe.name, data.recipe.fingerprint))),
        ("data", [_join((d.name, d.licence, d.url)) for d in data.data]),
        ("template", _join(data.template and (data.template.name, data.template.sha256))),
        ("generation", [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in data.generation.items()]),
        ("system instruction", data.system_instruction),
        ("dtype", data.dtype),
        ("run", _join(data.run and (data.run.model, json.dumps(data.run.model_args, ensure_ascii=False)))),
        ("versions", _join(data.run and [f"{name} {version}" for name, version in data.run.versions.items()])),
        ("judge", _join((data.judge.name, data.judge.fingerprint))),
        ("reference", _join((data.reference.name, data.reference.sha256))),
        ("links", list(data.links)),
        ("contact", data.contact),
        ("licence of the answers", data.licence),
        *((name, f"{score.render()}, {score.signature}") for name, score in verified.scores.items()),
    ]
    return [
        (name, value if isinstance(value, list) else str(value)) for name, value in facts if value not in (None, "", [])
    ]


def _join(parts: Any) -> str:
    return ", ".join(str(part) for part in parts or () if part)


@functools.cache
def _code() -> str:
    return sha256_json([sha256_file(Path(str(module))) for module in (__file__, *_FORM_MODULES)])
