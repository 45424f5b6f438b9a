"""Runs as one table: which numbers may share it, seeds brought together, and LaTeX, Markdown or CSV for a paper.

Numbers are rounded by `Score.bracketed` and `Column.show`, as everywhere; CSV holds them unrounded.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from implicit_if.harness import stats
from implicit_if.harness.answer_settings import NOTHING_KNOWN
from implicit_if.harness.columns import ATTEMPTS, COLUMNS, FORM, SCORES, Column
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.judging.registry import backend_of, length_prior
from implicit_if.harness.safe_text import csv_cell, latex, markdown, markdown_code, one_line
from implicit_if.harness.scores import Score
from implicit_if.harness.signature import Signature
from implicit_if.harness.stats.length_control.offline_model import length_model
from implicit_if.harness.stats.seeds import length_controlled_over_seeds
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.system_kinds import Kind
from implicit_if.leaderboards.runs.run import Run

FORMATS = ("latex", "markdown", "csv")
_CHOICES = tuple(column for column in COLUMNS if column.kind in ("score", "form") or column.name == "n")


@dataclass(frozen=True)
class TableRow:
    """One system of a table.

    Attributes:
        name: Its name, another in every row.
        scores: By metric.
        sds: Standard deviation over seeds in percentage points, by metric; of one seed none.
        form: Measures of form, a mean over seeds.
        n_seeds: Seeds behind the numbers.
        kind: What was done to the base model, where that is known.
    """

    name: str
    scores: Mapping[str, Score]
    sds: Mapping[str, float]
    form: Mapping[str, float | None]
    n_seeds: int = 1
    kind: Kind | None = None


@dataclass(frozen=True)
class Table:
    """Systems whose numbers may be compared.

    Attributes:
        rows: In the order given.
        columns: Those shown.
        signatures: What the numbers of each score share, by its column's name.
        notes: What a reader must know, a sentence each.
    """

    rows: tuple[TableRow, ...]
    columns: tuple[Column, ...]
    signatures: Mapping[str, Signature]
    notes: tuple[str, ...]


def make_table(systems: Sequence[tuple[str | None, Sequence[Run]]], columns: Sequence[str] = ()) -> Table:
    """The table of several systems.

    Args:
        systems: Each with the name the user gave, if any, and its runs: several under one name are seeds of it.
        columns: Names of the columns to show; none shows every column that a row has something in.

    Raises:
        UserError: For an unknown column, a name that stands twice, seeds that do not belong together, or numbers that
            may not share a table.
    """
    known = {column.name: column for column in _CHOICES}
    for name in columns:
        if name not in known:
            raise unknown_name("column", name, known)
    rows = _named([(given, _row(given, runs), runs[0].long_name) for given, runs in systems])
    shown = tuple(known[name] for name in columns) or tuple(c for c in _CHOICES if any(_has(row, c) for row in rows))
    signatures, notes = {}, []
    for column in shown:
        if column.kind == "score":
            shared, unknown = _shared(column, rows)
            if shared is not None:
                signatures[column.name] = shared
            notes += unknown
    judge = next((s.judge for name, s in signatures.items() if name != ATTEMPTS), None)
    backend = None if judge is None else backend_of(judge)
    if backend is not None and backend.caution:
        notes.insert(0, f"{backend.caution[:1].upper()}{backend.caution[1:]}")
    return Table(rows, shown, signatures, tuple(dict.fromkeys(notes)))


def render(table: Table, form: str) -> str:
    """The table as `latex`, `markdown` or `csv`, with its signatures and notes; ends with a newline."""
    return {"latex": _latex, "markdown": _markdown, "csv": _csv}[form](table)


def cell(row: TableRow, column: Column) -> str:
    """What a table shows of a row in a column, rounded; plain text."""
    if column.kind == "form":
        return column.show(row.form.get(column.name))
    score = _counted(row) if column.name == "n" else row.scores.get(column.metric)
    if score is None:
        return "-"
    coverage = "" if score.complete else f"{score.n_judged} of {score.n_expected}"
    if column.name == "n":
        return coverage or str(score.n_expected)
    return score.bracketed(row.sds.get(column.metric)) + (f" ({coverage})" if coverage else "")


def _row(given: str | None, runs: Sequence[Run]) -> TableRow:
    first = runs[0]
    if len(runs) == 1:
        return TableRow(given or first.name, first.scores, {}, first.form, 1, first.kind)
    name = given or first.name
    for run in runs:
        if not run.ids:
            raise UserError(f"{name}: one of its seeds has no verdicts of its own. Expected runs with answers.")
        if run.ids != first.ids:
            raise UserError(
                f"{name}: its seeds were judged on different instructions ({len(first.ids)} and {len(run.ids)}). "
                f"Expected the same ones, all judged."
            )
    told = [_comparable(run.scores["win_rate"].settings, reference=False) for run in runs]
    if len(set(told)) > 1:
        raise UserError(f"{name}: its runs differ in {_difference(told[0], told[-1])}, so they are no seeds of it.")
    scores, sds = _over_seeds(runs)
    form = {c.name: _mean([run.form.get(c.name) for run in runs]) for c in FORM}
    return TableRow(name, scores, sds, form, len(runs), first.kind)


def _over_seeds(runs: Sequence[Run]) -> tuple[dict[str, Score], dict[str, float]]:
    first = runs[0]
    plain = first.scores["win_rate"].settings
    hashes = sorted({run.reference_sha256 for run in runs})
    if len(hashes) > 1:  # each seed against the same seed of its reference, as in the paper
        plain = replace(plain, reference_hash=sha256_json(hashes)[:8])
    options: dict[str, Any] = {"n_expected": plain.n}
    prior = length_prior(plain.judge)
    models = [length_model(r.preferences, r.lengths[0], r.lengths[1], ids=r.ids, prior=prior) for r in runs]
    controlled = first.scores["length_controlled_win_rate"].settings
    found = {
        "win_rate": (stats.over_seeds(np.stack([r.preferences for r in runs]), first.ids, **options), plain),
        "length_controlled_win_rate": (
            length_controlled_over_seeds(models, **options),
            replace(controlled, reference_hash=plain.reference_hash),
        ),
    }
    if all(run.attempts.size == len(first.ids) for run in runs) and ATTEMPTS in first.scores:
        decided = np.stack([run.attempts for run in runs])
        found[ATTEMPTS] = stats.over_seeds(decided, first.ids, **options), first.scores[ATTEMPTS].settings
    scores = {metric: summary.estimate.signed(signature) for metric, (summary, signature) in found.items()}
    return scores, {metric: summary.sd for metric, (summary, _) in found.items() if summary.sd is not None}


def _named(rows: Sequence[tuple[str | None, TableRow, str]]) -> tuple[TableRow, ...]:
    """The rows under names that differ: where short names repeat, the long ones stand."""
    counts = Counter(row.name for _, row, _ in rows)
    named = [
        replace(row, name=long) if given is None and long and counts[row.name] > 1 else row for given, row, long in rows
    ]
    twice = [name for name, count in Counter(row.name for row in named).items() if count > 1]
    if twice:
        raise UserError(
            f"{len(twice)} names stand twice (first: {one_line(twice[0])}). Give names, NAME=RUN; seeds of one system "
            f"are NAME=RUN,RUN."
        )
    return tuple(named)


def _shared(column: Column, rows: Sequence[TableRow]) -> tuple[Signature | None, list[str]]:
    """What a score's numbers share: law 1, with the first row's version."""
    told = [(row, row.scores[column.metric].settings) for row in rows if column.metric in row.scores]
    if not told:
        return None, []
    known = [(row, s) for row, s in told if s.answers.of_table != NOTHING_KNOWN]
    (first, signature), *_ = known or told
    wanted = _comparable(signature)
    for row, found in told:
        mine = _comparable(found)
        if found.answers.of_table == NOTHING_KNOWN:
            mine = replace(mine, answers=wanted.answers)
        if mine != wanted:
            raise UserError(
                f"{one_line(first.name)} and {one_line(row.name)} differ in {_difference(wanted, mine)} "
                f"({column.label}). Such numbers never share a table: make one table each, or leave the column out "
                f"with --columns."
            )
    unknown = [row.name for row, s in told if s.answers.of_table == NOTHING_KNOWN and row.kind != "control" and known]
    notes = [f"How {', '.join(map(one_line, unknown))} answered is not recorded."] if unknown else []
    versions = sorted({s.version for _, s in told} - {signature.version})
    if versions:
        notes.append(f"Some numbers are from implicit-if {', '.join(versions)}.")
    types = {s.answers.dtype for _, s in told}
    return (signature if len(types) == 1 else replace(signature, answers=wanted.answers)), notes


def _comparable(signature: Signature, *, reference: bool = True) -> Signature:
    """The signature without what may differ within a table; without `reference` also without its hash."""
    kept = replace(signature, version="any", answers=signature.answers.of_table)
    return kept if reference or kept.reference is None else replace(kept, reference_hash="0" * 8, reference="any")


def _difference(a: Signature, b: Signature) -> str:
    parts = [f"{x} and {y}" for x, y in zip(str(a).split("|"), str(b).split("|"), strict=False) if x != y]
    return "; ".join(parts[:3]) or "their settings"


def _has(row: TableRow, column: Column) -> bool:
    if column.name == "n":
        return bool(row.scores)
    return (row.scores.get(column.metric) if column.kind == "score" else row.form.get(column.name)) is not None


def _counted(row: TableRow) -> Score | None:
    return row.scores.get("win_rate") or row.scores.get(ATTEMPTS)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _legend(table: Table) -> list[str]:
    """What a reader must know, in plain text."""
    intervals = {
        score.interval.level
        for row in table.rows
        for column in table.columns
        if (score := row.scores.get(column.metric)) is not None and score.interval is not None
    }
    lines = [f"Brackets: {level:.0%} intervals." for level in sorted(intervals)]
    if any(row.sds for row in table.rows):
        lines.append("±: standard deviation over seeds.")
    return [*lines, *(column.note for column in table.columns if column.note), *table.notes]


def _head(table: Table) -> list[str]:
    seeds = ["seeds"] if any(row.n_seeds > 1 for row in table.rows) else []
    return ["system", *seeds, *(column.label for column in table.columns)]


def _cells(table: Table, row: TableRow) -> list[str]:
    seeds = [str(row.n_seeds)] if any(each.n_seeds > 1 for each in table.rows) else []
    return [*seeds, *(cell(row, column) for column in table.columns)]


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    rows = [[markdown(row.name), *_cells(table, row)] for row in table.rows]
    head = _head(table)
    lines = [
        str(tabulate(rows, head, "pipe", disable_numparse=True, colalign=["left", *["right"] * (len(head) - 1)])),
        " ".join(_legend(table)),
        *(f"{_label(name)}: {markdown_code(str(s), 1_000, cell=False)}" for name, s in table.signatures.items()),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _latex(table: Table) -> str:
    head = _head(table)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(latex, [row.name, *_cells(table, row)])) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{latex(' '.join(_legend(table)), 2_000)}}}",
        *(
            rf"\par{{\scriptsize\raggedright {latex(_label(name))}: \texttt{{"
            + latex(str(s), 1_000).replace(r"\textbar{}", r"\textbar{}\allowbreak{}")
            + r"}\par}"
            for name, s in table.signatures.items()
        ),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _csv(table: Table) -> str:
    file = io.StringIO()
    scores = [column for column in table.columns if column.kind == "score"]
    ends = ("", "_low", "_high", "_sd", "_n_judged", "_n_expected", "_signature")
    head = ["system", "seeds", *(f"{column.name}{end}" for column in scores for end in ends)]
    head += [column.name for column in table.columns if column.kind == "form"]
    writer = csv.DictWriter(file, head, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        cells: dict[str, Any] = {"system": csv_cell(row.name), "seeds": row.n_seeds}
        for column in scores:
            score = row.scores.get(column.metric)
            if score is None:
                continue
            low, high = (None, None) if score.interval is None else score.interval.ends
            values = (score.value, low, high, row.sds.get(column.metric), score.n_judged, score.n_expected)
            cells |= dict(zip((column.name + end for end in ends), (*values, str(score.settings)), strict=True))
        cells |= {column.name: row.form.get(column.name) for column in table.columns if column.kind == "form"}
        writer.writerow(cells)
    return file.getvalue()


def _label(name: str) -> str:
    return {column.name: column.label.removesuffix(" %") for column in SCORES}[name]
