"""Progress on the terminal: time left by tokens, and a sign of life before the first step ends."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from implicit_if.harness.tuning import callbacks
from implicit_if.harness.tuning.callbacks import Progress


def run(
    monkeypatch: pytest.MonkeyPatch, tokens: list[int], speed: float, first_step: int = 0, every: float = 0
) -> None:
    """Trains steps of so many tokens, at so many tokens a second, with the first step of a start 30 s slower."""
    now = 1000.0
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now))
    progress = Progress(sum(tokens), every)
    args: Any = SimpleNamespace(
        lr_scheduler_type="constant", get_warmup_steps=lambda _: 0, gradient_accumulation_steps=4
    )
    state: Any = SimpleNamespace(
        global_step=first_step, max_steps=len(tokens), is_world_process_zero=True, log_history=[]
    )
    if first_step:
        state.log_history.append({"num_tokens": sum(tokens[:first_step])})
    progress.on_train_begin(args, state, None)  # type: ignore[arg-type]
    for step, count in list(enumerate(tokens, 1))[first_step:]:
        slow = 30 if step == first_step + 1 else 0
        for _ in range(3):
            now += (count / speed + slow) / 4
            progress.on_substep_end(args, state, None)  # type: ignore[arg-type]
        now += (count / speed + slow) / 4
        state.global_step = step
        logs = {"loss": 1.0, "num_tokens": float(sum(tokens[:step])), "epoch": step / len(tokens)}
        progress.on_log(args, state, None, logs)  # type: ignore[arg-type]


def seconds_left(text: str) -> list[int]:
    found = re.findall(r"(\d+):(\d\d):(\d\d) left", text)
    return [3600 * int(hours) + 60 * int(minutes) + int(seconds) for hours, minutes, seconds in found]


@pytest.mark.parametrize("first_step", [0, 5])
def test_the_time_left_is_steady_where_steps_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first_step: int
) -> None:
    tokens = [1000, 1400, 700, 1200, 900, 500, 1500, 1000, 800, 1100]
    run(monkeypatch, tokens, speed=50, first_step=first_step)
    left = seconds_left(capsys.readouterr().err)
    assert len(left) == len(tokens) - first_step
    # Steps stand for the tokens to come, so that only the unequal share of the steps done is left as a difference.
    steps = len(tokens)
    for step, found in list(enumerate(left, first_step + 1))[1:]:
        expected = (sum(tokens) - sum(tokens[:step])) / 50
        assert found == pytest.approx(expected, abs=1), (step, steps)


def test_there_is_a_sign_of_life_before_the_first_step_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, [1000, 1000], speed=50, every=10)
    first, second, third, *steps = capsys.readouterr().err.splitlines()
    assert first == "step 1/2: 1 of 4 passes"
    assert (second[-13:], third[-13:]) == ("2 of 4 passes", "3 of 4 passes")
    assert [line.split()[1] for line in steps] == ["1/2", "2/2"]
    assert len(steps) == 2
