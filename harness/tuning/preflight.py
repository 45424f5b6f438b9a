"""What can be refused before a model loads: missing packages and weights, numbers that do not fit the machines."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import read_json
from implicit_if.harness.tuning.base_model import hub_config, unreadable_config
from implicit_if.harness.tuning.recipe_schema import Lora, Train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENIZERS = ("tokenizer*.json", "*.model", "vocab.*", "*.tiktoken")
_KNOWN_WARNINGS = (
    ".*is_gradient_checkpointing",  # peft reads transformers' old name
    ".*pin_memory",  # of loaders on a CPU
    "Model has `tie_word_embeddings=True`",  # `saved_model` unties what adapters made different
    "Setting `save_embedding_layers`",
)
_KNOWN_LOG_LINES = (
    "mtime may not be reliable",  # of checkpoints seconds apart, then sorted by step
    "Warning: The following arguments do not match",  # `open_work` compares what changes numbers
)


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """Keeps quiet what libraries warn of and is taken care of here; also a decorator."""

    def unknown(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_KNOWN_LOG_LINES)

    logger = logging.getLogger("transformers.trainer_utils")
    logger.addFilter(unknown)
    try:
        with warnings.catch_warnings():
            for message in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.removeFilter(unknown)


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


def check_model(path: str | Path, revision: str | None, train: Train) -> None:
    """Refuses a base model that is not whole, and what `train` names and the model does not have.

    Args:
        path: Hub name or folder of the base model; only a folder's files are looked at.
        revision: Of a hub model.
        train: The recipe's `train`.

    Raises:
        UserError: Names what is missing or unknown.
    """
    if Path(path).is_dir():
        _check_folder(Path(path))
        _check_tensors(Path(path))
    plain_lora = train.lora is None or train.lora.targets == "all-linear"
    elsewhere = train.attention is None or "/" in train.attention or train.attention.startswith("flash")
    if plain_lora and elsewhere and train.packing == "none":
        return
    # A dry run need not have the GPU's packages.
    model = _skeleton(path, revision, None if elsewhere else train.attention)
    if train.packing != "none":
        _check_packing(model, train)
    if train.lora is not None and not plain_lora:
        _check_targets(model, train.lora)


def fill_note(rows: int, train: Train, processes: int) -> str | None:
    """What happens where the rows cannot be dealt out evenly, or None where they can."""
    repeated = -rows % (train.micro_batch * processes) if processes > 1 else 0
    return f"{repeated} rows are repeated in each epoch, so that all processes get as many" if repeated else None


def _check_folder(folder: Path) -> None:
    """Refuses a folder that lacks a part of a model, or holds one that was not copied to its end."""
    read_json(folder / "config.json", "a model's configuration")
    if not any(path for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        raise UserError(
            f"base model {folder}: holds no tokenizer. Copy its tokenizer.json and tokenizer_config.json too."
        )
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        _check_safetensors(folder / "model.safetensors")
        return
    if not index.is_file():
        others = ", ".join(sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf")))
        raise UserError(
            f"base model {folder}: no model.safetensors (found {others or 'no weights'}). Expected weights as "
            f"safetensors; others are not read, since pickle files can run code. Convert the model: load it with "
            f"transformers and `save_pretrained` it."
        )
    try:
        parts = set(read_json(index, "a weight_map")["weight_map"].values())
    except (UserError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: is damaged ({error!r}). Expected a weight_map; copy the model again.") from error
    missing = sorted(part for part in parts if not (folder / part).is_file())
    if missing:
        raise UserError(f"base model {folder}: {', '.join(missing)} missing. Copy the model again.")
    for part in sorted(parts):
        _check_safetensors(folder / part)


def _check_safetensors(path: Path) -> None:
    """Refuses a file that is shorter or longer than its head says; nothing else of it is read."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head: dict[str, Any] = json.loads(file.read(length)) if 0 < length < size else {}
        head.pop("__metadata__", None)
        expected = 8 + length + max(tensor["data_offsets"][1] for tensor in head.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: is no whole safetensors file ({error!r}). Copy the model again.") from error
    if size != expected:
        raise UserError(f"{path}: holds {size} bytes, expected {expected} as its head says. Copy the model again.")


def _check_tensors(folder: Path) -> None:
    """Refuses weights that are not those of the configuration: transformers would make up what is missing."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as library_logging

    logging: Any = library_logging
    load: Any = AutoModelForCausalLM.from_pretrained
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        _, found = load(
            folder, device_map="meta", output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise UserError(
            f"base model {folder}: its weights do not load as config.json says ({error}). Expected a causal language "
            f"model of transformers; copy the model again."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"base model {folder}: lacks {len(missing)} weights that config.json asks for, e.g. {missing[0]}. They "
            f"would be random; copy the model again."
        )


def _skeleton(path: str | Path, revision: str | None, attention: str | None) -> PreTrainedModel:
    """The model without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = {"eager", *(name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name)}
    if attention is not None and attention not in known:
        fix = "Kernels of the hub are named like kernels-community/flash-attn2."
        raise unknown_name("train.attention", attention, known, fix=fix)
    if not Path(path).is_dir():
        hub_config(str(path), revision)  # in bounded time, which AutoConfig's own question is not
    try:
        config = AutoConfig.from_pretrained(str(path), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise unreadable_config(str(path), revision, error) from error
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=False, **({"attn_implementation": attention} if attention else {})
            )
    except (OSError, ValueError, ImportError) as error:
        chosen = f" with train.attention={attention}" if attention else ""
        fix = "; train.attention=eager fits every one" if attention else ""
        raise UserError(
            f"base model {path}: cannot be built{chosen} ({error}). Expected a causal language model of "
            f"transformers{fix}."
        ) from error
    return model


def _check_packing(model: PreTrainedModel, train: Train) -> None:
    """Rows that share a sequence are told apart by their positions, which only attention heeds."""
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    if not takes_positions or model._is_stateful:
        raise UserError(
            f"train.packing={train.packing}: {type(model).__name__} "
            f"{'keeps a state from token to token' if takes_positions else 'takes no position_ids'}, so joined rows "
            f"would see each other. Set train.packing=none."
        )


def _check_targets(model: PreTrainedModel, lora: Lora) -> None:
    """Every target must be there, and be something that can have adapters."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name, _ in model.named_modules()]
    listed = [lora.targets] if isinstance(lora.targets, str) else lora.targets
    linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    for target in listed:
        try:
            pattern = target if isinstance(lora.targets, str) else rf"(.*\.)?{re.escape(target)}"
            found = any(re.fullmatch(pattern, name) for name in names)
        except re.error as error:
            raise UserError(f"train.lora.targets is {target!r}: no regular expression ({error}).") from error
        if not found:
            raise unknown_name("train.lora.targets", target, linear, fix="Or all-linear.")
    try:
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        with torch.device("meta"):
            inject_adapter_in_model(LoraConfig(target_modules=lora.targets, task_type="CAUSAL_LM"), model)
    except ValueError as error:
        raise UserError(f"train.lora.targets: {error} Expected some of: {', '.join(sorted(linear))}.") from error
    if model.get_output_embeddings() is not head:  # type: ignore[no-untyped-call]
        raise UserError(
            "train.lora.targets includes the language-model head, whose adapter TRL would not train. "
            f"Expected some of: {', '.join(sorted(linear - {'lm_head'}))}."
        )


def _needed(train: Train) -> Iterator[tuple[str, str, str]]:
    if train.lora is not None:
        yield "peft", "peft", "train.lora"
    if train.optimizer == "adamw_torch_8bit":
        yield "torchao", "torchao", f"train.optimizer={train.optimizer}"
    if train.optimizer in ("adamw_bnb_8bit", "paged_adamw_8bit"):
        yield "bitsandbytes", "bitsandbytes", f"train.optimizer={train.optimizer}"
    if train.quantize:
        yield "bitsandbytes", "bitsandbytes", f"train.quantize={train.quantize}"
    if train.attention == "flash_attention_2":
        yield "flash_attn", "flash-attn", f"train.attention={train.attention}"
    if (train.attention or "").startswith("kernels-community/"):
        yield "kernels", "'transformers[kernels]'", f"train.attention={train.attention}"
    if train.report_to != "none":
        yield train.report_to, train.report_to, f"train.report_to={train.report_to}"
