"""An audit as Markdown and as one HTML file without requests. Every text of a model is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from implicit_if.harness.analysis.adherence_cli import adherence_figure
from implicit_if.harness.analysis.audit.probes import KINDS
from implicit_if.harness.analysis.audit.report import LABELS, AuditReport, Rate
from implicit_if.harness.safe_text import markdown, markdown_code, printable

_SHOWN = 600
"""Characters of an answer that are shown."""


def audit_markdown(report: AuditReport) -> str:
    """The report as Markdown."""
    systems = _systems(report)
    lines = [
        f"# How much of a general chatbot is {markdown(report.model)}?",
        "",
        f"Base: {markdown(report.base)}. All intervals are 95 %.",
        "",
        "## Findings",
        "",
        *(f"- {finding}" for finding in report.findings()),
        "",
        "## Rates",
        "",
        "| | " + " | ".join(systems) + " |",
        "|---|" + "---|" * len(systems),
    ]
    for name, cells in _table(report, systems):
        lines.append(f"| {name} | " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    lines += ["", "## Answers to look at", ""]
    for reason, a in report.worst():
        lines += [
            f"- **{reason}**: {markdown(a.probe.instruction, 300)}",
            f"  {markdown_code(a.answer, 400, cell=False)}",
        ]
    if not report.worst():
        lines.append("None of the model's answers leaked, refused without need, or took up a harmful request.")
    lines += ["", "## What to test next", "", *(f"- {test}" for test in report.next_tests()), "", "## Settings", ""]
    lines += [f"- {markdown(name)}: {markdown_code(value, 400, cell=False)}" for name, value in report.settings.items()]
    if report.win_rate is not None:
        lines.append(f"- win rate: {markdown_code(str(report.win_rate.settings), 400, cell=False)}")
    return "\n".join([*lines, ""])


def audit_page(report: AuditReport) -> str:
    """The report as one HTML file."""
    systems = _systems(report)
    head = "".join(f"<th scope=col>{_text(system)}</th>" for system in systems)
    rows = "".join(
        f"<tr><th scope=row>{_text(name)}</th>{''.join(_cell(cell) for cell in cells)}</tr>"
        for name, cells in _table(report, systems)
    )
    worst = "".join(
        f"<section><h3>{_text(reason)}</h3><p class=q>{_text(a.probe.instruction[:_SHOWN])}</p>"
        f"<p class=a>{_text(a.answer[:_SHOWN]) or '<i>empty</i>'}</p></section>"
        for reason, a in report.worst()
    )
    sample = "".join(_sample(report, kind) for kind in KINDS)
    settings = "".join(f"<tr><th scope=row>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in report.settings.items())
    if report.win_rate is not None:
        settings += f"<tr><th scope=row>win rate</th><td>{_text(str(report.win_rate.settings))}</td></tr>"
    return _PAGE.format(
        model=_text(report.model),
        base=_text(report.base),
        findings="".join(f"<li>{_text(finding)}</li>" for finding in report.findings()),
        head=head,
        rows=rows,
        adherence=_adherence(report),
        worst=worst or "<p>None of its answers leaked, refused without need, or took up a harmful request.</p>",
        sample=sample,
        tests="".join(f"<li>{_text(test)}</li>" for test in report.next_tests()),
        settings=settings,
    )


def _adherence(report: AuditReport) -> str:
    own = report.adherence.get("model")
    return "" if own is None else f"<h2>Task adherence</h2><div class='w f'>{adherence_figure(own)}</div>"


def _systems(report: AuditReport) -> list[str]:
    return list(dict.fromkeys(rate.system for rate in report.rates))


def _table(report: AuditReport, systems: Sequence[str]) -> list[tuple[str, list[Rate | None]]]:
    found = [(label, [report.rate(name, system) for system in systems]) for name, label in LABELS.items()]
    return [(label, cells) for label, cells in found if any(cell is not None for cell in cells)]


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return "<td>-</td>"
    low, high = rate.interval
    bar = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class=t width="100" height="10"/><rect class=v width="{rate.percent:.1f}" height="10"/>'
        f'<rect class=i x="{low:.1f}" y="4" width="{max(high - low, 0.5):.1f}" height="2"/></svg>'
    )
    return f"<td>{_text(str(rate))}{bar}</td>"


def _sample(report: AuditReport, kind: str) -> str:
    """The first three answers of each kind, so that what a rate counts can be seen."""
    own = [a for a in report.answers if a.probe.kind == kind and a.system == "model"][:3]
    shown = "".join(
        f"<dt>{_text(a.probe.instruction[-_SHOWN:])}</dt><dd>{_text(a.answer[:_SHOWN]) or '<i>empty</i>'}"
        f"<br><small>attempt {a.attempt:.2f}{'' if a.finished is None else ', ended' if a.finished else ', cut'}"
        "</small></dd>"
        for a in own
    )
    return f"<details><summary>{_text(KINDS[kind])}</summary><dl>{shown}</dl></details>" if own else ""


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Audit of {model}</title><style>
:root {{ color-scheme: light dark; --bg: #fff; --ink: #1f2430; --soft: #5b6474; --line: #d9dce3; --bar: #6fae98;
  --track: #eef0f4; --mark: #0b3d2c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --bg: #14171d; --ink: #e8eaf0; --soft: #aab2c2; --line: #3a4150;
  --bar: #2f7a60; --track: #232833; --mark: #d5f2e6; }} }}
* {{ box-sizing: border-box; }}
body {{ background: var(--bg); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; margin: 1rem auto;
  max-width: 62rem; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
h3 {{ font-size: .95rem; margin: 1rem 0 .2rem; }}
.w {{ overflow-x: auto; }} .f svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top; }}
td {{ font-size: .9rem; min-width: 9rem; overflow-wrap: anywhere; }}
td svg {{ display: block; width: 100%; height: .5rem; margin-top: .25rem; }}
.t {{ fill: var(--track); }} .v {{ fill: var(--bar); }} .i {{ fill: var(--mark); }}
.q, dt {{ color: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; margin: .6rem 0 .2rem; }}
.a, dd {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; border-left: 3px solid var(--line);
  padding-left: .7rem; }}
summary {{ cursor: pointer; padding: .3rem 0; }} small {{ color: var(--soft); }}
@media (max-width: 30rem) {{ th, td {{ padding: .3rem; min-width: 6rem; font-size: .8rem; }} }}
@media print {{ details::details-content {{ content-visibility: visible; }} section, tr, svg {{ break-inside: avoid; }}
h2, h3 {{ break-after: avoid; }} * {{ print-color-adjust: exact; }} body {{ max-width: none; }} }}
</style></head><body>
<h1>How much of a general chatbot is {model}?</h1><p>Base: {base}. All intervals are 95 %.</p>
<h2>Findings</h2><ul>{findings}</ul>
<h2>Rates</h2><div class=w tabindex=0><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>
{adherence}<h2>Answers to look at</h2>{worst}
<h2>What was asked, and three answers each</h2>{sample}
<h2>What to test next</h2><ul>{tests}</ul>
<h2>Settings</h2><div class=w tabindex=0><table><tbody>{settings}</tbody></table></div>
</body></html>
"""
