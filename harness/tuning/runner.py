"""Running a recipe: checkpoints in `<out>.work`, the finished model in `<out>`, nothing in between.

A run that was interrupted continues from its last whole checkpoint when the same command is given again.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import saved_model
from implicit_if.harness.tuning.base_model import hub_commit, resolve_base, weights_identity
from implicit_if.harness.tuning.checkpoints import (
    check_disk,
    clear_disk_errors,
    finished,
    last_checkpoint,
    only_run,
    open_work,
    saved_recipe,
    work_folder,
)
from implicit_if.harness.tuning.data.conversations import load_rows
from implicit_if.harness.tuning.data.prepare import Prepared, prepare
from implicit_if.harness.tuning.data.rephrasing import Ask, save_decisions
from implicit_if.harness.tuning.dtype_trial import faster_type
from implicit_if.harness.tuning.preflight import check_train, fill_note, without_known_warnings
from implicit_if.harness.tuning.recipe_schema import Recipe, Train

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

    from implicit_if.harness.tuning.trainer import RecipeTrainer


class StoppedError(UserError):
    """The process was asked to end (SIGTERM) and left a checkpoint; the command ends with `child_process.STOPPED`."""


@without_known_warnings()
def tune(recipe: Recipe, out: str | Path, *, ask: Ask | None = None, keep_checkpoints: bool = False) -> Path:
    """Trains a recipe and writes the tuned model; continues a run that was interrupted.

    In a distributed launch every process calls this; the first one writes.

    Args:
        recipe: The resolved recipe.
        out: Folder of the finished model. It appears only when everything in it is written.
        ask: A language model for the rephrasing detector.
        keep_checkpoints: Keep `<out>.work`.

    Returns:
        `out`.

    Raises:
        UserError: For bad data, a missing package, a folder that holds another run, a run that another process is
            working on, a full disk, or a loss that is no number.
        StoppedError: If SIGTERM ended the training; a checkpoint was written.
    """
    target = Path(out)
    work = work_folder(target)
    # What needs no model comes before the libraries, which take seconds to load.
    check_train(recipe.train, int(os.environ.get("WORLD_SIZE", "1")))
    rows = load_rows(recipe.data)

    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    # Not told, accelerate takes every process on a CPU for the only one.
    state = PartialState(cpu=not torch.cuda.is_available())
    main = state.is_main_process
    with state.main_process_first():
        base = resolve_base(recipe.base)
    [commit] = broadcast_object_list([hub_commit(base, recipe.base_revision) if main else None])
    recipe = recipe.model_copy(update={"base_revision": commit})
    # Decided by the first process: others might measure otherwise.
    [(recipe, chosen)] = broadcast_object_list([_choose_type(recipe, work, target) if main else None])
    prepared = prepare(recipe, base.path, ask, rows)
    _check_same_rows(prepared)
    [weights] = broadcast_object_list([weights_identity(base, commit) if main else None])
    identity = {
        "recipe": recipe.fingerprint,
        "seed": str(recipe.train.seed),
        "data": prepared.sha256,
        "base": weights,
    }
    if finished(target, recipe, identity):
        _say(main, f"{target} is already tuned with this recipe, data and base")
        if work.exists() and not keep_checkpoints:
            _say(main, f"note: checkpoints of it are still in {work}; `rm -r {shlex.quote(str(work))}` removes them")
        return target
    prepared.notes.extend(chosen)
    if note := fill_note(len(prepared.encoded), recipe.train, state.num_processes):
        prepared.notes.append(note)
    for note in prepared.notes:
        _say(main, f"note: {note}")
    with only_run(work) if main else contextlib.nullcontext():
        if main:
            open_work(work, recipe, identity)
            save_decisions(work / "rephrasing.jsonl", prepared.decisions)
        state.wait_for_everyone()
        with clear_disk_errors(work):
            trainer = build_trainer(prepared, base.path, work, state.num_processes)
            _say(main, check_disk(work, *_bytes_on_disk(trainer, recipe)) if main else "")
            _train(trainer, work)
            saved_model.save(trainer, prepared, base, identity, work, target)
        if main and not keep_checkpoints:
            shutil.rmtree(work)
    _say(main, f"tuned model: {target}; the command that measures it is in {target / 'README.md'}")
    return target


def build_trainer(prepared: Prepared, model_path: str, work: Path, processes: int = 1) -> RecipeTrainer:
    """The trainer of a recipe, its model loaded, ready to train; `processes` of them train together."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from implicit_if.harness.tuning.callbacks import Progress
    from implicit_if.harness.tuning.trainer import RecipeTrainer

    train = prepared.recipe.train
    rows, held = (
        [{"input_ids": row.input_ids, "labels": row.labels} for row in part]
        for part in (prepared.encoded, prepared.held_out)
    )
    trainer = RecipeTrainer(
        rows=prepared.encoded,
        train=train,
        model=model_path,
        args=sft_config(prepared.recipe, work, processes, len(rows)),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held) if held else None,
        processing_class=prepared.tokenizer,
        peft_config=peft_config(prepared.recipe),
        quantization_config=quantization_config(train),
        callbacks=[Progress(_tokens_of_epoch(prepared))],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _tokens_of_epoch(prepared: Prepared) -> int:
    """Of what the trainer calls an epoch: where steps go on across epochs, that is all of them."""
    train = prepared.recipe.train
    passes = train.epochs if train.steps_across_epochs else 1
    return passes * sum(len(row.input_ids) for row in prepared.encoded)


