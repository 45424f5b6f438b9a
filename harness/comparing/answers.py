"""The answers of several systems beside each other, of the instructions that they differ most on."""

from __future__ import annotations

from collections.abc import Sequence

from implicit_if.harness.comparing.preference_table import PreferenceTable
from implicit_if.harness.outputs import Output
from implicit_if.harness.side_by_side import side_by_side


def most_different(table: PreferenceTable, count: int) -> list[str]:
    """The instructions with the widest spread of preferences (mean over seeds) between systems, widest first."""
    means = [values.mean(axis=0) for values in table.preferences.values()]
    spread = {i: max(m[k] for m in means) - min(m[k] for m in means) for k, i in enumerate(table.ids)}
    return sorted(table.ids, key=lambda i: (-spread[i], i))[:count]


def render_answers(table: PreferenceTable, instruction_id: str, answers: Sequence[Output], limit: int = 1000) -> str:
    """One instruction with every system's answer and preference, side by side for two systems, else stacked.

    Args:
        table: See `loading.make_table`.
        instruction_id: Which instruction.
        answers: One a system, in the table's order.
        limit: Characters shown of each text; what is cut is said.
    """
    position = table.ids.index(instruction_id)
    text = next((a.instruction for a in answers if a.instruction is not None), None)
    shown = [
        (f"{name}: {values[:, position].mean():.2f}", answer.output)
        for (name, values), answer in zip(table.preferences.items(), answers, strict=True)
    ]
    return side_by_side(text, shown, limit)
