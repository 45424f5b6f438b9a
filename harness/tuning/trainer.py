"""The one trainer: TRL's `SFTTrainer` on rows that are already encoded, with what this project adds.

It averages the loss as the recipe says, scores only trained positions where there is no GPU, and stops on a loss that
is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: TID253  (only the runner imports this module)
from transformers import TrainerState  # noqa: TID253
from transformers.trainer import TRAINER_STATE_NAME  # noqa: TID253
from trl.trainer.sft_trainer import SFTTrainer  # noqa: TID253

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning import cpu_loss, row_attention
from implicit_if.harness.tuning.data.encode import IGNORED, EncodedRow
from implicit_if.harness.tuning.recipe_schema import Train


class NonFiniteLossError(UserError):
    """The loss or the gradient is no number any more: training has failed, the last checkpoint is still good."""


class RecipeTrainer(SFTTrainer):
    """`SFTTrainer` on encoded rows.

    Args:
        rows: What `train_dataset` was made of, to name rows in errors.
        train: The recipe's `train`, for what `SFTTrainer` has no word for.
        kwargs: `SFTTrainer`'s own.
    """

    def __init__(self, *, rows: Sequence[EncodedRow], train: Train, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._train = train
        per_example = train.loss_average == "example"
        model: Any = self.model
        options: Any = self.args
        if kwargs.get("quantization_config") is not None:
            for weight in model.parameters():  # TRL made the adapters bfloat16, whose small steps round away
                weight.data = weight.data.float() if weight.requires_grad else weight.data
        if train.gradients == "bfloat16":
            for weight in filter(lambda p: p.requires_grad, model.parameters()):
                weight.register_post_accumulate_grad_hook(_round_gradient)
        self._rows = rows
        self._latest: list[tuple[torch.Tensor, torch.Tensor]] = []
        one_a_pass = options.per_device_train_batch_size == 1 and not options.packing
        self.weighted = per_example and not one_a_pass
        # Without `num_items_in_batch` each forward pass is averaged by itself, and the passes of a step among each
        # other: with one example a pass, that is the mean over examples.
        self.model_accepts_loss_kwargs = self.weighted or not per_example
        if self.weighted and self.aux_loss_enabled:
            raise UserError(
                f"{type(model).__name__} has a loss of its router, which only counts with one row a pass. "
                "Set train.micro_batch=1 and train.packing=none, or train.loss_average=token."
            )
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()  # without its adapters' wrapper
        on_cpu = options.device.type == "cpu"
        self.head_on_loss_positions = on_cpu and cpu_loss.can_patch(model)
        if self.head_on_loss_positions:
            cpu_loss.patch(model)
        chosen = "attn_implementation" in (options.model_init_kwargs or {})
        if self.padding_free and not chosen and row_attention.can_use(model):
            row_attention.use(model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self._train.steps_across_epochs:
            return Epochs(len(self._rows), self._train.epochs, self._train.seed)
        return super()._get_train_sampler(train_dataset)

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
        if (self.head_on_loss_positions or self.weighted) and not return_outputs and model.training:
            loss = self._own_loss(model, inputs, num_items_in_batch)
        else:
            loss = super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        value = loss[0] if return_outputs else loss
        if not torch.isfinite(value):
            self._stop(self.state.global_step + 1, f"the loss is {value.item()}", self._latest[-1:])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs a step, unless its gradient is no number; the final `train_loss` is the mean over all steps.

        Raises:
            NonFiniteLossError: If the gradient's norm is not finite; names the rows of the step.
        """
        norm = logs.get("grad_norm", 0.0)
        if not math.isfinite(norm):
            self._stop(self.state.global_step, f"the gradient's norm is {norm}", self._latest)
        if "train_loss" in logs:  # transformers' own leaves out the steps before a resume
            losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
            logs["train_loss"] = sum(losses) / len(losses)
        super().log(logs, start_time)

    def _own_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        weights = example_weights(inputs) if self.weighted else None
        if self.head_on_loss_positions:
            summed: tuple[torch.Tensor, torch.Tensor] = model(**inputs, position_weights=weights, summed_nll=True)
            nll, positions = summed
        else:
            log_probs = model(**inputs, fused_lm_head=True).log_probs  # TRL's, 0 where nothing is trained
            nll, positions = -(log_probs * weights[:, 1:]).sum(), weights.sum()  # type: ignore[index,union-attr]
        seen = self._mask(inputs).sum()
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(seen).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        if num_items_in_batch is None:
            return nll / positions.clamp(min=1)
        loss = nll / num_items_in_batch
        if self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # the items are those of all processes, gradients are averaged
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """What a step's loss is divided by: its trained positions, or its examples."""
        if self.weighted:
            # Counted as the positions are, so that the sum over processes is theirs too.
            counted = [torch.where(_starts(batch), 0, IGNORED) for batch in batch_samples]
            batch_samples = [{"labels": rows, "shift_labels": rows} for rows in counted]
        return super()._get_num_items_in_batch(batch_samples, device)

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
            f"these rows; where they are good, start again with a lower train.learning_rate and another --out."
        )


class Epochs(torch.utils.data.Sampler[int]):
    """All epochs after another, each in an order of its own, so that a step may reach into the next one."""

    def __init__(self, rows: int, epochs: int, seed: int) -> None:
        self.rows, self.epochs, self.seed = rows, epochs, seed

    def __len__(self) -> int:
        return self.rows * self.epochs

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            yield from torch.randperm(self.rows, generator=generator).tolist()


def _round_gradient(weight: torch.Tensor) -> None:
    if weight.grad is not None:
        weight.grad.copy_(weight.grad.bfloat16())


def example_weights(inputs: dict[str, Any]) -> torch.Tensor:
    """`[b, s]`: one over the trained positions of the row that a position belongs to; 0 where nothing is trained.

    So the weighted sum of the losses is the sum of the rows' means, whether rows share a sequence or not.
    """
    starts = _starts(inputs).flatten()
    trained = (inputs["labels"].flatten() != IGNORED) & ~starts
    row = starts.cumsum(0) - 1
    counts = torch.bincount(row[trained], minlength=int(row[-1]) + 1)
    weights = torch.where(trained, 1.0 / counts[row].clamp(min=1), 0.0)
    return weights.view_as(inputs["labels"])


def _starts(inputs: dict[str, Any]) -> torch.Tensor:
    """`[b, s]`, true at the first token of each row. No label of it is trained: nothing predicts it."""
    if "position_ids" in inputs:
        return inputs["position_ids"] == 0  # type: ignore[no-any-return]
    starts = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    starts[:, 0] = True
    return starts


def _holds(ids: list[int], row: list[int]) -> bool:
    """Whether a forward pass's tokens are, or contain (packed), those of a row."""
    if len(ids) <= len(row):
        return ids == row
    return any(ids[n : n + len(row)] == row for n in range(len(ids) - len(row) + 1) if ids[n] == row[0])