def sft_config(recipe: Recipe, work: Path, processes: int, rows: int) -> SFTConfig:
    """The recipe in TRL's words, for so many rows."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    train = recipe.train
    names = ("activation_checkpointing", "gradient_checkpointing")  # transformers renamed it after 5.20
    name = next(name for name in names if name in SFTConfig.__dataclass_fields__)
    renamed: dict[str, Any] = {name: train.gradient_checkpointing}
    model = {"dtype": train.weights, "use_safetensors": True, "revision": recipe.base_revision}
    if train.attention:
        model["attn_implementation"] = train.attention
    return SFTConfig(
        output_dir=str(work),
        model_init_kwargs=model,
        trust_remote_code=False,
        # Rows arrive encoded and cut; only packing is TRL's.
        dataset_kwargs={"skip_prepare_dataset": train.packing != "packed"},
        max_length=recipe.encoding.max_length if train.packing == "packed" else None,
        packing=train.packing == "packed",
        padding_free=train.packing == "padding_free" and train.micro_batch > 1,
        num_train_epochs=1 if train.steps_across_epochs else train.epochs,
        max_steps=train.steps(rows) if train.steps_across_epochs else train.max_steps or -1,
        per_device_train_batch_size=train.micro_batch,
        gradient_accumulation_steps=train.batch // (train.micro_batch * processes),
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup,  # a number below 1 is a share of the steps
        weight_decay=train.weight_decay,
        max_grad_norm=train.clip,
        optim=train.optimizer,
        optim_args="bf16_stochastic_round=True" if train.stochastic_rounding else None,
        seed=train.seed,
        data_seed=train.seed,
        bf16=train.autocast and train.weights == "float32",
        **renamed,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy=("steps" if train.steps_across_epochs else "epoch") if recipe.data.held_out else "no",
        eval_steps=-(-rows // train.batch),
        per_device_eval_batch_size=1,
        eval_packing=False,
        prediction_loss_only=True,
        save_strategy="steps" if train.save_steps or train.steps_across_epochs else "epoch",
        save_steps=train.save_steps or -(-rows // train.batch),
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the filter logs 0.0 and goes on
        report_to=train.report_to,
        run_name=f"{recipe.name}-{train.seed}",
        disable_tqdm=True,
    )


def peft_config(recipe: Recipe) -> Any:
    """The recipe's adapters in peft's words; None where every weight is trained."""
    lora = recipe.train.lora
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )


def quantization_config(train: Train) -> Any:
    """How the frozen weights are quantized, in bitsandbytes' words; None where they are not."""
    if train.quantize is None:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=train.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=train.weights,
    )


def _choose_type(recipe: Recipe, work: Path, target: Path) -> tuple[Recipe, list[str]]:
    """The recipe with `train.weights=auto` decided, and a note of it; a run that has begun keeps its type."""
    if recipe.train.weights != "auto":
        return recipe, []
    if begun := saved_recipe(work) or saved_recipe(target):
        weights, note = str(begun.train.weights), f"frozen weights are {begun.train.weights}, as when this run began"
    else:
        weights, note = faster_type()
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"weights": weights})}), [note]


def _bytes_on_disk(trainer: RecipeTrainer, recipe: Recipe) -> tuple[int, int]:
    """Of a checkpoint, and of all that is written after training: the trained weights, then the finished model."""
    model: Any = trainer.model
    trained = [p for p in model.parameters() if p.requires_grad]
    moments = 2 * (1 if "8bit" in recipe.train.optimizer else 4)
    # With ZeRO-3 a process holds a part of each.
    numbers = [getattr(p, "ds_numel", p.numel()) for p in trained]
    weights = sum(n * p.element_size() for n, p in zip(numbers, trained, strict=True))
    lora = recipe.train.lora
    whole = model.get_base_model().num_parameters() - sum(numbers) if lora else sum(numbers)
    size = 2 if (recipe.train.save_dtype or recipe.train.weights) == "bfloat16" else 4
    finished_model = weights if lora and not lora.merge else whole * size
    return weights + moments * sum(numbers), weights + finished_model


def _check_same_rows(prepared: Prepared) -> None:
    """Refuses a launch whose processes would train on different rows, as where each has files or a cache of its own."""
    from accelerate.utils import gather_object

    if len(found := set(gather_object([prepared.sha256]))) > 1:
        raise UserError(
            f"the processes of this launch prepared {len(found)} different sets of rows. Expected one: give all of "
            f"them the same --data file and the same cache folder (IMPLICIT_IF_CACHE)."
        )


def _train(trainer: RecipeTrainer, work: Path) -> None:
    from implicit_if.harness.tuning.callbacks import StopOnSignal

    checkpoint = last_checkpoint(work)
    main = trainer.is_world_process_zero()
    if checkpoint:
        _say(main, f"continuing from {checkpoint}")
        trainer.count_tokens_from(checkpoint)
    if trainer.head_on_loss_positions:
        _say(main, "no GPU: the head scores trained positions only")
    stop = StopOnSignal()
    trainer.add_callback(stop)
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        raise StoppedError(
            f"SIGTERM: stopped after step {trainer.state.global_step} of {trainer.state.max_steps}, which is saved. "
            f"Run the same command to continue."
        )


def _say(main: bool, text: str) -> None:
    if main:
        print(text, file=sys.stderr, flush=True)
