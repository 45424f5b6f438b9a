"""Writes docs/embedded-replication.md: which of the paper's findings hold at 270 million parameters.

    python tools/embedded_replication.py [--check]

Everything on the page follows from `leaderboards/leaderboard.json`, `leaderboards/rules.json`, the submissions that
they name, the published numbers and the embedded judge's card: run it after `implicit-if leaderboard`. `--check` writes
nothing and has the exit status 1 if the page is out of date.
"""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from answer_examples import SHOWN, quoted
from tabulate import tabulate

from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import load_outputs
from implicit_if.harness.published_numbers import load_published
from implicit_if.harness.replicate.comparison import compare_with_paper, read_results
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.safe_text import html, printable
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.comparison import compare
from implicit_if.harness.storage import atomic_write, read_rows
from implicit_if.harness.system_kinds import SYSTEM_KINDS

ROOT = Path(__file__).resolve().parents[1]
BOARDS = ROOT / "leaderboards"
PAGE = ROOT / "docs" / "embedded-replication.md"
CARD = ROOT / "docs" / "judges" / "embedded.md"
EXAMPLES = 3
PUBLISHED_NAMES = {"rules": "all rules", "response": "response tuning"}


class Claim(NamedTuple):
    """A finding of the paper: one system beats another.

    Attributes:
        text: In words.
        better: Kind and label of the system that does better there.
        worse: Of the other one.
        gain: Whether the paper found a gain; False where it found none.
    """

    text: str
    better: str
    worse: str
    gain: bool = True


CLAIMS = (
    Claim("Tuned on responses alone, a base model follows instructions (Table 1)", "response", "base"),
    Claim("Tuned on instructions as well, it follows them better still (Table 1)", "instruction", "response"),
    Claim("So does one tuned on maths problems (Table 3)", "gsm", "base"),
    Claim("... on Python functions (Table 3)", "mbpp", "base"),
    Claim("... on recipes (Table 3)", "recipes", "base"),
    Claim("... on poems (Table 3)", "poetry", "base"),
    Claim("... but not on chess games, by Llama-2 (Table 3)", "chess", "base", gain=False),
    Claim("Maths problems do more than Python functions (Table 3)", "gsm", "mbpp"),
    Claim("Three hand-written rules make a base model follow instructions (Table 4)", "rules", "base"),
    Claim("The rules need the rising end of the answer (Table 4)", "rules", "without eos"),
    Claim("... the penalty on tokens used before (Table 4)", "rules", "without diversity"),
    Claim("... the uniform changes of token weights (Table 4)", "rules", "without uniform"),
)

TITLE = """# The paper at 270 million parameters

<!-- Written by tools/embedded_replication.py; change that, not this page. -->"""

ABOUT = """Hewitt, Liu, Liang and Manning (2024) found that base models of 7 billion parameters follow instructions
after tuning on responses alone, on one narrow task, or under three hand-written rules. Which of that holds for a
model of 270 million, [Gemma 3 270M](embedded-model.md)? The numbers are those of the
[leaderboard](../leaderboards/README.md) and of its [rules](../leaderboards/rules.md), both made by
`implicit-if leaderboard`: {n} built-in instructions, the embedded judge, answers against those of the same model
tuned on instructions."""

METHOD = """A difference of win rates is paired over instructions (Student's t); one of attempt rates is by
Newcombe's (1998) method from the two rates' intervals, which ignores the pairing and is rather too wide. "Holds"
means that both 95 % intervals lie above 0, "holds in part" that one does and the other is not below; "not shown"
that neither does; "reversed" that one lies below 0. These are {k} comparisons without correction for their number:
with none true, one in forty intervals lies above 0 by chance."""

CAVEATS = (
    "**They are no AlpacaEval win rates.** The embedded judge orders systems and finds gross faults, and it was fitted "
    "on answers of this very model, too. {agreement} The paper's own judge is retired. Read the attempt rates first: "
    "they need no reference ([attempts](attempts.md)).",
    "**{seeds}** The intervals hold for new instructions, not for new seeds of tuning, unless a row says ± over seeds.",
    "**Other trainings than the paper's.** Epochs: {epochs}; the paper's for Llama-2 were 15, 5, 7 and 15 of the first "
    "four. So instruction tuning, whose answers are the reference, saw its data less often than there. All weights "
    "were tuned, in float32, on one GPU; epochs were not chosen on a validation set. Answers are greedy, of at most "
    "256 tokens.",
    "**Not run:** {absent}.",
    "**One base model from one family.** What fails here may be the model's size, its pretraining, or the rules' token "
    "list, which was written for another vocabulary.",
)


def main(*arguments: str) -> int:
    text = page()
    stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
    if stale and "--check" not in arguments:
        with atomic_write(PAGE) as file:
            file.write(text)
    print(f"docs/embedded-replication.md: {'out of date' if stale else 'current'}")
    return int(stale and "--check" in arguments)


