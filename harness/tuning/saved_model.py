"""The finished model: safetensors, tokenizer, chat template, recipe, provenance and card, in one rename."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.provenance import PROVENANCE, Provenance, TunedBase
from implicit_if.harness.records import append_records
from implicit_if.harness.storage import atomic_write, write_json
from implicit_if.harness.tuning import model_card
from implicit_if.harness.tuning.base_model import Base
from implicit_if.harness.tuning.data.prepare import Prepared
from implicit_if.harness.tuning.data.rephrasing import save_decisions
from implicit_if.harness.tuning.recipe import save_recipe
from implicit_if.harness.tuning.tokenizer import check_reloaded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from implicit_if.harness.tuning.trainer import RecipeTrainer


_PROBE_TOKENS = 64
_MOST_DIFFERENCE = 0.1
"""Of the logits' own size; bfloat16 weights or autocast leave about 0.02."""


def save(
    trainer: RecipeTrainer, prepared: Prepared, base: Base, identity: dict[str, str], work: Path, target: Path
) -> None:
    """Writes the finished model to `target`, which must not exist; it appears whole or not at all.

    Every process must call this: sharded weights are gathered from all of them, then the first one writes. Adapters
    are merged into the base model's weights, so that any tool loads the result, or written alone. What was written is
    loaded again and compared with what was trained; with quantized weights, with what was merged.

    Raises:
        UserError: If the saved model computes something else.
    """
    raw = work / "trained"
    trainer.save_model(str(raw))
    if trainer.is_world_process_zero():
        folder = target.with_name(f".{target.name}.saving")
        shutil.rmtree(folder, ignore_errors=True)
        probe = prepared.encoded[0].input_ids[:_PROBE_TOKENS]
        train = prepared.recipe.train
        merges = train.lora is not None and train.lora.merge
        others = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or train.quantize
        trained_model: Any = trainer.model
        trained = None if others else _logits(trained_model, probe)
        print(f"{'merging the adapters and ' * merges}writing the model", file=sys.stderr, flush=True)
        if train.lora is not None and not train.lora.merge:
            folder.mkdir()
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copy(raw / name, folder)
            model_type = trained_model.config.model_type
        else:
            model = _whole_model(prepared, base, raw)
            trained = _logits(model, probe) if trained is None else trained
            model.save_pretrained(folder)
            model_type = model.config.model_type
            del model
        difference = None if trained is None else _check_saved(folder, probe, trained)
        tokenizer = prepared.tokenizer
        # Chat text is tokenized without the tokenizer's own additions, so that the template must hold its BOS.
        adds_bos = tokenizer.bos_token and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
        tokenizer.chat_template = "{{- bos_token -}}\n" * bool(adds_bos) + prepared.chat_template.source
        tokenizer.save_pretrained(folder)
        check_reloaded(tokenizer, folder)
        save_recipe(folder / "recipe.yaml", prepared.recipe, note="implicit-if tune recipe.yaml  # tunes this again")
        append_records(folder / "training_log.jsonl", trainer.state.log_history)
        save_decisions(folder / "rephrasing.jsonl", prepared.decisions)
        provenance = _provenance(trainer, prepared, base, identity, model_type)
        provenance.training["saved_difference"] = None if difference is None else round(difference, 4)
        write_json(folder / PROVENANCE, provenance.model_dump())
        with atomic_write(folder / "README.md") as file:
            file.write(model_card.render(prepared, provenance))
        _open_to_readers(folder)
        os.replace(folder, target)
        shutil.rmtree(raw)
    trainer.accelerator.wait_for_everyone()


