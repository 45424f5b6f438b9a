"""Token ranks that `implicit-if token-shift` kept, found again by the text of the answer they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import Output
from implicit_if.harness.records import read_records
from implicit_if.harness.references.recitation import MARK

Ranked = list[tuple[str, int, str]]
"""An answer's tokens: text, rank under the base model, and what the base would have chosen."""
Ranks = Mapping[str, Ranked | None]
"""By an answer's text; None where answers of one text have different ranks: which are meant cannot be told."""


def load_ranks(folders: Sequence[Path]) -> dict[str, Ranked | None]:
    """The ranks in the `--out` folders of `implicit-if token-shift`.

    Raises:
        UserError: If a folder holds none.
    """
    found: dict[str, Ranked | None] = {}
    for folder in folders:
        files = sorted((folder / "ranks").glob("*.jsonl"))
        if not files:
            raise UserError(
                f"{folder}: no ranks of tokens there (ranks/*.jsonl). Expected the --out folder of implicit-if "
                f"token-shift."
            )
        for file in files:
            for row in read_records(file):
                tokens = _tokens(row, file)
                text = "".join(token for token, _, _ in tokens)
                found[text] = tokens if found.get(text, tokens) == tokens else None
    return found


def ranks_of(ranks: Ranks, answers: Sequence[Output]) -> list[Ranked | None] | None:
    """`[n]` the tokens of each answer; None where they are not known, and instead of the list if none is.

    An answer from which a passage is withheld has the tokens before it, and the rest as one token of rank 1.
    """
    found = [_answer(ranks, answer.output) for answer in answers]
    return found if any(found) else None


def _answer(ranks: Ranks, text: str) -> Ranked | None:
    if MARK not in text:
        return ranks.get(text)
    start = text.partition(MARK)[0].rstrip()
    tokens = ranks.get(start)
    return None if tokens is None else [*tokens, (text[len(start) :], 1, "")]


def _tokens(row: Any, file: Path) -> Ranked:
    try:
        return [(str(token["text"]), int(token["rank"]), str(token["base_choice"])) for token in row["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file}: not the ranks of implicit-if token-shift ({type(error).__name__}). Make them again with it."
        ) from error
