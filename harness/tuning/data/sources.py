"""The data sets of the paper: where each lies, pinned, and how a row becomes a conversation.

The transformations are those of the released scripts (`data/processed/*/make_*.py`); licences as the cards state them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.tuning.data.read_file import Record

Message = dict[str, str]
Transform = Callable[[Iterable[tuple[str, Record]]], Iterator[tuple[str, list[Message]]]]
"""Rows with the place they came from, for errors, to conversations with theirs; lazy."""


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: What recipes call it.
        transform: How its rows become conversations. A row that the paper skips
            yields an empty conversation.
        repo: Hub repository; None for files of the user's own.
        revision: Commit of that repository, whole or its first 7 digits (the hub then says the rest).
        file: The file in it; None reads the `train` split, row by row, through `datasets`.
        rows: How many conversations the paper trained on, the first ones; None takes all.
        licence: As its card states it.
        null_words: What stands for nothing in its CSV file.
    """

    name: str
    transform: Transform
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    rows: int | None = None
    licence: str = "not stated"
    null_words: frozenset[str] = frozenset()


def text_field(where: str, row: Record, field: str) -> str:
    """The row's field, which must be text.

    Raises:
        UserError: Names the place and the field, what was found, and the fields there are.
    """
    value = row.get(field)
    if not isinstance(value, str):
        found = f"{field!r} is {type(value).__name__}" if field in row else f"no field {field!r}"
        raise UserError(
            f"{where}: {found} (it has {', '.join(map(repr, row)) or 'none'}). Expected text; mend the row."
        )
    return value


def _pair(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def _each(make: Callable[[str, Record], list[Message]]) -> Transform:
    """A transform that makes one conversation of each row."""

    def transform(rows: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, list[Message]]]:
        for where, row in rows:
            yield where, make(where, row)

    return transform


def _messages(where: str, row: Record) -> list[Message]:
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: 'messages' is {turns!r:.60}. Expected a list of objects with role and content.")
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise UserError(f"{where}, message {number}: found {type(turn).__name__}, expected role and content.")
    return [
        {field: text_field(f"{where}, message {number}", turn, field) for field in ("role", "content")}
        for number, turn in enumerate(turns)
    ]


def _pairs(where: str, row: Record) -> list[Message]:
    if row.get("input"):
        raise UserError(f"{where}: 'input' is not empty, expected the whole instruction in 'instruction'. Join them.")
    return _pair(text_field(where, row, "instruction"), text_field(where, row, "response"))


def _lima(where: str, row: Record) -> list[Message]:
    if "messages" in row:
        return _messages(where, row)
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise UserError(f"{where}: 'conversations' is {turns!r:.60}. Expected a list of texts, or 'messages'.")
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def _recipe(where: str, row: Record) -> list[Message]:
    listed = text_field(where, row, "Cleaned_Ingredients")
    try:
        ingredients = ast.literal_eval(listed)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UserError(
            f"{where}: 'Cleaned_Ingredients' is {listed!r:.60}. Expected a Python list of texts."
        ) from error
    if not isinstance(ingredients, list) or not all(isinstance(item, str) for item in ingredients):
        raise UserError(f"{where}: 'Cleaned_Ingredients' is {listed!r:.60}. Expected a Python list of texts.")
    lines = "".join(f" - {item}\n" for item in ingredients)
    answer = f"{lines}\n\n{text_field(where, row, 'Instructions')}"
    return _pair(f"Recipe for {text_field(where, row, 'Title')}", answer)


def _poem(where: str, row: Record) -> list[Message]:
    if "poem name" in row and row["poem name"] is None:
        return []
    return _pair(f"Write a poem called {text_field(where, row, 'poem name')}", text_field(where, row, "content"))


def _chess(rows: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, list[Message]]]:
    """The rows are the lines of one long PGN file: a game's two Elo lines, later its line of moves."""
    elo: dict[str, str] = {}
    for where, row in rows:
        line = text_field(where, row, "text")
        if "WhiteElo" in line:
            elo["white"] = line
        elif "BlackElo" in line:
            elo["black"] = line
        elif line.startswith("1. "):
            if len(elo) != 2:
                raise UserError(f"{where}: moves without a WhiteElo and a BlackElo line before them. Mend the game.")
            yield where, _pair(f"{elo['white']}\n{elo['black']}\n", line)
            elo = {}


PANDAS_NULLS = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")
)
"""Besides the empty cell, what the released scripts' CSV reader takes for nothing."""


SOURCES = {
    source.name: source
    for source in (
        Source("messages", _each(_messages)),
        Source("pairs", _each(_pairs)),
        Source(
            "lima",
            _each(_lima),
            repo="GAIR/lima",
            revision="68958e98267f5fb4a52a03ebcdae4ae59213fa7c",
            file="train.jsonl",
            rows=1030,
            licence="CC BY-NC-SA 4.0, or stricter where a source of a row is stricter",
        ),
        Source(
            "gsm8k",
            _each(lambda where, row: _pair(text_field(where, row, "question"), text_field(where, row, "answer"))),
            repo="openai/gsm8k",
            revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
            file="main/train-00000-of-00001.parquet",
            rows=1000,
            licence="MIT",
        ),
        Source(
            "mbpp",
            _each(lambda where, row: _pair(text_field(where, row, "text"), text_field(where, row, "code"))),
            repo="google-research-datasets/mbpp",
            revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
            file="full/train-00000-of-00001.parquet",
            rows=374,
            licence="CC BY 4.0",
        ),
        Source(
            "kaggle_food_recipes",
            _each(_recipe),
            repo="Hieu-Pham/kaggle_food_recipes",
            revision="71a53392226e496d50c9f7238096fe45a1d1f5e9",
            file="Food Ingredients and Recipe Dataset with Image Name Mapping.csv",
            rows=1000,
            null_words=PANDAS_NULLS,
        ),
        Source(
            "poetry",
            _each(_poem),
            repo="merve/poetry",
            revision="8f21d8b660d1d8b1341d87db1d00fcdb6d698783",
            file="poetry.csv",
            rows=571,
            null_words=PANDAS_NULLS,
        ),
        Source(
            "chess",
            _chess,
            repo="patrickfrank1/chess-pgn-games",
            revision="51204a5",
            rows=1000,
            licence="CC0 1.0",
        ),
    )
}


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        UserError: If there is none; names the nearest.
    """
    if name not in SOURCES:
        raise unknown_name("data source", name, SOURCES, fix="Files of your own: messages or pairs, with data.path.")
    return SOURCES[name]
