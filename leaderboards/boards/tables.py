"""Boards as Markdown, CSV and JSON. Texts from submissions go through `safe_text`; numbers keep their signatures."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any
from urllib.parse import quote

from implicit_if.harness.columns import COLUMNS, FORM, SCORES, notes
from implicit_if.harness.published_numbers import Published, PublishedRow
from implicit_if.harness.safe_text import csv_cell, markdown, markdown_code
from implicit_if.harness.scores import Score
from implicit_if.leaderboards.boards.board import Board
from implicit_if.leaderboards.boards.board_key import BoardKey
from implicit_if.leaderboards.boards.rows import Row
from implicit_if.leaderboards.verification.result import BADGES

_HEAD = {column.label: "left" if column.kind == "text" else "right" for column in COLUMNS}
SUBMISSIONS = "submissions"
LEGEND = textwrap.fill(
    "**How to read this.** Numbers compare only within a table: one instruction set, one reference, one judge, named "
    "by the signature. Brackets: confidence intervals; ±: standard deviation over seeds. "
    f"{notes()} Badge: {', '.join(f'`{name}` ({what})' for name, what in BADGES.items())}. "
    "Systems of one tie group do not differ significantly from the best of it.",
    width=118,
)


def board_markdown(board: Board, figures: Sequence[tuple[str, str]]) -> str:
    """One board: heading, signature, warnings, a table a base model, the controls, figures.

    Args:
        board: The board.
        figures: Alternative text and path of each figure.
    """
    key = board.key
    title = f"{markdown(key.instruction_set)} against {markdown(key.reference)}, judged by {markdown(key.judge)}"
    parts = [f"## {title}", signature_lines(board)]
    parts += [f"**Note:** {markdown(warning, 2_000)}" for warning in board.warnings]
    for heading, rows in sections(board.rows):
        parts += [f"### {heading}", _markdown_table(board, rows)]
    parts += [f"![{markdown(text)}]({quote(path)})" for text, path in figures]
    return "\n\n".join(parts)


def sections(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """The rows by base model, controls last, with Markdown headings."""
    groups = groupby(rows, key=lambda row: None if row.is_control else row.base_model)
    return [("Controls" if model is None else markdown_code(model), list(part)) for model, part in groups]


def signature_lines(board: Board) -> str:
    """The signatures of the table's scores, and other versions of implicit-if than this one."""
    key = board.key
    lines = [f"Attempts: {markdown_code(str(board.attempts), 1_000, cell=False)}"] if board.attempts else []
    lines += [f"Win rate: {markdown_code(str(key.signature()), 1_000, cell=False)}"]
    if key.lc:
        lines.append(f"LC win rate: {markdown_code(str(key.signature(lc=True)), 1_000, cell=False)}")
    others = sorted({v for row in board.rows for v in row.versions} - {key.signature().version})
    if others:
        lines.append(f"Some numbers are from implicit-if {markdown(', '.join(others))}.")
    return "  \n".join(lines)


def published_markdown(tables: Sequence[Published], *, rules: bool) -> str:
    """Published numbers, a table a source, marked as not made here."""
    parts = []
    for table in tables:
        rows = table.of_rules() if rules else table.of_systems()
        if not rows:
            continue
        body = [[markdown(r.base_model), markdown(r.system), _published(r), markdown(r.table)] for r in rows]
        parts += [
            f"## Published: {markdown(table.title)}",
            f"Numbers from [{markdown(table.authors)}]({table.url}), **not made or checked here** and not "
            f"comparable with any table above. Instructions: {markdown(table.instruction_set)}. "
            f"Reference: {markdown(table.reference)}. Judge: {markdown(table.judge)}. {markdown(table.note, 500)}",
            _tabulate(
                body, {"base model": "left", "system": "left", f"published {table.metric}": "right", "from": "left"}
            ),
        ]
    return "\n\n".join(parts)


def boards_csv(boards: Iterable[Board]) -> bytes:
    """One line a row of any board; the signatures say which lines may be compared."""
    file = io.StringIO()
    numbers = [f"{column.name}{end}" for column in SCORES for end in ("", "_low", "_high", "_sd", "_signature")]
    head = ["board", "base_model", "kind", "system", "name", "revisions", "seeds", *numbers]
    head += [column.name for column in FORM]
    writer = csv.DictWriter(file, [*head, "n_judged", "n_expected", "judge", "badge", "tie_group"], lineterminator="\n")
    writer.writeheader()
    for board in boards:
        for row in board.rows:
            record = row_json(board, row)
            cells: dict[str, Any] = {"board": board.key.slug, **{name: record[name] for name in ("kind", "badge")}}
            cells |= {name: csv_cell(record[name]) for name in ("base_model", "system", "name")}
            cells |= {"revisions": csv_cell(" ".join(record["revisions"]), 5_000)}
            cells |= {"seeds": " ".join("none" if seed is None else str(seed) for seed in record["seeds"])}
            cells |= record["form"] | {"judge": csv_cell(board.key.judge), "tie_group": record["tie_group"]}
            cells |= {name: getattr(row.win_rate, name) for name in ("n_judged", "n_expected")}
            for column in SCORES:
                cells |= _score_cells(column.name, record[column.name], record[f"{column.name}_sd"])
            writer.writerow(cells)
    return file.getvalue().encode("utf-8")


