"""What the page shows: rows of all boards, and a payload of answers a submission. Plain values, ready for JSON.

A payload's key is a hash over the submission's bytes and this module's, so a payload file that is there is right.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.columns import COLUMNS, FORM
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.pairs import Pair
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import sha256_file, sha256_json
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.published import Published
from implicit_if.leaderboards.boards.rows import Row
from implicit_if.leaderboards.verification.result import Verified

_ESCAPED = re.compile("[<>&\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What could end a script element, break a line, reorder text in an editor, or is no text; JSON escapes the rest."""


def dump(value: Any) -> str:
    """JSON that may stand in an HTML script element and in a script; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def page_rows(boards: Sequence[tuple[Board, Board | None]], published: Sequence[Published]) -> list[dict[str, Any]]:
    """Every table of the page: systems and rules of each board, then what was published."""
    tables = [
        _board(board, rules) for main, ablation in boards for board, rules in ((main, False), (ablation, True)) if board
    ]
    return tables + [
        {
            "slug": f"published-{number}",
            "published": True,
            **table.model_dump(exclude={"rows"}),
            "rows": [row.model_dump() | {"shown": f"{row.mean} ± {row.sd}"} for row in table.rows],
        }
        for number, table in enumerate(published, start=1)
    ]


def page_columns() -> list[dict[str, Any]]:
    """What the page's table must know of each column; those of links and judges are not on it."""
    return [
        {"name": column.name, "label": column.label, "kind": column.kind, "digits": column.digits}
        for column in COLUMNS
        if column.name not in ("name", "judge")
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
            "outputs": [row["output"] for row in outputs],
            "finish": [row["finish_reason"] for row in outputs],
            "tokens": [row["n_tokens"] for row in outputs],
            "attempts": verified.attempts.round(4).tolist() or None,
            "preferences": verified.preferences.round(4).tolist(),
            "orders": {order: values.round(4).tolist() for order, values in verified.by_order.items()},
        }
    return shown


def pairing(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What submissions share that answered one set and were judged against one reference; texts only if shippable."""
    categories = {item.id: item.category for item in load_instructions("builtin").items}
    return {
        "ids": [pair.instruction_id for pair in pairs],
        "texts": [pair.instruction.strip() or None for pair in pairs],
        "categories": [categories.get(pair.instruction_id) for pair in pairs],
        "outputs": [pair.reference.output for pair in pairs],
    }


def characters(verified: Verified) -> float:
    """Characters of a submission's answers: each is at least a byte of its payload."""
    return (verified.form.get("avg_length") or 0.0) * len(verified.instruction_ids)


def _board(board: Board, rules: bool) -> dict[str, Any]:
    key = board.key
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
        "rows": [_row(board, row) for row in board.rows],
    }


def _row(board: Board, row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "name": row.first.metadata.name,
        "base": row.base_model,
        "kind": row.kind,
        "badge": row.badge,
        "tie_group": board.groups.get(row.id),
        **{name: None if score is None else _score(score, sd) for name, (score, sd) in row.scores.items()},
        **{column.name: row.form[column.name] for column in FORM},
        "n": row.win_rate.n_expected,
        "n_judged": row.win_rate.n_judged,
        "members": [{"id": m.id, "revision": m.metadata.revision, "key": payload_key(m)} for m in row.members],
    }


def _score(score: Score, sd: float | None) -> dict[str, float | None]:
    ends = (None, None) if score.interval is None else (score.interval.low, score.interval.high)
    return {"value": score.value, "low": ends[0], "high": ends[1], "sd": sd}


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
    return sha256_file(Path(__file__))
