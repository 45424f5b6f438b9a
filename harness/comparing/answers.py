"""The answers of several systems beside each other, of the instructions that they differ most on."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from implicit_if.harness.comparing.loading import PreferenceTable
from implicit_if.harness.outputs import Output
from implicit_if.harness.safe_text import one_line, printable

_WIDTH = 100


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
    question = "(no text stored)" if text is None else _block(text, limit, _WIDTH)
    width = (_WIDTH - 3) // 2 if len(answers) == 2 else _WIDTH
    blocks = []
    for (name, values), answer in zip(table.preferences.items(), answers, strict=True):
        head = f"{one_line(name)}: {values[:, position].mean():.2f}"
        blocks.append(f"{head}\n{'-' * len(head)}\n{_block(answer.output, limit, width) or '(empty)'}")
    body = _side_by_side(blocks[0], blocks[1], width) if len(blocks) == 2 else "\n\n".join(blocks)
    return f"{'=' * _WIDTH}\n{question}\n\n{body}"


def _block(text: str, limit: int, width: int) -> str:
    shown = text[:limit]
    lines = [
        part
        for line in shown.split("\n")
        for part in textwrap.wrap(printable(line), width, drop_whitespace=False) or [""]
    ]
    if len(text) > limit:
        lines.append(f"[{len(text) - limit} more characters]")
    return "\n".join(lines)


def _side_by_side(left: str, right: str, width: int) -> str:
    rows = itertools.zip_longest(left.split("\n"), right.split("\n"), fillvalue="")
    return "\n".join(f"{a:<{width}} | {b}".rstrip() for a, b in rows)
