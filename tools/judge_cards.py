"""Writes every shipped judge's card, docs/judges/<name>.md, from its configuration and the measurements beside it.

    python tools/judge_cards.py [--check]

Nothing is measured here: `implicit-if judge-card JUDGE --labelled ... --answers ... --out docs/judges/<name>.md` does
that. `--check` writes nothing and has the exit status 1 if a page is missing or out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embedded_judge_card import page as embedded_page

from implicit_if.harness.judging.cards.cli import load_measured
from implicit_if.harness.judging.cards.page import card_names, render_card
from implicit_if.harness.storage import atomic_write

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "judges"


def main(*arguments: str) -> int:
    stale = []
    for name, text in pages().items():
        path = FOLDER / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                with atomic_write(path) as file:
                    file.write(text)
    print(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(stale) or 'none'}")
    return int(bool(stale) and "--check" in arguments)


def pages() -> dict[str, str]:
    """Every card by judge."""
    cards = {}
    for name in card_names():
        measured = load_measured(FOLDER / f"{name}.json")
        cards[name] = embedded_page(measured) if name == "embedded" else render_card(name, measured)
    return cards


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
