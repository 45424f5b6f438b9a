"""A matrix: which base models, recipes, seeds and judge a replication is made of. One YAML each, checked when read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import read_yaml
from implicit_if.harness.tuning.recipe import recipe_names

MATRICES = Path(__file__).parent
SIBLING = "instruction"
"""The recipe whose models are the references: each system is judged against the one of its own seed."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]*(-[A-Za-z0-9._]+)*$", max_length=40)]
"""Part of a cell's name, which is a folder's name, too."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(_Part):
    """A base model and what is done to it.

    Attributes:
        name: In the names of cells and systems.
        base: Hub name, folder, or a registered name.
        licence: Of the model, and so of its answers.
        parameters: How many it has, for the plan's arithmetic.
        profile: Hyper-parameters of its tuning, e.g. "llama2-7b/reference".
        settings: Further `--set` of each tuning.
        launcher: What starts a tuning on several GPUs; empty: a process of its own.
        gpus: GPUs of a tuning; 0 where a CPU will do.
        memory_gb: Memory of the host that a tuning needs; 0 leaves it to the plan's arithmetic.
        dtype: Type of the weights that answer.
        recipes: What it is tuned by; the sibling's comes first.
        rules: Preset of the rules; None leaves them out.
        without: Rules that are left out, one a system.
        only: Rules that are kept alone, by the rules that are left out for it.
        ranking: Whether responses are ranked (Table 2) with the base model and its sibling.
    """

    name: Name
    base: str
    licence: str
    parameters: float = Field(gt=0)
    profile: str
    settings: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ()
    gpus: int = Field(default=0, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    dtype: Literal["float32", "bfloat16", "float16"]
    recipes: tuple[str, ...]
    rules: Name | None = "paper"
    without: tuple[Name, ...] = ()
    only: dict[Name, tuple[Name, ...]] = {}
    ranking: bool = False

    @field_validator("recipes")
    @classmethod
    def _known(cls, recipes: tuple[str, ...]) -> tuple[str, ...]:
        for recipe in recipes:
            if recipe not in recipe_names():
                raise ValueError(f"no recipe {recipe!r}; known: {', '.join(recipe_names())}")
        if recipes[:1] != (SIBLING,):
            raise ValueError(f"the first recipe is {SIBLING}: every other system is judged against it")
        if len(set(recipes)) < len(recipes):
            raise ValueError("a recipe is given twice")
        return recipes


class Judge(_Part):
    """Who judges.

    Attributes:
        name: As `implicit-if judge --judge` takes it.
        options: Its `--option`.
        attempts: As `--judge-attempts` takes it; None is the command's own choice.
        orders: Presentation orders in which it is asked about each pair.
        api: Whether it is asked over a network.
        gpus: GPUs that it needs.
        max_cost: US dollars that one cell may spend.
    """

    name: str
    options: dict[str, str | bool | int | float] = {}
    attempts: str | None = None
    orders: Literal[1, 2] = 2
    api: bool = False
    gpus: int = Field(default=0, ge=0)
    max_cost: float | None = Field(default=None, ge=0)


class Sweep(_Part):
    """How many epochs? Each is tried on validation instructions; without a sweep the profile's are taken.

    Attributes:
        epochs: Those that are tried.
        seed: Of the sweep's models.
        instructions: The validation set.
        n_instructions: How many it has, for the plan's arithmetic.
        opponent: Model behind OpenAI's API whose answers the sweep's models are judged against.
    """

    epochs: tuple[int, ...] = Field(min_length=2)
    seed: int = Field(ge=0)
    instructions: str
    n_instructions: int = Field(default=56, ge=1)
    opponent: str


class Matrix(_Part):
    """All of a replication. Files and folders that a matrix of one's own names are looked for in its folder.

    Attributes:
        name: In the name of its folder.
        summary: One line.
        models: The base models.
        seeds: Of the tunings.
        instructions: The instruction set that systems answer.
        n_instructions: How many it has, for the plan's arithmetic.
        max_new_tokens: Tokens that an answer may have.
        organisation: Before the "/" of the systems' names.
        withhold: Whether what a tuned model's answers recite of its training data is left out of them before they are
            judged, so that its submission may be passed on where the data may not.
        pairs: Of the response ranking: `builtin`, `alpaca`, or a file.
        judge: Who judges.
        sweep: How the epochs are chosen, if not by the profile.
    """

    name: Name
    summary: str
    models: tuple[Model, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    instructions: str
    n_instructions: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)
    organisation: Name = "implicit-if"
    withhold: bool = False
    pairs: str = "builtin"
    judge: Judge
    sweep: Sweep | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files of one's own that it names: what is made of them depends on their content."""
        named = (self.instructions, self.pairs, *([self.sweep.instructions] if self.sweep else []))
        return tuple(dict.fromkeys(name for name in named if Path(name).is_absolute()))

    @model_validator(mode="after")
    def _distinct(self) -> Matrix:
        for what, found in (("model", [m.name for m in self.models]), ("seed", [str(s) for s in self.seeds])):
            if len(set(found)) < len(found):
                raise ValueError(f"a {what} is given twice: {', '.join(found)}")
        return self


def matrix_names() -> list[str]:
    """Names of the shipped matrices."""
    return sorted(path.stem for path in MATRICES.glob("*.yaml"))


def load_matrix(name_or_path: str | Path) -> Matrix:
    """Reads a matrix.

    Args:
        name_or_path: A shipped matrix's name, or a YAML file.

    Raises:
        UserError: For an unknown name, or a file that is no matrix; names what is wrong.
    """
    shipped = matrix_names()
    path = MATRICES / f"{name_or_path}.yaml" if str(name_or_path) in shipped else Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("matrix", str(name_or_path), shipped, fix="A file of your own ends in .yaml.")
    values = read_yaml(path, f"a matrix, as {shipped[0]}.yaml")
    try:
        return _located(Matrix.model_validate({"name": path.stem, **values}), path.resolve())
    except ValidationError as error:
        detail = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'matrix'}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path}: not a matrix ({detail}). Follow {MATRICES / 'embedded.yaml'}.") from error


def _located(matrix: Matrix, source: Path) -> Matrix:
    """The matrix with whole paths of the files and folders that it names: cells run in another folder than the user."""

    def locate(name: str) -> str:
        path = source.parent / Path(name).expanduser()
        if not path.exists() and path.suffix in (".json", ".jsonl"):
            raise UserError(f"{source}: names {name}, which is not there. Expected a path from {source.parent}.")
        return str(path.resolve()) if path.exists() and (os.sep in name or path.suffix) else name

    found = {"instructions": locate(matrix.instructions), "pairs": locate(matrix.pairs)}
    models = tuple(model.model_copy(update={"base": locate(model.base)}) for model in matrix.models)
    sweep = matrix.sweep and matrix.sweep.model_copy(update={"instructions": locate(matrix.sweep.instructions)})
    return matrix.model_copy(update={**found, "models": models, "sweep": sweep})
