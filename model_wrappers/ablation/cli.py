"""`implicit-if ablate`: what each rule is for, measured on one base model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from implicit_if.harness.cli import dollars, positive

HELP = "answer and judge with every rule left out and every rule alone, and print the table"
SECTION = "answer"
EXAMPLES = (
    "implicit-if ablate --instructions builtin --limit 8",
    "implicit-if ablate --model-args pretrained=meta-llama/Llama-2-7b-hf,dtype=bfloat16 --out ablation-7b",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "--model-args",
        default="",
        metavar="K=V,...",
        help="as for lm_eval --model rules_poe: pretrained=, dtype=, rules=, ... (the embedded model, rules=paper)",
    )
    add("--instructions", default="auto", metavar="SPEC", help="builtin, alpaca_eval, auto, or a path (auto)")
    add("--template", default="tulu", metavar="NAME", help="chat template: a name, or a .jinja file (tulu)")
    add("--judge", default="embedded", metavar="NAME", help="judge of the win rates (embedded)")
    add(
        "--reference",
        default="auto",
        metavar="SPEC",
        help="base, a named reference, or an outputs file (the base model's tuned sibling where there is one, or base)",
    )
    add("--judge-attempts", metavar="NAME", help="judge of attempts, or none (embedded where it is installed)")
    add("--attempts-option", action="append", default=[], metavar="K=V", help="an option of it; may be repeated")
    add("--option", action="append", default=[], metavar="K=V", help="an option of the judge; may be repeated")
    add("--max-cost", type=dollars, metavar="USD", help="stop a paid judge at this cost")
    add("--out", type=Path, default=Path("ablation"), metavar="DIR", help="answers, verdicts and tables (ablation)")
    add("--tokens", action="store_true", help="also leave out each string of the rules' token lists")
    add("--limit", type=positive, metavar="N", help="the first N instructions only")
    add("--batch-size", type=positive, metavar="N", help="rows at once (chosen automatically)")
    add("--max-gen-toks", type=positive, metavar="N", help="tokens an answer may have (256 embedded, else 512)")


def run(args: argparse.Namespace) -> int:
    """Generates, judges, writes the tables and prints one; continues where an earlier run of it stopped.

    Returns:
        0; 1 if a verdict is missing.

    Raises:
        UserError: On wrong arguments, before a model is loaded; on a judge's permanent fault or the cost limit.
    """
    from lm_eval.utils import simple_parse_args_string

    from implicit_if.harness.chat_templates import load_template
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.judging.attempts import choose
    from implicit_if.harness.judging.cli import parse_options
    from implicit_if.harness.judging.judged_run import find_reference
    from implicit_if.harness.judging.registry import get_judge
    from implicit_if.model_wrappers.ablation.ablation import Ablation, alone_in, systems_of
    from implicit_if.model_wrappers.rules.presets import customise, load_preset

    judge = get_judge(args.judge, **parse_options(args.option))
    attempts = choose(args.judge_attempts, parse_options(args.attempts_option, "--attempts-option"))
    template = load_template(args.template)
    instructions = load_instructions(args.instructions)
    arguments = {"rules": "paper", "drop": None, "batch_size": args.batch_size}
    arguments |= simple_parse_args_string(args.model_args)
    options = {key: value for key, value in arguments.items() if "." in key}
    systems_of(customise(load_preset(arguments["rules"]), arguments["drop"], options))  # refuses rules without rules
    base = str(arguments.get("pretrained", "embedded"))
    places = None if args.limit is None else range(args.limit)
    reference = find_reference(args.reference, instructions, base, answers_as_base=True, places=places)
    if note := reference.note("--reference"):
        print(note, file=sys.stderr)
    with alone_in(args.out):
        from implicit_if.model_wrappers.rules_poe import RulesPoE

        lm = RulesPoE(**arguments)
        generation = {} if args.max_gen_toks is None else {"max_gen_toks": args.max_gen_toks}
        ablation = Ablation(
            lm, instructions, template, args.out, limit=args.limit, generation=generation, reference=reference.outputs
        )
        return ablation.run(judge, attempts=attempts, tokens=args.tokens, max_cost=args.max_cost)
