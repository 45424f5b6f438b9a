"""`implicit-if response-ranking`: does a model find an instruction's own response likelier than others'?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from implicit_if.harness.analysis.response_pairs import load_pairs
from implicit_if.harness.analysis.response_ranking import (
    MEASURES,
    PUBLISHED,
    ResponseRanking,
    rank_responses,
    require_instruction,
)
from implicit_if.harness.analysis.systems import HELP_SYSTEM, add_model_arguments, model_settings, parse_system
from implicit_if.harness.cli import positive
from implicit_if.harness.plain_text import plain_text
from implicit_if.harness.safe_text import markdown
from implicit_if.harness.storage import atomic_write, check_writable, sha256_json, write_json
from implicit_if.harness.svg import GREEN, PALE_GREEN, Bar, BarRow, bar_panels

HELP = "how often a model finds an instruction's own response likelier than another's"
SECTION = "analyse"
EXAMPLES = (
    "implicit-if response-ranking base rules ./my-tuned-model",
    "implicit-if response-ranking --pairs pairs.json --limit 20",
)
HEADINGS = {"sum": "sum (paper)", "per_character": "per character", "pmi": "PMI"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("systems", nargs="*", default=["base"], metavar="SYSTEM", help=f"{HELP_SYSTEM} (base)")
    add_model_arguments(parser)
    add("--pairs", default="builtin", metavar="SPEC", help="builtin, alpaca, or a JSON file (builtin)")
    add("--template", default="tulu", metavar="NAME", help="chat template: a name, or a .jinja file (tulu)")
    add("--tags", choices=["both", "with", "without"], default="both", help="prompts with the template's tags (both)")
    add("--limit", type=positive, metavar="N", help="the first N pairs only; a rerun with more adds to them")
    add("--out", type=Path, default=Path("response-ranking"), metavar="DIR", help="results (response-ranking)")


def run(args: argparse.Namespace) -> int:
    """Ranks with and without the template's tags, prints the table, writes it, its JSON and its figure.

    Returns:
        0.

    Raises:
        UserError: On wrong arguments, before a model is loaded.
    """
    pairs = load_pairs(args.pairs).first(args.limit)
    require_instruction(args.template)
    check_writable(args.out / "ranking.json")
    specs = [parse_system(name, **model_settings(args)) for name in args.systems]
    rankings: list[tuple[bool, ResponseRanking]] = []
    for spec in specs:
        lm = spec.load()
        store = args.out / "log-probs" / f"{sha256_json([lm.base_identity, lm.describe()])[:16]}.jsonl"
        own = getattr(lm, "wants_bare_instructions", False)
        for tags in (True, False):
            if tags if own else args.tags in ("both", "with" if tags else "without"):
                found = rank_responses(
                    lm, pairs, args.template, tags=tags, system=spec.name, store=store, progress=True
                )
                rankings.append((tags, found))
        del lm
    table = ranking_table(rankings)
    write_json(args.out / "ranking.json", [{"tags": tags} | ranking.as_dict() for tags, ranking in rankings])
    for name, text in (("ranking.md", table), ("ranking.svg", ranking_figure(rankings))):
        with atomic_write(args.out / name) as file:
            file.write(text)
    print(plain_text(table))
    print(f"written: {args.out / 'ranking.md'} and {args.out / 'ranking.svg'}")
    return 0


def ranking_table(rankings: Iterable[tuple[bool, ResponseRanking]]) -> str:
    """Markdown: a row a system and prompt, a column a measure, then the paper's numbers and the signatures."""
    rankings = list(rankings)
    lines = [
        f"| system | prompt | {' | '.join(HEADINGS.values())} |",
        "|---|---|" + "---|" * len(HEADINGS),
        *(
            f"| {markdown(ranking.system)} | {'with tags' if tags else 'without tags'} | "
            + " | ".join(str(ranking.scores[name]) for name in HEADINGS)
            + " |"
            for tags, ranking in rankings
        ),
        "",
        "Percent of couples of an instruction and another's response; 95 % intervals over instructions and responses.",
        "",
        "Published (Hewitt et al. 2024, table 2; sum, Alpaca's first 1000 pairs): "
        + "; ".join(f"{model} base {base}, instruction-tuned {tuned}" for model, base, tuned in PUBLISHED)
        + ".",
        "",
        *sorted({f"`{s.signature}`" for _, r in rankings for name, s in r.scores.items() if name == "sum"}),
        "",
    ]
    return "\n".join(lines)


def ranking_figure(rankings: Iterable[tuple[bool, ResponseRanking]]) -> str:
    """Bars with intervals: a row a system and prompt, a panel a measure. 50 is chance."""
    rows = [
        BarRow(
            ranking.system if tags else f"{ranking.system}, no tags",
            GREEN if tags else PALE_GREEN,
            [Bar(ranking.scores[m].percent, ranking.scores[m].interval.ends) for m in MEASURES],
        )
        for tags, ranking in rankings
    ]
    title = "How often an instruction's own response is likelier than another's, in percent (chance is 50)"
    return bar_panels(title, list(HEADINGS.values()), rows)
