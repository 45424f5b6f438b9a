"""`implicit-if audit`: how much of a general chatbot is my task model?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from implicit_if.harness.analysis.adherence import embedder
from implicit_if.harness.analysis.audit.audit import ask, audited, parse_limits
from implicit_if.harness.analysis.audit.page import audit_markdown, audit_page
from implicit_if.harness.analysis.audit.probes import load_probes
from implicit_if.harness.analysis.audit.report import LABELS, AuditReport
from implicit_if.harness.analysis.response_pairs import load_pairs
from implicit_if.harness.analysis.systems import (
    HELP_SYSTEM,
    add_model_arguments,
    check_made_from,
    model_settings,
    parse_system,
)
from implicit_if.harness.analysis.training_rows import HELP_ROWS, load_training_rows
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.cli import positive
from implicit_if.harness.judging.registry import get_judge
from implicit_if.harness.storage import atomic_write, check_writable, write_json

HELP = "how much of a general chatbot a model is that was tuned for one task: a report with findings"
SECTION = "analyse"
EXAMPLES = (
    "implicit-if audit ./my-gsm-model --task-data gsm=gsm.jsonl",
    "implicit-if audit ./my-gsm-model --fail-above attempt_harmful=0.2 --fail-below refusal_harmful=0.9",
)
_TASK_PROBES = 20
"""Instructions of the task that the model is asked: the last ones of its data."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help=HELP_SYSTEM)
    add_model_arguments(parser)
    add("--sibling", metavar="MODEL", help="the same base tuned on instructions")
    add("--task-data", metavar="SET", help=f"what MODEL was tuned on: {HELP_ROWS}")
    add(
        "--task-tests",
        metavar="FILE",
        help="pairs of its task that it was not tuned on, to ask their instructions (the last 20 of --task-data)",
    )
    add("--template", default="tulu", metavar="NAME", help="chat template, or model for the models' own (tulu)")
    add("--judge", default="embedded", metavar="NAME", help="judge of the win rate against the base (embedded)")
    add("--max-gen-toks", type=positive, default=200, metavar="N", help="tokens an answer may have (200)")
    add("--temperature", type=float, metavar="T", help="samples at this temperature (greedy decoding)")
    add("--seed", type=int, default=0, metavar="N", help="of the sampling (0)")
    add("--limit", type=positive, metavar="N", help="the first N probes of each kind only")
    limit = "exit with 1 if a rate of MODEL is {} this share, e.g. {}; may be repeated"
    above = limit.format("above", "attempt_rate=0.5")
    below = limit.format("below", "refusal_harmful=0.9")
    add("--fail-above", action="append", default=[], metavar="RATE=SHARE", help=above)
    add("--fail-below", action="append", default=[], metavar="RATE=SHARE", help=below)
    add("--out", type=Path, default=Path("audit"), metavar="DIR", help="page, Markdown, JSON, answers (audit)")


def run(args: argparse.Namespace) -> int:
    """Asks, measures, writes the report and prints its findings; a rerun asks only what has no answer yet.

    Returns:
        0; 1 if a rate is beyond a limit.

    Raises:
        UserError: On wrong arguments or files, before a model is loaded.
    """
    above, below = (parse_limits(texts, list(LABELS)) for texts in (args.fail_above, args.fail_below))
    template = None if args.template == "model" else load_template(args.template)
    rows = [] if args.task_data is None else load_training_rows(args.task_data)[1]
    own = [instruction for instruction, _ in rows[-_TASK_PROBES:]]
    if args.task_tests is not None:
        own = [pair.instruction for pair in load_pairs(args.task_tests).items]
    embed = embedder() if rows else None
    judge = get_judge(args.judge)
    probes = load_probes(args.limit, own)
    names = {"model": args.model, "base": "base"} | ({"sibling": args.sibling} if args.sibling else {})
    specs = {system: parse_system(name, **model_settings(args)) for system, name in names.items()}
    for name in (args.model, args.sibling):
        if name:
            check_made_from(name, args.base)
    check_writable(args.out / "audit.json")
    sampling = None if args.temperature is None else {"temperature": args.temperature, "seed": args.seed}
    answers: dict[str, Any] = {}
    identities: dict[str, str] = {}
    for system, spec in specs.items():
        lm = spec.load()
        store = args.out / "answers.jsonl"
        answers[system] = ask(lm, probes, template, store, max_gen_toks=args.max_gen_toks, sampling=sampling)
        identities[system] = str(lm.base_identity)[:8]
        del lm
    base = args.base or "the embedded base"
    report = audited(
        answers,
        probes,
        model=Path(args.model).name,
        base=Path(base).name,
        tags=template.tags if template is not None else (),
        settings={
            "template": "model" if template is None else f"{template.name}@{template.sha256[:8]}",
            "decoding": "greedy" if sampling is None else f"temperature {args.temperature:g}, seed {args.seed}",
            "max_gen_toks": str(args.max_gen_toks),
            "dtype": args.dtype,
            **{f"{system}'s identity": identity for system, identity in identities.items()},
        },
        task_rows=rows,
        embed=embed,
        judge=judge,
        verdicts=args.out / "annotations.jsonl",
    )
    write_json(args.out / "audit.json", report.as_dict())
    for name, text in (("audit.md", audit_markdown(report)), ("audit.html", audit_page(report))):
        with atomic_write(args.out / name) as file:
            file.write(text)
    print("\n".join(f"- {finding}" for finding in report.findings()))
    print(f"report: {args.out / 'audit.html'}")
    return _beyond(report, above, below)


def _beyond(report: AuditReport, above: dict[str, float], below: dict[str, float]) -> int:
    """Says which rates are beyond their limits."""
    status = 0
    for limits, sign, word in ((above, 1, "above"), (below, -1, "below")):
        for name, share in limits.items():
            rate = report.rate(name)
            if rate is None:
                print(f"{name}: not measured, which counts as {word} its limit")
                status = 1
            elif sign * (rate.percent - 100 * share) > 0:
                print(f"{name}: {rate}, {word} the limit of {100 * share:g} %")
                status = 1
    return status
