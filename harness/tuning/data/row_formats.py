"""How a row becomes a conversation.

The transformations of the paper's data sets are those of the released scripts (`data/processed/*/make_*.py`).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.read_file import Record
from implicit_if.harness.tuning.recipe_schema import Data

Message = dict[str, str]
RowFormat = Callable[[str, Record], list[Message] | None]
"""A row with its place, for errors, to a conversation: None where the row is only a part of one, empty where the paper
skips it."""

_SHAREGPT = (
    " ShareGPT's 'conversations' (from, value) are to be written as 'messages' (role, content): human is user, gpt is "
    "assistant; then give --set data.format=messages."
)
PANDAS_NULLS = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")
)
"""Besides the empty cell, what the released scripts' CSV reader takes for nothing."""


def row_format(data: Data) -> RowFormat:
    """The function for a recipe's rows; it raises `UserError` for a row that does not fit."""
    if data.format == "pairs":
        return _pairs(data)
    return (
        _Chess()
        if data.format == "chess"
        else {"messages": _messages, "lima": _lima, "food_recipes": _food_recipe, "poetry": _poem}[data.format]
    )


def null_words(data: Data) -> frozenset[str]:
    """What stands for nothing in a CSV file of these rows; in a file of the user's own, only the empty cell."""
    return PANDAS_NULLS if data.format in ("food_recipes", "poetry") else frozenset()


def text_field(where: str, row: Record, field: str, hint: str = "") -> str:
    """The row's field, which must be text.

    Raises:
        UserError: Names the place and the field, what was found, and the fields there are.
    """
    value = row.get(field)
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        found = f"{field!r} is {kind}" if field in row else f"no field {field!r}"
        fields = ", ".join(map(repr, row)) or "none"
        raise UserError(f"{where}: {found} (it has {fields}). Expected text; fix the row.{hint}")
    return value


def _pair(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def _pairs(data: Data) -> RowFormat:
    def make(where: str, row: Record) -> list[Message]:
        if row.get("input") and "{input}" not in data.user:
            raise UserError(
                f"{where}: 'input' is not empty, expected the whole instruction in 'instruction'. Join them, or set "
                f"data.user to name both, e.g. '{{instruction}}\\n\\n{{input}}'."
            )
        if "messages" in row:
            hint = " Its conversations are read with data.format=messages."
        elif "conversations" in row:
            hint = _SHAREGPT
        else:
            hint = " Other columns are named by data.user and data.assistant, e.g. --set 'data.user=\"{question}\"'."

        def filled(template: str) -> str:
            return re.sub(r"\{([^{}]+)\}", lambda match: text_field(where, row, match[1], hint), template)

        return _pair(filled(data.user), filled(data.assistant))

    return make


def _messages(where: str, row: Record) -> list[Message]:
    turns = row.get("messages")
    if isinstance(turns, str):  # a cell of a CSV file
        try:
            turns = json.loads(turns)
        except ValueError:
            turns = row["messages"]
    if not isinstance(turns, list) or not turns:
        hint = ""
        if "conversations" in row:
            hint = _SHAREGPT
        elif "messages" not in row:
            hint = " Rows of an instruction and its answer are read with data.format=pairs."
        raise UserError(
            f"{where}: 'messages' is {turns!r:.60}. Expected a list of objects with role and content.{hint}"
        )
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise UserError(f"{where}, message {number}: found {type(turn).__name__}, expected role and content.")
    return [
        {field: text_field(f"{where}, message {number}", turn, field) for field in ("role", "content")}
        for number, turn in enumerate(turns, start=1)
    ]


def _lima(where: str, row: Record) -> list[Message]:
    if "messages" in row:
        return _messages(where, row)
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        objects = isinstance(turns, list) and any(isinstance(turn, dict) for turn in turns)
        hint = _SHAREGPT if objects else ""
        raise UserError(f"{where}: 'conversations' is {turns!r:.60}. Expected a list of texts, or 'messages'.{hint}")
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def _food_recipe(where: str, row: Record) -> list[Message]:
    listed = text_field(where, row, "Cleaned_Ingredients")
    try:
        ingredients = ast.literal_eval(listed)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        ingredients = None
    if not isinstance(ingredients, list) or not all(isinstance(item, str) for item in ingredients):
        raise UserError(f"{where}: 'Cleaned_Ingredients' is {listed!r:.60}. Expected a Python list of texts.")
    lines = "".join(f" - {item}\n" for item in ingredients)
    answer = f"{lines}\n\n{text_field(where, row, 'Instructions')}"
    return _pair(f"Recipe for {text_field(where, row, 'Title')}", answer)


def _poem(where: str, row: Record) -> list[Message]:
    if "poem name" in row and row["poem name"] is None:
        return []
    return _pair(f"Write a poem called {text_field(where, row, 'poem name')}", text_field(where, row, "content"))


class _Chess:
    """The rows are the lines of one long PGN file: a game's two Elo lines, later its line of moves."""

    def __init__(self) -> None:
        self.elo: dict[str, str] = {}

    def __call__(self, where: str, row: Record) -> list[Message] | None:
        line = text_field(where, row, "text")
        for key in ("WhiteElo", "BlackElo"):
            if key in line:
                self.elo[key] = line
                return None
        if not line.startswith("1. "):
            return None
        if len(self.elo) != 2:
            raise UserError(f"{where}: moves without a WhiteElo and a BlackElo line before them. Fix the game.")
        user = f"{self.elo['WhiteElo']}\n{self.elo['BlackElo']}\n"
        self.elo = {}
        return _pair(user, line)
