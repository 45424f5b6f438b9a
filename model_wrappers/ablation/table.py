"""The ablation's table: the columns of the paper's Table 4, measures of form, and the signatures of its numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.columns import ATTEMPTS, FORM, SCORES, form_cells, notes, score_cells
from implicit_if.harness.references import BASE
from implicit_if.harness.safe_text import markdown_cell, markdown_code
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import atomic_write, write_json
from implicit_if.model_wrappers.rules.presets import Preset

_SCORES = tuple(column.metric for column in SCORES)
_ATTEMPTS_JUDGED = f"{ATTEMPTS}_n_judged"
_HEAD = ("system", *(column.label for column in (*SCORES, *FORM)), "judged")


@dataclass(frozen=True)
class AblationRow:
    """One system.

    Attributes:
        system: Its name.
        preset: Its rules.
        form: See `answer_form.form_of`.
        scores: By metric; no win rates for the base model where it is the reference.
    """

    system: str
    preset: Preset
    form: Mapping[str, float | None]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class AblationTable:
    """The ablation.

    Attributes:
        rows: The base model first.
        setting: What all rows share: model, rules, template, generation arguments.
        n_expected: Instructions in the whole set, also where only the first of them were answered.
    """

    rows: Sequence[AblationRow]
    setting: Mapping[str, Any]
    n_expected: int

    @property
    def complete(self) -> bool:
        """Whether every answer was judged."""
        return all(score.complete for row in self.rows for score in row.scores.values())

    def as_text(self) -> str:
        """The table for a terminal."""
        return self._render("simple")

    def as_markdown(self) -> str:
        """The table for a page."""
        return self._render("github")

    def as_json(self) -> dict[str, Any]:
        """Everything in the table, unrounded."""
        return {
            "setting": dict(self.setting),
            "n_expected": self.n_expected,
            "rows": [
                {
                    "system": row.system,
                    "preset": row.preset.name,
                    "preset_sha256": row.preset.sha256,
                    **row.form,
                    "scores": {metric: score.model_dump() for metric, score in row.scores.items()},
                }
                for row in self.rows
            ],
        }

    def as_csv(self) -> str:
        """One line a system; no win rates where the base model is the reference."""
        file = io.StringIO()
        head = [f"{metric}{end}" for metric in _SCORES for end in ("", "_low", "_high", "_signature")]
        writer = csv.DictWriter(
            file,
            ["system", *head, _ATTEMPTS_JUDGED, *(column.name for column in FORM), "n_judged", "n_expected"],
            lineterminator="\n",
        )
        writer.writeheader()
        for row in self.rows:
            cells: dict[str, Any] = {"system": row.system, **row.form}
            for metric in _SCORES:
                if metric in row.scores:
                    score = row.scores[metric]
                    cells |= {metric: score.value, f"{metric}_signature": str(score.signature)}
                    judged = _ATTEMPTS_JUDGED if metric == ATTEMPTS else "n_judged"
                    cells |= {judged: score.n_judged, "n_expected": self.n_expected}
                    if score.interval is not None:
                        cells |= {f"{metric}_low": score.interval.low, f"{metric}_high": score.interval.high}
            writer.writerow(cells)
        return file.getvalue()

    def write(self, folder: Path) -> None:
        """Writes `table.md`, `table.csv` and `table.json`; the same answers and verdicts give the same bytes."""
        for name, text in (("table.md", self.as_markdown() + "\n"), ("table.csv", self.as_csv())):
            with atomic_write(folder / name) as file:
                file.write(text)
        write_json(folder / "table.json", self.as_json())

    def _render(self, style: str) -> str:
        from tabulate import tabulate

        page = style == "github"
        rows = []
        for row in self.rows:
            name = markdown_cell(markdown_code(row.system, cell=False)) if page else row.system
            form = form_cells(row.form)
            judged = f"{row.scores['win_rate'].n_judged} of {self.n_expected}" if "win_rate" in row.scores else ""
            rows.append([name, *score_cells(row.scores, "reference"), *form, judged])
        table = tabulate(rows, headers=_HEAD, tablefmt=style, disable_numparse=True)
        signatures = dict.fromkeys(
            str(row.scores[m].signature) for m in _SCORES for row in self.rows if m in row.scores
        )
        lines = [
            f"signature: {markdown_code(signature, 1_000, cell=False) if page else signature}"
            for signature in signatures
        ]
        return ("\n\n" if page else "\n").join([table, self._notes(), *lines])

    def _notes(self) -> str:
        level = next((s.interval.level for r in self.rows for s in r.scores.values() if s.interval is not None), None)
        interval = "" if level is None else f" Brackets: {level:.0%} intervals."
        s = self.setting
        return (
            f"Win rates are against {_against(s['reference'])}.{interval} {notes()} Model {s['model']} "
            f"({s['model_identity'][:8]}, {s['dtype']}), rules {s['rules']}, template {s['template']}, greedy, at most "
            f"{s['generation']['max_gen_toks']} tokens."
        )


def _against(reference: str) -> str:
    return "the base model" if reference == BASE else reference
