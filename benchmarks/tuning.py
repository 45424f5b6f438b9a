"""Training speed: `implicit-if tune` against plain `SFTTrainer`, and against a bare PyTorch loop.

    python benchmarks/tuning.py                    # the embedded model on the CPU, about ten minutes on one core
    python benchmarks/tuning.py --pretrained MODEL
    python benchmarks/tuning.py --quick            # does it run?

All three train the same adapters (same seed) on the same rows with the same optimiser and schedule, every row once a
step, so that their losses can be compared step by step; the frozen weights are of the type that the machine multiplies
faster. Plain `SFTTrainer` is TRL's, told only to average over examples as the recipe does, which takes one row a pass.
The bare loop is what one writes by hand: the base model, the head on the trained
positions, cross-entropy, AdamW. They take turns, and the shortest step counts, so that other work on the machine does
not decide. Times are CPU seconds of all threads, or wall seconds on a GPU. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Run:
    """Losses and seconds of each step."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    """What is trained, and the clock."""

    prepared: Any
    model: str
    clock: Callable[[], float]

    @property
    def tokens(self) -> int:
        return sum(len(row.input_ids) for row in self.prepared.encoded)

    @property
    def steps(self) -> int:
        return int(self.prepared.recipe.train.max_steps)


def main() -> None:
    """Measures all three, prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", help="a model's folder (the embedded model)")
    parser.add_argument(
        "--weights", choices=["float32", "bfloat16"], help="type of the frozen weights (the faster one)"
    )
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="2 rows, 2 steps, 1 turn")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.steps, args.turns = 2, 2, 1
    with tempfile.TemporaryDirectory() as folder:
        setting = prepare(args, Path(folder))
        contestants = {"implicit-if": ours, "SFTTrainer": plain, "bare loop": bare}
        turns = [{name: train(setting) for name, train in contestants.items()} for _ in range(args.turns)]
    best = {name: min(min(turn[name].seconds) for turn in turns) for name in contestants}
    losses = {name: turns[0][name].losses for name in contestants}
    print(f"\n{'':12} {'s a step':>9} {'tokens/s':>9}  losses")
    for name, seconds in best.items():
        print(f"{name:12} {seconds:9.2f} {setting.tokens / seconds:9.1f}  {' '.join(f'{v:.4f}' for v in losses[name])}")
    gap = {name: farthest(losses["implicit-if"], values) for name, values in losses.items()}
    ratios = {
        "tokens_per_second": (setting.tokens / best["implicit-if"], 85, "higher"),
        "speed_over_sft_trainer": (best["SFTTrainer"] / best["implicit-if"], 2.3, "higher"),
        "speed_over_bare_loop": (best["bare loop"] / best["implicit-if"], 0.9, "higher"),
        "loss_difference_to_sft_trainer": (gap["SFTTrainer"], 0.003, "lower"),
        "loss_difference_to_bare_loop": (gap["bare loop"], 0.01, "lower"),
    }
    entries = {k: {"value": round(v, 4), "goal": goal, "better": better} for k, (v, goal, better) in ratios.items()}
    print(json.dumps({"name": "tuning", "ratios": entries}))


def farthest(a: Sequence[float], b: Sequence[float]) -> float:
    """Largest relative difference."""
    return max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))


def prepare(args: argparse.Namespace, folder: Path) -> Setting:
    """Rows of the builtin instructions with the embedded sibling's answers, encoded as for training."""
    import torch

    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.references import load_reference
    from implicit_if.harness.tuning.base_model import resolve_base
    from implicit_if.harness.tuning.data.prepare import prepare as prepare_rows
    from implicit_if.harness.tuning.dtype_trial import faster_type
    from implicit_if.harness.tuning.recipe import load_recipe

    chosen, note = faster_type()
    weights = args.weights or chosen
    print(f"weights: {args.weights}" if args.weights else note)

    answers = load_reference("gemma-3-270m/instruction", load_instructions("builtin"))[: args.rows]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"instruction": a.instruction, "response": a.output}) + "\n" for a in answers)
    )
    (folder / "recipe.yaml").write_text("summary: benchmark\ndata: {licence: none}\n")
    overrides = [
        f"data.path={json.dumps(str(folder / 'rows.jsonl'))}",
        f"train.batch={len(answers)}",
        f"train.epochs={args.steps}",
        f"train.max_steps={args.steps}",
        "train.warmup=0",
        f"train.weights={weights}",
    ]
    recipe = load_recipe(
        str(folder / "recipe.yaml"), overrides, base=args.pretrained or "embedded", profile="gemma-3-270m/embedded"
    )
    model = resolve_base(recipe.base).path
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else f"{processor()}, {torch.get_num_threads()} threads"
    setting = Setting(prepare_rows(recipe, model), model, time.perf_counter if gpu else time.process_time)
    rows = setting.prepared.encoded
    trained = sum(row.loss_tokens for row in rows)
    print(f"{recipe.base}, {where}, {len(rows)} rows, {setting.tokens} tokens, of which {trained} are trained")
    return setting


def processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")


def ours(setting: Setting) -> Run:
    """`implicit-if tune` without the saving."""
    from implicit_if.harness.tuning.callbacks import Progress
    from implicit_if.harness.tuning.runner import build_trainer

    seed_everything(setting)
    with tempfile.TemporaryDirectory() as work:
        trainer = build_trainer(setting.prepared, setting.model, Path(work))
        trainer.remove_callback(Progress)
        return measured(trainer, setting)


def plain(setting: Setting) -> Run:
    """TRL's `SFTTrainer` with the same configuration."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    from implicit_if.harness.tuning.runner import peft_config, sft_config

    seed_everything(setting)
    recipe = setting.prepared.recipe
    one_a_pass = recipe.train.model_copy(update={"micro_batch": 1, "packing": "none"})
    recipe = recipe.model_copy(update={"train": one_a_pass})
    rows = [{"input_ids": row.input_ids, "labels": row.labels} for row in setting.prepared.encoded]
    with tempfile.TemporaryDirectory() as work:
        trainer = SFTTrainer(
            model=setting.model,
            args=sft_config(recipe, Path(work), 1, len(setting.prepared.encoded)),
            train_dataset=Dataset.from_list(rows),
            processing_class=setting.prepared.tokenizer,
            peft_config=peft_config(recipe),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.model_accepts_loss_kwargs = False
        return measured(trainer, setting)


def measured(trainer: Any, setting: Setting) -> Run:
    """Trains without checkpoints, timing each step."""
    from transformers import TrainerCallback

    run = Run()

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = setting.clock()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            run.seconds.append(setting.clock() - self.start)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                run.losses.append(logs["loss"])

    trainer.args.save_strategy = "no"
    trainer.add_callback(Watch())
    trainer.train()
    return run


def bare(setting: Setting) -> Run:
    """A loop written by hand."""
    import torch
    from peft import get_peft_model
    from torch.nn import functional as F
    from transformers import AutoModelForCausalLM

    from implicit_if.harness.tuning.runner import peft_config

    seed_everything(setting)
    train = setting.prepared.recipe.train
    base = AutoModelForCausalLM.from_pretrained(setting.model, dtype=train.weights)
    base.to("cuda" if torch.cuda.is_available() else "cpu").train()
    seed_everything(setting)
    model = get_peft_model(base, peft_config(setting.prepared.recipe))
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=train.learning_rate, weight_decay=train.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / setting.steps)
    run = Run()
    for _ in range(setting.steps):
        start, total = setting.clock(), 0.0
        for row in setting.prepared.encoded:
            ids = torch.tensor([row.input_ids], device=base.device)
            labels = torch.tensor(row.labels[1:], device=base.device)
            hidden = base.base_model(ids, use_cache=False).last_hidden_state[0, :-1]
            kept = labels != -100
            loss = F.cross_entropy(base.get_output_embeddings()(hidden[kept]).float(), labels[kept])
            (loss / len(setting.prepared.encoded)).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, train.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        run.seconds.append(setting.clock() - start)
        run.losses.append(total / len(setting.prepared.encoded))
    return run


def seed_everything(setting: Setting) -> None:
    from transformers import set_seed

    set_seed(setting.prepared.recipe.train.seed)


if __name__ == "__main__":
    main()
