"""`implicit-if token-shift`: which tokens of stored answers the base model would not have chosen."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.analysis.systems import add_model_arguments, model_settings, parse_system
from implicit_if.harness.analysis.token_shift import TokenShift, shift_tokens
from implicit_if.harness.analysis.token_shift_report import colour_answer, shift_figure, shift_page, shift_table
from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.cli import name_values, positive
from implicit_if.harness.embedded_base import EMBEDDED
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import Output, join_instructions, load_outputs
from implicit_if.harness.plain_text import plain_text
from implicit_if.harness.references import load_reference
from implicit_if.harness.references.recitation import MARK
from implicit_if.harness.safe_text import printable
from implicit_if.harness.storage import atomic_write, check_writable, sha256_json, write_json
from implicit_if.harness.tuning.base_model import resolve_base
from implicit_if.harness.tuning.tokenizer import load_tokenizer

HELP = "which tokens of a system's answers its base model would not have chosen, and which rule moved them"
SECTION = "analyse"
EXAMPLES = (
    "implicit-if token-shift gemma-3-270m/instruction --limit 8 --show 1",
    "implicit-if token-shift rules=outputs.json --rules rules=paper",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="answers: an outputs file, NAME=FILE, or a named reference, e.g. gemma-3-270m/instruction",
    )
    add_model_arguments(parser)
    add("--instructions", default="builtin", metavar="SPEC", help="set whose texts answers stored by id get (builtin)")
    add("--template", default="tulu", metavar="NAME", help="chat template that the answers were made with (tulu)")
    add(
        "--rules",
        action="append",
        default=[],
        metavar="SYSTEM=PRESET",
        help="rules that made a system's answers, where the generator's name does not say; may be repeated",
    )
    add("--limit", type=positive, metavar="N", help="the first N answers of each only")
    add("--show", type=positive, metavar="N", help="also print the first N answers of each, coloured by rank")
    add("--out", type=Path, default=Path("token-shift"), metavar="DIR", help="table, figure, page, JSON (token-shift)")


def run(args: argparse.Namespace) -> int:
    """Ranks, prints the table, and writes it, its JSON, the figure and the page; a rerun ranks only what is left.

    Returns:
        0.

    Raises:
        UserError: On wrong arguments or files, before a model is loaded.
    """
    template = load_template(args.template)
    instructions = load_instructions(args.instructions)
    named = [_answers(spec, instructions) for spec in args.systems]
    rules = name_values(args.rules, "--rules", "rules=paper")
    if unknown := rules.keys() - {name for name, _ in named}:
        raise UserError(f"--rules {min(unknown)}=: no such system here. Known: {', '.join(n for n, _ in named)}.")
    for name, outputs in named:
        without = sum("token_ids" not in (output.model_extra or {}) for output in outputs)
        if without:
            print(f"note: {without} answers of {printable(name)} have no token ids: tokenized again", file=sys.stderr)
    check_writable(args.out / "token-shift.json")
    tokenizer = load_tokenizer(resolve_base(args.base or EMBEDDED).path)
    for name, outputs in named:
        check_tokenizer(tokenizer, name, outputs[: args.limit], args.base or EMBEDDED)
    lm = parse_system("base", **model_settings(args)).load()
    shifts: list[TokenShift] = []
    for name, outputs in named:
        preset = rules.get(name) or _rules_of(lm, outputs)
        made_by = sha256_json([lm.base_identity, lm.describe(preset), lm.dtype_name])[:16]
        shifts.append(
            shift_tokens(
                lm,
                outputs[: args.limit],
                lambda text: template.render_prompt(text, eos_token=lm.tokenizer.eos_token),
                system=name,
                base=f"{Path(str(args.base or 'embedded')).name}@{str(lm.base_identity)[:8]}",
                template=f"{template.name}@{template.sha256[:8]}",
                rules=preset,
                store=args.out / "ranks" / f"{made_by}.jsonl",
                progress=True,
            )
        )
    table = shift_table(shifts)
    write_json(args.out / "token-shift.json", [shift.as_dict() for shift in shifts])
    texts = {"token-shift.md": table, "token-shift.svg": shift_figure(shifts), "token-shift.html": shift_page(shifts)}
    for file_name, text in texts.items():
        with atomic_write(args.out / file_name) as file:
            file.write(text)
    print(plain_text(table))
    print(
        f"written: {args.out / 'token-shift.html'}\n"
        f"in a run's page: implicit-if view RUN --token-shift {shlex.quote(str(args.out))}"
    )
    for shift in shifts if args.show else []:
        for answer in shift.answers[: args.show]:
            print(f"--- {printable(shift.system)}: {printable(answer.instruction)}\n{colour_answer(answer)}")
    return 0


def _answers(spec: str, instructions: Any) -> tuple[str, list[Output]]:
    """Name and answers of a system; the name is the file's generator where none is given.

    Raises:
        UserError: If there is no such file or reference, or an answer's instruction is not known.
    """
    name, equals, path = spec.partition("=")
    source = path if equals else spec
    if Path(source).is_file():
        outputs = join_instructions(load_outputs(source), instructions.texts())
        return (name if equals else outputs[0].generator), outputs
    if source.endswith((".json", ".jsonl")):
        raise UserError(f"{source}: no such file. Expected an outputs file.")
    return (name if equals else source), list(load_reference(source, instructions))


def check_tokenizer(tokenizer: Any, name: str, outputs: Sequence[Output], base: str) -> None:
    """Refuses answers that were made with another tokenizer than the base's.

    Token ids must spell the answer, or its text have the tokens that were counted when it was made. A few may differ:
    a text has several spellings, and only one comes back. Answers that tell neither are taken as they are.

    Raises:
        UserError: If more than half of the answers that can be checked differ.
    """
    differ = checked = 0
    for output in outputs:
        ids = (output.model_extra or {}).get("token_ids")
        if not output.output or MARK in output.output or (ids is None and output.n_tokens is None):
            continue
        checked += 1
        if ids is None:
            differ += (
                abs(len(tokenizer(output.output, add_special_tokens=False).input_ids) - (output.n_tokens or 0)) > 1
            )
        else:
            differ += max(ids) >= len(tokenizer) or tokenizer.decode(ids) != output.output
    if 2 * differ > checked:
        raise UserError(
            f"{name}: {differ} of {checked} answers have other tokens than base {base!r} gives them, so that another "
            f"tokenizer made them. Expected the base that the system was made from: --base MODEL."
        )


def _rules_of(lm: Any, outputs: list[Output]) -> str | None:
    """The preset that made the answers, told from the generator's name, if it still does what it did then."""
    told = re.fullmatch(r"rules:([\w-]+)@[0-9a-f]{8}", outputs[0].generator)
    if told is None:
        return None
    try:
        same = lm.describe(told[1])["product"] == outputs[0].generator
    except UserError:
        same = False
    if not same:
        print(f"note: the rules {outputs[0].generator} are not known here: no rule is named", file=sys.stderr)
    return told[1] if same else None
