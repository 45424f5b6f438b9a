"""What happens around the steps of training: progress on the terminal, and an orderly end on SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch  # noqa: TID253  (only the runner imports this module)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: TID253


class StopOnSignal(TrainerCallback):
    """Ends training with a checkpoint after the step in which SIGTERM arrives, in all processes after the same one."""

    def __init__(self) -> None:
        self._asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes SIGTERM; outside of the main thread it is left as it is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        asked = torch.tensor(int(self._asked), device=args.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_training_stop and state.global_step < state.max_steps:
            control.should_save = control.should_evaluate = False  # the one is done, the other would cost time


class Progress(TrainerCallback):
    """Prints loss, speed and time left to standard error: every step at first, then about every `every` seconds.

    Args:
        tokens: Of one epoch. Time is reckoned by tokens, since steps differ in length.
        every: Seconds.
    """

    def __init__(self, tokens: int, every: float = 10.0) -> None:
        self.tokens = tokens
        self.every = every
        self._printed = 0.0
        self._passes = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._first_step = state.global_step
        counted = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        self._from: tuple[float, float] = (time.monotonic(), counted[-1] if counted else 0.0)
        warms_up = args.lr_scheduler_type != "constant" and args.get_warmup_steps(state.max_steps) > 0
        if state.is_world_process_zero and state.max_steps == 1 and warms_up:
            print(
                "note: the only step is the first of the warm-up, whose learning rate is 0: no weight will change. "
                "Set train.warmup=0, or train more steps.",
                file=sys.stderr,
            )

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._passes += 1
        now = time.monotonic()
        if (
            state.is_world_process_zero
            and state.global_step == self._first_step
            and now - max(self._printed, self._from[0]) > self.every
        ):
            self._printed = now
            passes = f"{self._passes} of {args.gradient_accumulation_steps} passes"
            print(f"step {state.global_step + 1}/{state.max_steps}: {passes}", file=sys.stderr, flush=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs and "eval_loss" in logs:
            print(f"held-out loss after epoch {logs.get('epoch', 0.0):.2f}: {logs['eval_loss']:.4f}", file=sys.stderr)
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        now, tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        began, before = self._from
        done = state.global_step - self._first_step
        if done == 1:
            self._from = now, tokens  # the first step warms up, and counts no more
        elif done > 3 and now - self._printed < self.every and state.global_step < state.max_steps:
            return
        self._printed = now
        epochs = logs.get("epoch", 0.0)
        speed = max(tokens - before, 1.0) / max(now - began, 1e-9)
        left = max(self.tokens * epochs * state.max_steps / state.global_step - tokens, 0.0) / speed
        print(
            f"step {state.global_step}/{state.max_steps}  epoch {epochs:.2f}  loss {logs['loss']:.4f}  "
            f"lr {logs.get('learning_rate', 0.0):.2e}  {speed:.0f} tokens/s  {_clock(left)} left",
            file=sys.stderr,
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
