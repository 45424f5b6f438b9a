"""The rows a model was tuned on, by a recipe's name or from a file."""

from __future__ import annotations

from pathlib import Path

from implicit_if.harness.analysis.response_pairs import load_pairs
from implicit_if.harness.embedded_base import HUB_NAME
from implicit_if.harness.tuning.data.conversations import load_rows
from implicit_if.harness.tuning.recipe import load_recipe, recipe_names

HELP_ROWS = (
    "a tuning recipe's name, whose data come from the hub; RECIPE=FILE for a local copy of them; a recipe's YAML; or a "
    "file of instruction-response pairs"
)


def load_training_rows(spec: str) -> tuple[str, list[tuple[str, str]]]:
    """A training set's name, and the instruction and response of every turn of it.

    Args:
        spec: See `HELP_ROWS`; NAME=FILE with another name is a file of pairs under that name.

    Raises:
        UserError: If the file is missing or malformed, holds fewer than two rows, or the hub does not give it.
    """
    name, equals, path = spec.partition("=")
    file = path if equals else spec
    if name in recipe_names():
        recipe = load_recipe(name, base=HUB_NAME, data=path if equals else None)  # the base shapes no row
    elif file.endswith((".yaml", ".yml")):
        name, recipe = name if equals else Path(file).stem, load_recipe(file, base=HUB_NAME)
    else:
        pairs = load_pairs(file)
        return name if equals else pairs.name, [(pair.instruction, pair.response) for pair in pairs.items]
    return name, [
        (str(asked["content"]), str(answered["content"]))
        for row in load_rows(recipe.data).conversations
        for asked, answered in zip(row.messages, row.messages[1:], strict=False)
        if answered["role"] == "assistant"
    ]
