"""What token shift looks like: tables as Markdown, a figure by position, and answers coloured by rank."""

from __future__ import annotations

import html
from collections.abc import Sequence

from implicit_if.harness.analysis.figures import Curve, curves
from implicit_if.harness.analysis.token_shift import CATEGORIES, PUBLISHED, RankedAnswer, RankedToken, TokenShift
from implicit_if.harness.safe_text import markdown, markdown_code, printable

_ANSI = {"unshifted": "", "marginal": "\x1b[33m", "shifted": "\x1b[1;31m"}
_RESET = "\x1b[0m"


def shift_table(shifts: Sequence[TokenShift]) -> str:
    """Systems side by side, published shares, which rule moved tokens, and the most shifted tokens."""
    lines = [
        "| system | answers | tokens | unshifted | marginal | shifted | end of sequence: first choice |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in shifts:
        cells = " | ".join(str(found.shares[name]) for name in CATEGORIES)
        own = sum(token.rank == 1 for token in found.ends)
        ends = f"{own} of {len(found.ends)}" if found.ends else "none ended"
        lines.append(f"| {markdown(found.system)} | {len(found.answers)} | {len(found.tokens)} | {cells} | {ends} |")
    lines += [
        "",
        "Percent of tokens, 95 % intervals over answers. Unshifted: the base's first choice; marginal: its second or "
        "third; shifted: beyond.",
        "",
        "Published shifted shares (Lin et al. 2023, other models and prompts): "
        + ", ".join(f"{n} {v} %" for n, v in PUBLISHED)
        + ".",
        "",
    ]
    for found in shifts:
        if found.movers:
            whole = sum(found.movers.values())
            shares = ", ".join(f"{markdown(rule)} {100 * n / whole:.0f} %" for rule, n in found.movers.items())
            lines += [f"{markdown(found.system)}: of {whole} tokens that a rule moved, moved furthest by {shares}.", ""]
    for found in shifts:
        if words := found.most_shifted(10):
            told = ", ".join(f"{markdown_code(repr(t))} {n}× (base: {markdown_code(repr(b))})" for t, n, b in words)
            lines += [f"Most shifted of {markdown(found.system)}: {told}", ""]
    lines += [
        f"{markdown(found.system)}: {sum(not a.exact for a in found.answers)} of {len(found.answers)} answers could "
        f"not be tokenized back to their exact text."
        for found in shifts
        if not all(answer.exact for answer in found.answers)
    ]
    lines += [
        f"{markdown(found.system)}: {sum(a.cut for a in found.answers)} of {len(found.answers)} answers count up to a "
        f"passage of training data that is withheld from the stored text."
        for found in shifts
        if any(answer.cut for answer in found.answers)
    ]
    return "\n".join([*lines, "", *sorted({f"`{found.signature}`" for found in shifts}), ""])


def shift_figure(shifts: Sequence[TokenShift]) -> str:
    """Percent shifted by position in the answer, a line a system; fewer than 20 tokens give no point."""
    steps = [name for name, _, _ in shifts[0].by_position]
    lines = [Curve(s.system, [value if n >= 20 else None for _, n, value in s.by_position]) for s in shifts]
    used = [i for i in range(len(steps)) if any(line.values[i] is not None for line in lines)]
    shown = [Curve(line.label, [line.values[i] for i in used]) for line in lines]
    title = "Shifted tokens by position in the answer"
    return curves(title, "position (tokens)", "percent shifted", [steps[i] for i in used], shown)


def colour_answer(answer: RankedAnswer) -> str:
    """The answer for a terminal: marginal tokens yellow, shifted ones red."""
    parts = []
    for token in answer.tokens:
        colour = _ANSI[token.category]
        shown = printable(token.text)
        parts.append(f"{colour}{shown}{_RESET}" if colour else shown)
    return "".join(parts)


def shift_page(shifts: Sequence[TokenShift], most: int = 20) -> str:
    """One HTML file, without requests: the first answers of every system side by side, coloured by rank.

    Args:
        shifts: Systems.
        most: Answers shown of each.
    """
    rows = []
    instructions = list(dict.fromkeys(a.instruction for s in shifts for a in s.answers))[:most]
    for instruction in instructions:
        cells = []
        for found in shifts:
            answer = next((a for a in found.answers if a.instruction == instruction), None)
            if answer is not None:
                body = "".join(_span(token) for token in [*answer.tokens, *([answer.end] if answer.end else [])])
                cells.append(f"<div><h3>{_text(found.system)}</h3><p class=a>{body}</p></div>")
        rows.append(f"<section><h2>{_text(instruction)}</h2><div class=g>{''.join(cells)}</div></section>")
    head = "".join(
        f"<tr><th scope=row>{_text(s.system)}</th>"
        + "".join(f"<td>{_text(str(s.shares[name]))}</td>" for name in CATEGORIES)
        + "</tr>"
        for s in shifts
    )
    return _PAGE.format(head=head, rows="".join(rows), figure=shift_figure(shifts))


def _span(token: RankedToken) -> str:
    told = f"rank {token.rank}; base: {token.base_choice!r}" if token.rank > 1 else "rank 1"
    if token.mover is not None:
        told += "; " + ", ".join(f"{name} {value:+.2f}" for name, value in token.moved.items() if abs(value) >= 0.005)
    return f'<span class={token.category} title="{_text(told)}">{_text(token.text)}</span>'


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Token shift</title><style>
:root {{ color-scheme: light dark; --bg: #ffffff; --ink: #1f2430; --line: #d9dce3; --m: #ffe9a8; --s: #ffc2b8; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --bg: #14171d; --ink: #e8eaf0; --line: #3a4150; --m: #5c4a10; --s: #7a2a1e; }}
}}
body {{ background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto;
  max-width: 75rem; padding: 0 1rem; }}
h2 {{ font-size: 1.05rem; white-space: pre-wrap; overflow-wrap: anywhere; border-top: 1px solid var(--line);
  padding-top: 1rem; }}
h3 {{ font-size: .9rem; margin: .3rem 0; }}
.g {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }}
.a {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .9rem; }}
.marginal {{ background: var(--m); text-decoration: underline dotted; }}
.shifted {{ background: var(--s); text-decoration: underline; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }}
.f {{ overflow-x: auto; }} .f svg {{ max-width: 100%; height: auto; }}
@media print {{ section {{ break-inside: avoid; }} * {{ print-color-adjust: exact; }} }}
</style></head><body><h1>Token shift</h1>
<p>Each token of an answer has a rank under the base model, after the same prompt and the same beginning:
<span class=unshifted>unshifted</span> (its first choice), <span class=marginal>marginal</span> (second or third),
<span class=shifted>shifted</span> (beyond). Point at a token for its rank and what the base wanted.</p>
<div class=f><table><tr><th>percent of tokens</th><th>unshifted</th><th>marginal</th><th>shifted</th></tr>{head}</table>
</div><div class=f>{figure}</div>{rows}</body></html>
"""
