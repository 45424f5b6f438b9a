"""The one trainer: TRL's `SFTTrainer` on rows that are already encoded, with what this project adds.

It averages the loss as the recipe says, scores only trained positions where there is no GPU, stops on a loss that is
not a number, and says how fast it goes and how long it will take.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: TID253  (only the runner imports this module)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: TID253
from transformers.trainer import TRAINER_STATE_NAME  # noqa: TID253
from trl.trainer.sft_trainer import SFTTrainer  # noqa: TID253

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import cpu_loss
from implicit_if.harness.tuning.data.encode import EncodedRow


class NonFiniteLossError(UserError):
    """The loss or the gradient is no number any more: training has failed, the last checkpoint is still good."""


class RecipeTrainer(SFTTrainer):
    """`SFTTrainer` on encoded rows.

    Args:
        rows: What `train_dataset` was made of, to name rows in errors.
        per_example: Average over examples instead of tokens; needs one example per forward pass.
        kwargs: `SFTTrainer`'s own.
    """

    def __init__(self, *, rows: Sequence[EncodedRow], per_example: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rows = rows
        self._latest: list[tuple[torch.Tensor, torch.Tensor]] = []
        # Without `num_items_in_batch` each forward pass is averaged by itself, and the passes of a step among each
        # other: with one example a pass, that is the mean over examples.
        self.model_accepts_loss_kwargs = not per_example
        model: Any = self.model
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()  # without its adapters' wrapper
        self.head_on_loss_positions = self.args.device.type == "cpu" and cpu_loss.can_patch(model)
        if self.head_on_loss_positions:
            cpu_loss.patch(model)

    def count_tokens_from(self, checkpoint: Path) -> None:
        """Goes on counting where a checkpoint's log ends; TRL would begin at 0 again."""
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        counts = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        self._total_train_tokens = int(counts[-1])

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mean loss of one forward pass, on trained positions only; see `SFTTrainer.compute_loss`.

        Raises:
            NonFiniteLossError: If it is not finite; names the rows.
        """
        self._remember(inputs)
        if self.head_on_loss_positions and not return_outputs and model.training:
            loss = self._loss_on_positions(model, inputs, num_items_in_batch)
        else:
            loss = super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        value = loss[0] if return_outputs else loss
        if not torch.isfinite(value):
            self._stop(self.state.global_step + 1, f"the loss is {value.item()}", self._latest[-1:])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs a step, unless its gradient is no number.

        Raises:
            NonFiniteLossError: If the gradient's norm is not finite; names the rows of the step.
        """
        norm = logs.get("grad_norm", 0.0)
        if not math.isfinite(norm):
            self._stop(self.state.global_step, f"the gradient's norm is {norm}", self._latest)
        super().log(logs, start_time)

    def _loss_on_positions(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        summed: tuple[torch.Tensor, torch.Tensor] = model(**inputs, summed_nll=True)
        nll, positions = summed
        seen = self._mask(inputs).sum()
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(seen).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        if num_items_in_batch is None:
            return nll / positions.clamp(min=1)
        loss = nll / num_items_in_batch
        if self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # they are the tokens of all processes, gradients are averaged
        return loss

    def _remember(self, inputs: dict[str, Any]) -> None:
        self._latest.append((inputs["input_ids"], self._mask(inputs)))
        del self._latest[: -self.args.gradient_accumulation_steps]

    @staticmethod
    def _mask(inputs: dict[str, Any]) -> torch.Tensor:
        """`[b, s]`, true where there is a token and no padding."""
        mask: torch.Tensor = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        return mask.bool()

    def _stop(self, step: int, what: str, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        seen = [row[kept].tolist() for batch in batches for row, kept in zip(*batch, strict=True)]
        places = [row.where for row in self._rows if any(_holds(ids, row.input_ids) for ids in seen)]
        raise NonFiniteLossError(
            f"step {step}: {what}, expected a number. It came from: {'; '.join(places[:8])}"
            f"{f' and {len(places) - 8} more' if len(places) > 8 else ''}. Nothing of this step was saved. Look at "
            f"these rows; where they are good, start anew with a lower train.learning_rate and another --out."
        )


def _holds(ids: list[int], row: list[int]) -> bool:
    """Whether a forward pass's tokens are, or contain (packed), those of a row."""
    if len(ids) <= len(row):
        return ids == row
    return any(ids[n : n + len(row)] == row for n in range(len(ids) - len(row) + 1) if ids[n] == row[0])


class Progress(TrainerCallback):
    """Prints loss, speed and time left to standard error: every step at first, then about every `every` seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self._started = self._printed = 0.0
        self._first_step = 0
        self._tokens: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.monotonic()
        self._first_step = state.global_step
        warms_up = args.lr_scheduler_type != "constant" and args.get_warmup_steps(state.max_steps) > 0
        if state.is_world_process_zero and state.max_steps == 1 and warms_up:
            print(
                "note: the only step is the first of the warm-up, whose learning rate is 0: no weight will change. "
                "Set train.warmup=0, or train more steps.",
                file=sys.stderr,
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        now = time.monotonic()
        done = state.global_step - self._first_step
        tokens = logs.get("num_tokens", 0.0)
        first = self._tokens is None
        if first:
            self._tokens, self._timed_from, self._timed_step = tokens, now, state.global_step
        if done > 3 and now - self._printed < self.every and state.global_step < state.max_steps:
            return
        self._printed = now
        line = (
            f"step {state.global_step}/{state.max_steps}  epoch {logs.get('epoch', 0.0):.2f}  loss {logs['loss']:.4f}"
        )
        line += f"  lr {logs.get('learning_rate', 0.0):.2e}"
        if not first:
            seconds = max(now - self._timed_from, 1e-9)
            left = (state.max_steps - state.global_step) * seconds / (state.global_step - self._timed_step)
            line += f"  {(tokens - (self._tokens or 0.0)) / seconds:.0f} tokens/s  {_clock(left)} left"
        print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