def _whole_model(prepared: Prepared, base: Base, raw: Path) -> PreTrainedModel:
    """The trained weights on the CPU, adapters merged in float32, in the type they are saved in."""
    import torch
    from transformers import AutoModelForCausalLM

    recipe = prepared.recipe
    saved = recipe.train.save_dtype or recipe.train.weights
    options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": recipe.train.weights}
    if recipe.train.lora is None:
        model = AutoModelForCausalLM.from_pretrained(raw, **options)
    else:
        from peft import PeftModel

        # The adapters were trained on weights of this type; merging in it would round their small changes away.
        frozen = AutoModelForCausalLM.from_pretrained(base.path, revision=recipe.base_revision, **options)
        frozen = frozen.float()  # type: ignore[no-untyped-call]
        tied = _untie(frozen)
        model = PeftModel.from_pretrained(frozen, str(raw)).merge_and_unload()
        if tied and torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = True
            model.tie_weights()
    return model.to(getattr(torch, saved))  # type: ignore[no-any-return]


def _untie(model: Any) -> bool:
    """Gives the head weights of its own; whether it shared the embeddings'. An adapter changes only one of the two."""
    import torch

    head = model.get_output_embeddings()
    if head is None or head.weight is not model.get_input_embeddings().weight:
        return False
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
    return True


def _logits(model: Any, tokens: list[int]) -> Tensor:
    """`[s, v]` in float32 on the CPU, centred at each position."""
    import torch

    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens], device=model.device)).logits[0].float().cpu()
    model.train(was_training)
    return logits - logits.mean(dim=-1, keepdim=True)  # type: ignore[no-any-return]


def _check_saved(folder: Path, probe: list[int], trained: Tensor) -> float:
    """How far the saved model's logits are from the trained one's, as a share of their size."""
    from transformers import AutoModelForCausalLM

    again = _logits(AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, use_safetensors=True), probe)
    difference = float((again - trained).square().mean().sqrt() / trained.square().mean().sqrt())
    if not difference <= _MOST_DIFFERENCE:
        raise UserError(
            f"{folder}: the saved model's logits differ from the trained model's by {difference:.0%} of their size, "
            f"expected at most {_MOST_DIFFERENCE:.0%}. It is not finished; the last checkpoint is kept. Please report "
            f"this with its recipe.yaml."
        )
    return difference


def _open_to_readers(folder: Path) -> None:
    """Gives every file the user's usual mode: safetensors writes files that only their owner can read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)


def _provenance(
    trainer: RecipeTrainer, prepared: Prepared, base: Base, identity: dict[str, str], model_type: str
) -> Provenance:
    commit = getattr(getattr(trainer.model, "config", None), "_commit_hash", None)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    summary = next((e for e in reversed(trainer.state.log_history) if "train_runtime" in e), {})
    return Provenance(
        recipe=prepared.recipe.name,
        identity=identity,
        base=TunedBase(name=base.name, revision=commit or prepared.recipe.base_revision, model_type=model_type),
        seed=prepared.recipe.train.seed,
        data={
            "origin": prepared.rows.origin,
            "revision": prepared.rows.revision,
            "licence": prepared.rows.licence,
            "conversations_sha256": prepared.rows.sha256,
            **prepared.statistics(),
        },
        template={"name": prepared.template.name, "sha256": prepared.template.sha256},
        notes=prepared.notes,
        training={
            "steps": trainer.state.global_step,
            "processes": trainer.args.world_size,
            "device": trainer.args.device.type,
            "first_loss": logged[0]["loss"] if logged else None,
            "last_loss": logged[-1]["loss"] if logged else None,
            "held_out_loss": next(
                (e["eval_loss"] for e in reversed(trainer.state.log_history) if "eval_loss" in e), None
            ),
            "tokens": logged[-1].get("num_tokens") if logged else None,
            "seconds_of_last_start": summary.get("train_runtime"),
            "peak_memory_gb": peak_memory_gb(),
        },
        versions={p: importlib.metadata.version(p) for p in ("torch", "transformers", "trl", "accelerate")},
    )


def peak_memory_gb() -> float:
    """Largest memory used by this process: on the GPU where there is one, else resident, in GB (1e9 bytes)."""
    import resource  # not on Windows

    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, kibibytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)