def page() -> str:
    """The whole page."""
    known = systems()
    found = [(claim, _verdict(claim)) for claim in CLAIMS if {claim.better, claim.worse} <= known.keys()]
    rows = [[claim.text, *_differences(claim), _published(claim), verdict] for claim, verdict in found]
    head = ["finding", "attempts, points", "win rate, points", "published LC %", "here"]
    holds = sum(verdict == "holds" for _, verdict in found)
    parts = [
        TITLE,
        _filled(ABOUT.format(n=_board("leaderboard.json")["n"])),
        _filled(f"**{holds} of {len(found)} findings hold** in attempt rate and win rate alike. {_order()}"),
        "![Attempt rate and win rate of every system](figures/systems.svg)",
        "## Findings",
        str(tabulate(rows, head, "github", disable_numparse=True)),
        _filled(METHOD.format(k=2 * len(found))),
        "## Systems",
        _systems_table(known),
        "## What these numbers are not",
        _caveats(known),
        _examples(known),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _filled(text: str, indent: str = "") -> str:
    """A paragraph or an item of a list in lines of the pages' width."""
    return textwrap.fill(text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@cache
def _board(name: str) -> dict[str, Any]:
    board: dict[str, Any] = json.loads((BOARDS / name).read_text(encoding="utf-8"))["boards"][0]
    return board


@cache
def systems() -> dict[str, dict[str, Any]]:
    """The boards' rows, controls apart, by a short name: a kind, a single task, or an ablation's label."""
    order = list(SYSTEM_KINDS)
    known: dict[str, dict[str, Any]] = {}
    rows = [*_board("leaderboard.json")["rows"], *_board("rules.json")["rows"]]
    for row in sorted(rows, key=lambda row: order.index(row["kind"])):
        if row["kind"] == "control":
            continue
        own = row["kind"] == "single_task" or row["system"].startswith(("without ", "only "))
        known.setdefault(row["system"] if own else row["kind"], row)
    return known


@cache
def preferences(name: str) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """`[s, n]` preferences for a system, a row a seed, and the instructions' ids."""
    seeds = []
    for submission in systems()[name]["submissions"]:
        told: dict[str, list[float]] = defaultdict(list)
        for _, row in read_rows(BOARDS / "submissions" / submission / "annotations.jsonl", "annotations"):
            told[row["instruction_id"]].append(row["preference"])
        ids = tuple(sorted(told))
        seeds.append([float(np.mean(told[key])) for key in ids])
    return np.array(seeds), ids


def win_difference(better: str, worse: str) -> Score:
    """Win rate of the one minus that of the other, paired over instructions."""
    (first, ids), (second, others) = preferences(better), preferences(worse)
    assert ids == others, f"{better} and {worse} answer different instructions"
    return compare(first, second, ids, n_permutations=0).difference


def attempts_difference(better: str, worse: str) -> tuple[float, float, float]:
    """Attempt rate of the one minus that of the other with Newcombe's interval: value, low, high."""
    (a, la, ua), (b, lb, ub) = (
        (s["value"], s["interval"]["low"], s["interval"]["high"])
        for s in (systems()[better][ATTEMPTS], systems()[worse][ATTEMPTS])
    )
    return a - b, a - b - math.hypot(a - la, ub - b), a - b + math.hypot(ua - a, b - lb)


def _differences(claim: Claim) -> tuple[str, str]:
    value, low, high = attempts_difference(claim.better, claim.worse)
    wins = win_difference(claim.better, claim.worse)
    ends = wins.interval.ends if wins.interval else (math.nan, math.nan)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]", f"{wins.value:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"


def _verdict(claim: Claim) -> str:
    _, low, high = attempts_difference(claim.better, claim.worse)
    interval = win_difference(claim.better, claim.worse).interval
    lows, highs = (low, interval.low if interval else -math.inf), (high, interval.high if interval else math.inf)
    if not claim.gain:
        return "reversed" if min(lows) > 0 else "holds" if max(lows) <= 0 else "holds in part"
    if min(highs) < 0:
        return "reversed"
    above = sum(end > 0 for end in lows)
    return ("not shown", "holds in part", "holds")[above]


def _published(claim: Claim) -> str:
    """The two systems' published numbers, Llama-2's before OLMo's."""
    source = load_published()[0]
    shown = []
    for base in dict.fromkeys(row.base_model for row in source.rows):
        means = {row.system: row.mean for row in source.rows if row.base_model == base}
        pair = [
            50.0 if name == "instruction" else means.get(PUBLISHED_NAMES.get(name, name))
            for name in (claim.better, claim.worse)
        ]
        if None not in pair:
            shown.append(f"{pair[0]:g} and {pair[1]:g}")
    return "; ".join(shown)


def _order() -> str:
    told = compare_with_paper(read_results(BOARDS)).orders
    parts = [f"{rho:.2f} with {base}'s ({n} systems)" for base, (rho, n) in told.items()]
    return f"In length-controlled win rate the order of the systems correlates {' and '.join(parts)} (Spearman)."


def _systems_table(known: dict[str, dict[str, Any]]) -> str:
    def cell(row: dict[str, Any], name: str) -> str:
        return "-" if row[name] is None else Score.model_validate(row[name]).bracketed(row[f"{name}_sd"])

    rows = [
        [
            row["system"],
            cell(row, ATTEMPTS),
            cell(row, "win_rate"),
            cell(row, "lc"),
            f"{row['form']['finish_rate']:.0f}",
        ]
        for row in known.values()
    ]
    table = tabulate(rows, ["system", "attempts %", "win rate %", "LC win rate %", "finish %"], "github")
    board = _board("leaderboard.json")
    told = [f"- `{board[key]}`" for key in ("attempts_signature", "signature", "lc_signature") if board[key]]
    return f"{table}\n\nBrackets: 95 % intervals. Finish: answers ended by the model itself.\n\n" + "\n".join(told)


def _caveats(known: dict[str, dict[str, Any]]) -> str:
    matrix = load_matrix("embedded")
    left = [recipe for recipe in matrix.models[0].recipes if recipe not in known]
    seeds = sorted({seed for row in known.values() for seed in row["seeds"] if seed is not None})
    numbers = ", ".join(map(str, seeds))
    one = f"One seed of each tuned system ({numbers})." if len(seeds) == 1 else f"Seeds {numbers} of tuned systems."
    absent = [f"tuning on {', '.join(left)}"] if left else []
    absent += (
        [f"seeds {', '.join(str(s) for s in range(1, 6) if s not in seeds)}"] if set(range(1, 6)) - {*seeds} else []
    )
    absent += ["a sweep over epochs", "the paper's judge and its 805 instructions", "models of 7 billion parameters"]
    told = {"agreement": _agreement(), "seeds": one, "epochs": ", ".join(_epochs(known)), "absent": "; ".join(absent)}
    return "\n".join(_filled(f"- {caveat.format(**told)}", "  ") for caveat in CAVEATS)


def _epochs(known: dict[str, dict[str, Any]]) -> list[str]:
    """How often each tuned system saw its data, by the tokens that its reference's sidecar tells."""
    found = []
    for name in ("instruction", "response", "gsm", "mbpp", "recipes", "poetry", "chess"):
        files = sorted((ROOT / "harness/references/gemma-3-270m" / f"{name}-full-s1").glob("builtin@*.meta.json"))
        if name in known and files:
            told = json.loads(files[0].read_text(encoding="utf-8"))["model"]["tuning"]
            found.append(f"{name} {told['training']['tokens'] / told['data']['tokens']:.0f}")
    return found


def _agreement() -> str:
    """The embedded judge's accuracy on the paper's judge's verdicts, from its card."""
    match = re.search(
        r"^\| models against GPT-4 Turbo .*?\| ([\d,]+) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|$",
        CARD.read_text(encoding="utf-8"),
        re.M,
    )
    assert match is not None, f"{CARD} has no row of models against GPT-4 Turbo"
    return (
        f"On {match[1]} published pairs of models that were judged by GPT-4 Turbo against GPT-4 Turbo's answers it "
        f"names the same winner in {100 * float(match[2]):.1f} %, where always naming the reference gives "
        f"{100 * float(match[3]):.1f} % ([card](judges/embedded.md))."
    )


def _examples(known: dict[str, dict[str, Any]]) -> str:
    """The first instructions of the set, answered by every system that is no ablation."""
    items = load_instructions("builtin").items[:EXAMPLES]
    about = (
        f"The first {EXAMPLES} built-in instructions, and the first {SHOWN} characters of every system's answer. What "
        f"tuned models recite from their training data is left out. More: [gallery](gallery.md)."
    )
    parts = [f"## Unpicked answers\n\n{_filled(about)}"]
    answers = {}
    for name, row in known.items():
        if not name.startswith(("without ", "only ")):
            folder = BOARDS / "submissions" / row["submissions"][0]
            answers[row["system"]] = {o.instruction_id: o for o in load_outputs(folder / "outputs.jsonl")}
    for number, item in enumerate(items, start=1):
        asked = "<br>".join(html(line) for line in printable(item.text).splitlines())
        shown = [f"### Instruction {number}\n\n<p><b>{asked}</b></p>"]
        for system, own in answers.items():
            output = own[item.id]
            ended = {"eos": "ended by itself", "length": "cut at the limit"}.get(output.finish_reason or "", "")
            about = ", ".join(part for part in (f"{output.n_tokens} tokens", ended) if part)
            shown.append(quoted(html(system), about, output.output))
        parts.append("\n".join(shown))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
