"""Threads: little spinning where that can still be asked for, and their number by measuring."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from implicit_if.harness import cpu_threads
from implicit_if.harness.cpu_threads import SPIN_COUNT, ThreadTrials, may_try

OPENMP = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")


class Machine:
    """A clock and torch's threads: a step takes as long as the table says for the number that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.threads, self.seconds = 1.0, 2, seconds
        monkeypatch.setattr(cpu_threads.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(self, "threads", n))

    def decode(self, trials: ThreadTrials, steps: int, rows: int = 8) -> float:
        begin = self.now
        for _ in range(steps):
            self.now += self.seconds[self.threads]
            trials.step(rows)
        return self.now - begin


@pytest.mark.parametrize(
    ("seconds", "winner", "worst"),
    [
        ({1: 1.0, 2: 0.6}, 2, 0.66),  # a quiet machine
        ({1: 1.0, 2: 1.6}, 1, 1.06),  # beside other work
        ({1: 1.0, 2: 12.0}, 1, 1.1),  # threads that spin beside other work
    ],
)
def test_the_faster_number_wins_and_trials_cost_little(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], winner: int, worst: float
) -> None:
    machine, trials = Machine(monkeypatch, seconds), ThreadTrials(2)
    taken = machine.decode(trials, 1500)
    assert machine.threads == winner
    assert taken / 1500 < worst
    assert trials.steps[winner] > 0.9 * sum(trials.steps.values())
    assert f"{winner} in {100 * trials.steps[winner] / 1500:.0f} % of the steps" in str(trials)


def test_work_that_comes_and_goes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, trials = Machine(monkeypatch, {1: 1.0, 2: 0.6}), ThreadTrials(2)
    machine.decode(trials, 100)
    assert machine.threads == 2
    machine.seconds[2] = 3.5
    machine.decode(trials, 100)
    assert machine.threads == 1
    machine.seconds[2] = 0.6
    machine.decode(trials, 1200)
    assert machine.threads == 2


def test_a_pause_and_other_rows_are_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, trials = Machine(monkeypatch, {1: 1.0, 2: 0.6}), ThreadTrials(2)
    for rows in (32, 16, 8, 4):
        machine.decode(trials, 5, rows)
        trials.pause()
        machine.now += 1000  # reading the next prompts
    machine.decode(trials, 20, 4)
    assert machine.threads == 2


def test_one_thread_is_never_tried_against_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda n: pytest.fail("the number was changed"))
    trials = ThreadTrials(1)
    for _ in range(10):
        trials.step(1)
    assert str(trials) == "1"


def test_the_number_changes_for_float32_only_and_never_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert may_try("float32") == 4
    assert may_try("bfloat16") == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert may_try("float32") == 1


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [
        ("", {}, SPIN_COUNT),
        ("", {"OMP_WAIT_POLICY": "active"}, None),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("import types; sys.modules['torch'] = types.ModuleType('torch'); ", {}, None),  # too late
    ],
)
def test_our_command_asks_for_little_spinning_unless_the_user_chose(
    code: str, given: dict[str, str], expected: str | None
) -> None:
    environment: dict[str, Any] = {k: v for k, v in os.environ.items() if k not in OPENMP} | given
    script = (
        f"import os, sys; {code}sys.argv = ['implicit-if', '--version']\ntry:\n main()\nexcept SystemExit:\n pass\n"
    )
    script = f"from implicit_if.harness.cli import main\n{script}print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(expected)


@pytest.mark.parametrize(("model", "expected"), [("rules_poe", SPIN_COUNT), ("hf", None)])
def test_lm_eval_asks_for_it_before_torch_where_the_model_is_ours(model: str, expected: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in OPENMP}
    script = (
        f"import os, sys; sys.argv = ['lm_eval', '--model', {model!r}]\n"
        "import lm_eval.tasks\n"
        "print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(expected)]
