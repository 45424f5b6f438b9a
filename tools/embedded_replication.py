"""Writes docs/embedded-replication.md: which of the paper's findings hold at 270 million parameters.

    python tools/embedded_replication.py [--check]

Everything on the page follows from the boards under `leaderboards/` and `leaderboards/replications/embedded/`, the
submissions that they name, the published numbers and the embedded judge's card: run it after `implicit-if leaderboard`.
`--check` writes nothing and has the exit status 1 if the page is out of date.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from answer_examples import SHOWN, quoted
from paper_findings import Results
from tabulate import tabulate

from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import load_outputs
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.safe_text import html, printable
from implicit_if.harness.scores import Score
from implicit_if.harness.storage import atomic_write

ROOT = Path(__file__).resolve().parents[1]
BOARDS = ROOT / "leaderboards"
MATRIX = BOARDS / "replications" / "embedded"
PAGE = ROOT / "docs" / "embedded-replication.md"
CARD = ROOT / "docs" / "judges" / "embedded.md"
EXAMPLES = 3


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

SMALL = """The matrix [`embedded`](replicate.md) has all five tasks of the paper. It tunes adapters on the first {rows}
rows of each recipe, twice, answers, judges, and builds [tables of its
own](../leaderboards/replications/embedded/README.md), by `implicit-if replicate run embedded`, in two hours on two CPU
cores. The reference is its own instruction-tuned model, which is weaker than the one above: attempt rates compare with
those above, win rates do not. After so few steps hardly any model has learned to end its answer, and most repeat
themselves until the limit. Chess is where this differs from the paper, whose model saw 1000 games fifteen times: here
many answers are still the base model's own language, not games."""

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
    full, small = Results(BOARDS), Results(MATRIX)
    found = full.findings
    parts = [
        TITLE,
        _filled(ABOUT.format(n=full.board("leaderboard.json")["n"])),
        _told(full),
        "![Attempt rate and win rate of every system](figures/systems.svg)",
        "## Findings",
        _findings_table(found),
        _filled(METHOD.format(k=2 * len(found))),
        "## Systems",
        _systems_table(full),
        "## With one command and little training",
        _filled(SMALL.format(rows=_rows())),
        _told(small),
        _findings_table(small.findings),
        _systems_table(small),
        "## What these numbers are not",
        _caveats(full),
        _examples(full),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _told(results: Results) -> str:
    found = results.findings
    holds = sum(row[-1] == "holds" for row in found)
    return _filled(f"**{holds} of {len(found)} findings hold** in attempt rate and win rate alike. {results.order()}")


def _rows() -> str:
    """How many rows of each recipe the matrix takes."""
    settings = dict(setting.split("=", 1) for setting in load_matrix("embedded").models[0].settings)
    return settings["data.limit"]


def _findings_table(rows: list[list[str]]) -> str:
    head = ["finding", "attempts, points", "win rate, points", "published LC %", "here"]
    return str(tabulate(rows, head, "github", disable_numparse=True))


def _filled(text: str, indent: str = "") -> str:
    """A paragraph or an item of a list in lines of the pages' width."""
    return textwrap.fill(text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _systems_table(results: Results) -> str:
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
        for row in results.systems.values()
    ]
    table = tabulate(rows, ["system", "attempts %", "win rate %", "LC win rate %", "finish %"], "github")
    board = results.board("leaderboard.json")
    told = [f"- `{board[key]}`" for key in ("attempts_signature", "signature", "lc_signature") if board[key]]
    return f"{table}\n\nBrackets: 95 % intervals. Finish: answers ended by the model itself.\n\n" + "\n".join(told)


def _caveats(results: Results) -> str:
    known = results.systems
    left = [recipe for recipe in load_matrix("embedded").models[0].recipes if recipe not in known]
    seeds = sorted({seed for row in known.values() for seed in row["seeds"] if seed is not None})
    numbers = ", ".join(map(str, seeds))
    one = f"One seed of each tuned system ({numbers})." if len(seeds) == 1 else f"Seeds {numbers} of tuned systems."
    absent = [f"tuning at length on {', '.join(left)}"] if left else []
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


def _examples(results: Results) -> str:
    """The first instructions of the set, answered by every system that is no ablation."""
    items = load_instructions("builtin").items[:EXAMPLES]
    about = (
        f"The first {EXAMPLES} built-in instructions, and the first {SHOWN} characters of every system's answer. What "
        f"tuned models recite from their training data is left out. More: [gallery](gallery.md)."
    )
    parts = [f"## Unpicked answers\n\n{_filled(about)}"]
    answers = {}
    for name, row in results.systems.items():
        if not name.startswith(("without ", "only ")):
            folder = results.root / "submissions" / row["submissions"][0]
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
