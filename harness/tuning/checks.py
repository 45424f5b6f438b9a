"""What can be refused before a model loads: missing packages, numbers that do not fit the machines."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.schema import Train


def check_train(train: Train, processes: int) -> None:
    """Refuses training that would fail later, or differ from what the recipe says.

    Args:
        train: The recipe's `train`.
        processes: How many processes train together.

    Raises:
        UserError: For a package that is missing, with the command that installs it, or a batch that cannot be split.
    """
    for module, package, why in _needed(train):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{why} needs {package}, which is not installed. Run `pip install {package}`.")
    per_pass = train.micro_batch * processes
    if train.batch % per_pass:
        raise UserError(
            f"train.batch is {train.batch}, expected a multiple of train.micro_batch x processes = "
            f"{train.micro_batch} x {processes}. Set train.batch={-(-train.batch // per_pass) * per_pass}."
        )


def fill_note(rows: int, train: Train, processes: int) -> str | None:
    """What happens where the rows cannot be dealt out evenly, or None where they can."""
    repeated = -rows % (train.micro_batch * processes) if processes > 1 else 0
    return f"{repeated} rows are repeated in each epoch, so that all processes get as many" if repeated else None


def _needed(train: Train) -> Iterator[tuple[str, str, str]]:
    if train.lora is not None:
        yield "peft", "peft", "train.lora"
    if train.optimizer == "adamw_torch_8bit":
        yield "torchao", "torchao", f"train.optimizer={train.optimizer}"
    if train.optimizer in ("adamw_bnb_8bit", "paged_adamw_8bit"):
        yield "bitsandbytes", "bitsandbytes", f"train.optimizer={train.optimizer}"
    if train.attention == "flash_attention_2":
        yield "flash_attn", "flash-attn", f"train.attention={train.attention}"
    if (train.attention or "").startswith("kernels-community/"):
        yield "kernels", "kernels", f"train.attention={train.attention}"
    if train.report_to != "none":
        yield train.report_to, train.report_to, f"train.report_to={train.report_to}"
