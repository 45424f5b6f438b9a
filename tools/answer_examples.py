"""Prints the README's two examples, and writes docs/gallery.md: committed answers beside each other, by a stated rule.

    python tools/answer_examples.py [--check]

The README shows the first built-in instruction, and the first one that the rules' answer attempts and the base's does
not, by the embedded classifier (extra `embedded`). The gallery shows the first instruction of each category.
`--check` writes nothing and has the exit status 1 if either is out of date.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from implicit_if.harness.instructions import Instruction, load_instructions
from implicit_if.harness.judging.backends.embedded_attempts import attempt_probabilities
from implicit_if.harness.outputs import Output, load_outputs
from implicit_if.harness.safe_text import html, printable
from implicit_if.harness.storage import atomic_write

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "docs" / "gallery.md"
README = ROOT / "README.md"
SUBMISSIONS = ROOT / "leaderboards" / "submissions"
SYSTEMS = {
    "base": "base",
    "base × rules": "rules",
    "response tuning": "response-full-s1",
    "gsm": "gsm-full-s1",
    "mbpp": "mbpp-full-s1",
    "instruction tuning": "instruction-full-s1",
}
IN_README = ("base", "base × rules", "response tuning")
SHOWN = 300
"""Characters of an answer that are shown."""

ABOUT = """# Gallery

<!-- Written by tools/answer_examples.py; change that, not this page. -->

The first instruction of each category of the built-in set, answered by six systems on one base model, Gemma 3 270M:
untuned, with the rules, and tuned on responses, on grade-school maths (gsm), on Python functions (mbpp) and on
instructions. They are not picked: `python tools/answer_examples.py` takes the first of each category from the
submissions of the [leaderboard](../leaderboards/README.md). "Attempts" is the verdict of the embedded classifier,
which makes mistakes ([its card](judges/embedded.md)); an attempt may be wrong ([attempts](attempts.md)). Passages
that tuned models recite from their training data are left out.
"""


def main(*arguments: str) -> int:
    check = "--check" in arguments
    page, example = gallery(), readme_examples()
    stale = not GALLERY.exists() or GALLERY.read_text(encoding="utf-8") != page
    if stale and not check:
        with atomic_write(GALLERY) as file:
            file.write(page)
    missing = example not in README.read_text(encoding="utf-8")
    print(example)
    if missing:
        print("README.md does not hold these examples: copy them there", file=sys.stderr)
    return int(missing or (stale and check))


def gallery() -> str:
    """The page: a section an instruction."""
    firsts: dict[str, Instruction] = {}
    for item in load_instructions("builtin").items:
        firsts.setdefault(item.category or "", item)
    parts = [f"## {category.capitalize()}\n\n{_example(item, tuple(SYSTEMS))}" for category, item in firsts.items()]
    return "\n".join([ABOUT, *parts])


def readme_examples() -> str:
    """The first instruction, and the first that the rules' answer attempts and the base's does not."""
    items = load_instructions("builtin").items
    elicited = next(i for i in items if attempts(i, "base × rules") >= 0.5 > attempts(i, "base"))
    return "\n".join(_example(item, IN_README) for item in (items[0], elicited))


@cache
def answers(system: str) -> dict[str, Output]:
    """A system's committed answers by instruction id."""
    (folder,) = (SUBMISSIONS / f"implicit-if__gemma-3-270m-{SYSTEMS[system]}").iterdir()
    return {output.instruction_id: output for output in load_outputs(folder / "outputs.jsonl")}


@cache
def attempts(item: Instruction, system: str) -> float:
    """The probability that a system's answer attempts the instruction."""
    return attempt_probabilities([(item.text, answers(system)[item.id].output)])[0]


def _example(item: Instruction, systems: tuple[str, ...]) -> str:
    """HTML without fixed-width blocks, which a code host does not wrap."""
    asked = "<br>".join(html(line) for line in printable(item.text).splitlines())
    return "\n".join([f"<p><b>{asked}</b></p>", *(_answer(item, system) for system in systems), ""])


def _answer(item: Instruction, system: str) -> str:
    output = answers(system)[item.id]
    decided = "attempts" if attempts(item, system) >= 0.5 else "no attempt"
    ended = {"eos": "ended by itself", "length": "cut at the limit"}.get(output.finish_reason or "", "")
    about = ", ".join(part for part in (decided, f"{output.n_tokens} tokens", ended) if part)
    return quoted(system, about, output.output)


def quoted(system: str, about: str, answer: str) -> str:
    """An answer's first characters under its system's name, as HTML."""
    shown = printable(answer.replace("\r\n", "\n")).strip()
    lines = [html(line) for line in shown[:SHOWN].splitlines() if line.strip()] + ["[…]"] * (len(shown) > SHOWN)
    return f"<p><i>{system}</i> ({about}):</p>\n<blockquote>{'<br>'.join(lines)}</blockquote>"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
