"""What a tuning recipe may say. Every value that shapes the tuned model stands here, none in the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import sha256_json

Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adamw_torch_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Part):
    """Which rows are trained on, and how each becomes a conversation.

    Attributes:
        repo: Hub repository of the data set; None for a file of your own.
        revision: Commit of that repository, whole or its first 7 digits (the hub then says the rest).
        file: The file in it; None reads the `train` split, row by row, through `datasets`.
        path: A local file (jsonl, json, csv, parquet, txt) of the same shape, read in place of the hub's. In a recipe
            it is looked for in the recipe's folder first.
        format: How a row is read: "pairs" (`user` and `assistant` say how), "messages" (roles and contents), or
            a data set's own way: lima, food_recipes, poetry, chess.
        user: The user's text of a pair, with the row's fields in braces.
        assistant: The answer of a pair, likewise.
        drop_instructions: Response tuning: every user text becomes empty, system messages are left out.
        rephrasing: What happens to answers that begin by rephrasing their instruction: "keep", "cut" (that sentence
            is removed) or "drop" (the conversation is left out).
        rephrasing_model: Who finds them: `openai:<model>` at $OPENAI_BASE_URL; None uses a lexical rule.
        limit: Only the first rows; None takes all.
        max_tokens: Leave out conversations of more tokens; None keeps all (and cuts them at `encoding.max_length`).
        held_out: Rows, evenly spread, that are not trained on; their loss is logged after each epoch.
        licence: Licence of the rows, for the model card.
    """

    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    path: str | None = None
    format: Literal["pairs", "messages", "lima", "food_recipes", "poetry", "chess"] = "pairs"
    user: str = "{instruction}"
    assistant: str = "{response}"
    drop_instructions: bool = False
    rephrasing: Literal["keep", "cut", "drop"] = "keep"
    rephrasing_model: str | None = None
    limit: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    held_out: int | None = Field(default=None, ge=1)
    licence: str = "not stated"

    @model_validator(mode="after")
    def _agree(self) -> Data:
        if self.repo is not None and self.revision is None:
            raise ValueError("a repo needs its revision, a commit, or the rows may change")
        return self


class Encoding(_Part):
    """How a conversation becomes tokens and labels.

    Attributes:
        template: A chat template: tulu, ab, tulu_no_user, or the path of a Jinja file.
        max_length: Tokens; longer rows are cut and lose their end-of-sequence token.
        newline_in_loss: The released code also trains the newline after an answer that is not the last.
    """

    template: str = "tulu"
    max_length: int = Field(default=2048, ge=2)
    newline_in_loss: bool = False


class Lora(_Part):
    """Low-rank adapters on the linear layers. `scale = alpha / r`.

    Attributes:
        merge: Merge them into the weights at the end, so that any tool loads the model; else the adapters alone are
            saved, which takes no memory for the whole model.
    """

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    merge: bool = True


class Train(_Part):
    """How the weights are changed.

    Attributes:
        epochs: Passes over the rows; the schedule ends with the last one, so a checkpoint of a longer run is not the
            same as a shorter run.
        max_steps: Stop after so many optimiser steps instead; for trials.
        learning_rate: The highest rate.
        schedule: Its course after the warm-up.
        warmup: Share of the steps in which it rises.
        weight_decay: AdamW's.
        batch: Conversations per optimiser step, over all processes; with packing=packed, packs of them.
        micro_batch: Conversations per forward pass and process; with packing=packed, packs of them.
        steps_across_epochs: A step goes on into the next epoch, as in DeepSpeed under accelerate before 1.8, which the
            released scripts used; rows that fill no last step are left out. False ends a step with the epoch.
        gradients: Type in which a step's gradients are summed; "bfloat16" rounds each sum, as DeepSpeed's bf16 does.
        clip: Largest norm of the gradient.
        loss_average: "example": the mean of each conversation's mean, as released; "token": every token the same.
        weights: Type of the trained weights (with LoRA: of the frozen ones; adapters are float32). "auto", with LoRA,
            takes bfloat16 where this machine multiplies it faster, else float32.
        quantize: "nf4" keeps the frozen weights in 4 bits (QLoRA, by bitsandbytes), computing in the type of
            `weights`; adapters are float32.
        autocast: Compute in bfloat16 where the weights are float32; on a GPU.
        optimizer: AdamW, whole or in 8 bits (torchao or bitsandbytes).
        stochastic_rounding: For bfloat16 weights, with adamw_torch_8bit.
        gradient_checkpointing: Recompute activations: less memory, about a third more time.
        packing: "packed" joins rows up to max_length, "padding_free" joins the rows of a micro batch; no row sees
            another, and each weighs what `loss_average` says.
        attention: transformers' `attn_implementation`; None takes its default.
        lora: Adapters; None trains every weight.
        save_steps: Steps between checkpoints; None saves after each epoch.
        save_dtype: Type of the finished model's weights; None keeps the trained type.
        seed: Order of the rows, adapters' start.
        report_to: Where the losses go besides the terminal and training_log.jsonl.
    """

    epochs: int = Field(ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(gt=0)
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    batch: int = Field(default=64, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    steps_across_epochs: bool = False
    gradients: Literal["float32", "bfloat16"] = "float32"
    clip: float = Field(default=1.0, gt=0)
    loss_average: Literal["example", "token"] = "example"
    weights: Literal["auto", "float32", "bfloat16"] = "float32"
    quantize: Literal["nf4"] | None = None
    autocast: bool = True
    optimizer: Optimizer = "adamw_torch"
    stochastic_rounding: bool = False
    gradient_checkpointing: bool = True
    packing: Literal["none", "packed", "padding_free"] = "none"
    attention: str | None = None
    lora: Lora | None = None
    save_steps: int | None = Field(default=None, ge=1)
    save_dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = Field(default=42, ge=0)
    report_to: Literal["none", "trackio", "wandb"] = "none"

    @model_validator(mode="after")
    def _agree(self) -> Train:
        if self.lora is None and (self.weights == "auto" or self.quantize):
            key = f"quantize={self.quantize}" if self.quantize else "weights=auto"
            raise ValueError(f"{key} is for frozen weights; set train.lora.r=16")
        if self.steps_across_epochs and self.packing == "packed":
            raise ValueError("steps_across_epochs counts rows; it needs train.packing=none or padding_free")
        if self.stochastic_rounding and (self.optimizer != "adamw_torch_8bit" or self.weights != "bfloat16"):
            raise ValueError("stochastic_rounding needs train.optimizer=adamw_torch_8bit and train.weights=bfloat16")
        if self.weights == "bfloat16" and self.lora is None and not self.stochastic_rounding:
            raise ValueError(
                "plain bfloat16 weights hardly move at such learning rates (an AdamW step of 1e-5 leaves 88 % of "
                "them unchanged); set train.weights=float32, train.stochastic_rounding=true or train.lora.r=16"
            )
        return self

    def steps(self, count: int) -> int:
        """Optimiser steps of a training on `count` rows (with packing=packed: packs)."""
        if self.steps_across_epochs:
            most = max(count * self.epochs // self.batch, 1)
            return min(most, self.max_steps or most)
        return self.max_steps or -(-count // self.batch) * self.epochs


class Recipe(_Part):
    """A recipe with every choice made: what `recipe.yaml` beside a tuned model holds.

    Attributes:
        name: The recipe's name, fit for a file; goes into the model card.
        summary: One line.
        profile: The hyper-parameters it took, as `model/set`; None if it names all itself.
        base: Hub name or folder of the base model, or a name registered under `implicit_if.models`.
        base_revision: The hub revision; None takes the newest, which is then recorded.
    """

    name: str
    summary: str = ""
    profile: str | None = None
    base: str
    base_revision: str | None = None
    data: Data
    encoding: Encoding = Encoding()
    train: Train

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not name or not name.isprintable() or name.startswith(".") or set(name) & set("/\\:"):
            raise ValueError("expected a plain name, without / \\ : and without a dot in front")
        return name

    @property
    def fingerprint(self) -> str:
        """Hex sha256 over `choices`. Base, rows and seed have records of their own beside it."""
        return sha256_json(self.choices())

    def choices(self) -> dict[str, Any]:
        """Every choice that shapes the tuned model, but for base, rows and seed, by dotted key.

        Names, and what changes no weight, do not count.
        """
        values = self.model_dump(mode="json", include={"data", "encoding", "train"})
        for key in ("path", "licence"):
            del values["data"][key]
        for key in ("seed", "save_steps", "gradient_checkpointing", "report_to"):
            del values["train"][key]
        return dict(_flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def key_paths(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted key a recipe may have, e.g. `train.lora.r`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from key_paths(part, f"{prefix}{name}.")


def validate(values: dict[str, Any], origin: str) -> Recipe:
    """Checks merged values against the schema.

    Raises:
        UserError: Names the key, the value found and what was expected; for an unknown key, the nearest ones.
    """
    try:
        return Recipe.model_validate({"data": {}, "train": {}, **values})
    except ValidationError as error:
        errors = error.errors()
        unknown = [e for e in errors if e["type"] == "extra_forbidden"]  # a misspelt key explains others
        missing = [".".join(map(str, e["loc"])) for e in errors if e["type"] == "missing"]
        first = (unknown or [e for e in errors if e["type"] != "missing"] or errors)[0]
        key = ".".join(map(str, first["loc"])) or "recipe"
        if unknown:
            raise unknown_name(f"key in {origin}", key, key_paths()) from error
        if first["type"] == "missing":
            if not {"repo", "path"} & {key for key, value in values.get("data", {}).items() if value}:
                missing.append("data")
            short = {"base": "--base MODEL", "data": "--data PATH"}
            options = " ".join(short.get(name, f"--set {name}=...") for name in missing)
            are = "is" if len(missing) == 1 else "are"
            raise UserError(
                f"{origin}: {' and '.join(missing)} {are} not set. Give {options}, or choose a profile that has what "
                f"is missing with --profile (see `implicit-if tune --list`)."
            ) from error
        found = "" if isinstance(first["input"], dict | BaseModel) else f" (found {first['input']!r})"
        raise UserError(f"{origin}, {key}: {first['msg'].removeprefix('Value error, ')}{found}.") from error