def boards_json(boards: Iterable[Board], published: Sequence[Published], *, rules: bool) -> bytes:
    """Everything in the tables, unrounded."""
    value = {
        "schema_version": 1,
        "boards": [
            {
                "board": board.key.slug,
                **_key_json(board.key),
                "attempts_signature": None if board.attempts is None else str(board.attempts),
                "warnings": list(board.warnings),
                "rows": [row_json(board, row) for row in board.rows],
            }
            for board in boards
        ],
        "published": [
            table.model_dump(exclude={"rows"})
            | {"rows": [row.model_dump() for row in (table.of_rules() if rules else table.of_systems())]}
            for table in published
        ],
    }
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def row_json(board: Board, row: Row) -> dict[str, Any]:
    """One row, unrounded."""
    return {
        "base_model": row.base_model,
        "kind": row.kind,
        "system": row.label,
        "name": row.first.metadata.name,
        "revisions": [member.metadata.revision for member in row.members],
        "submissions": [member.id for member in row.members],
        "seeds": [member.metadata.system.seed for member in row.members],
        "badge": row.badge,
        "tie_group": board.groups.get(row.id),
        **_scores_json(row),
        "form": dict(row.form),
        "notes": [note for member in row.members for note in member.notes],
    }


def _scores_json(row: Row) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, (score, sd) in row.scores.items():
        scores |= {name: None if score is None else score.model_dump(), f"{name}_sd": sd}
    return scores


def number(score: Score | None, sd: float | None) -> str:
    """A score as the tables show it: value, ± sd over seeds, [interval]."""
    return "-" if score is None else score.bracketed(sd)


def _markdown_table(board: Board, rows: Sequence[Row]) -> str:
    return _tabulate([_cells(board, row) for row in rows], _HEAD)


def _cells(board: Board, row: Row) -> list[str]:
    judged, expected = row.win_rate.n_judged, row.win_rate.n_expected
    cells = {
        "system": markdown(row.label),
        "name": _links(row),
        "seeds": _seeds(row),
        "n": str(expected) if judged == expected else f"{judged} of {expected}",
        "judge": markdown_code(board.key.judge),
        "badge": row.badge,
        "tie_group": str(board.groups.get(row.id, "-")),
    }
    cells |= {column.name: number(*row.scores[column.name]) for column in SCORES}
    cells |= {column.name: column.show(row.form[column.name]) for column in FORM}
    return [cells[column.name] for column in COLUMNS]


def _links(row: Row) -> str:
    """The name with a link to the submission; of several seeds a link each."""
    name, *more = row.members
    shown = markdown_code(f"{name.metadata.name}@{name.metadata.revision[:12]}" if not more else name.metadata.name)
    if not more:
        return f"[{shown}]({SUBMISSIONS}/{quote(row.id)})"
    links = [f"[{i}]({SUBMISSIONS}/{quote(member.id)})" for i, member in enumerate(row.members, start=1)]
    return f"{shown} {' '.join(links)}"


def _seeds(row: Row) -> str:
    seeds = [str(m.metadata.system.seed) for m in row.members if m.metadata.system.seed is not None]
    if len(row.members) == 1:
        return f"1 (seed {seeds[0]})" if seeds else "1"
    return f"{len(row.members)} ({', '.join(seeds)})" if seeds else str(len(row.members))


def _published(row: PublishedRow) -> str:
    return f"{row.mean} ± {row.sd}"


def _score_cells(name: str, score: Mapping[str, Any] | None, sd: float | None) -> dict[str, Any]:
    if score is None:
        return {}
    interval = score["interval"] or {"low": None, "high": None}
    return {
        name: score["value"],
        f"{name}_low": interval["low"],
        f"{name}_high": interval["high"],
        f"{name}_sd": sd,
        f"{name}_signature": csv_cell(score["signature"]),
    }


def _key_json(key: BoardKey) -> dict[str, Any]:
    return {
        "signature": str(key.signature()),
        "lc_signature": str(key.signature(lc=True)) if key.lc else None,
        **asdict(key),
    }


def _tabulate(rows: Sequence[Sequence[str]], head: Mapping[str, str]) -> str:
    import tabulate

    # with wcwidth installed wide characters are padded otherwise, and the same rows would give other bytes
    before, tabulate.WIDE_CHARS_MODE = tabulate.WIDE_CHARS_MODE, False
    try:
        table = tabulate.tabulate(
            rows, headers=list(head), tablefmt="pipe", disable_numparse=True, colalign=list(head.values())
        )
    finally:
        tabulate.WIDE_CHARS_MODE = before
    return str(table)
