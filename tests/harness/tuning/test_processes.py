"""What only real processes show: a kill, and two of them training together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from implicit_if.harness.tuning.recipe import save_recipe
from implicit_if.harness.tuning.schema import Recipe

pytestmark = pytest.mark.slow
MakeRecipe = Callable[..., Recipe]

# Runs the recipe file argv[1] into argv[2]; slow enough to be killed in the middle of an epoch.
SCRIPT = """
import sys, time
from implicit_if.harness.tuning.callbacks import Progress
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.runner import tune
Progress.on_step_end = lambda self, *_, **__: time.sleep(float(sys.argv[3]))
tune(load_recipe(sys.argv[1]), sys.argv[2])
"""


def start(
    recipe: Path, out: Path, pause: float, launcher: tuple[str, ...] = (), **variables: str
) -> subprocess.Popen[str]:
    script = recipe.with_name("run.py")
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(recipe), str(out), str(pause)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **variables}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors
    return errors


@pytest.mark.timeout(600)
def test_kill_9_in_the_middle_of_an_epoch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    finish(start(path, tmp_path / "whole", 0.0))
    victim = start(path, tmp_path / "killed", 0.5)
    first = tmp_path / "killed.work" / "checkpoint-4" / "trainer_state.json"
    deadline = time.monotonic() + 120
    while not first.exists():
        assert victim.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.8)  # one or two steps of the second epoch
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (tmp_path / "killed").exists()
    assert "continuing from" in finish(start(path, tmp_path / "killed", 0.0))
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.timeout(600)
def test_two_processes_train_as_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for average in ("example", "token"):
        save_recipe(path, make_recipe(epochs=2, batch=4, loss_average=average))
        one, two = tmp_path / f"one-{average}", tmp_path / f"two-{average}"
        finish(start(path, one, 0.0))
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
        finish(start(path, two, 0.0, launcher, ACCELERATE_USE_CPU="true"))
        assert json.loads((two / "tuning.json").read_text())["training"]["processes"] == 2
        left, right = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
        for name in left:
            torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=2e-4, msg=f"{average} {name}")


@pytest.mark.timeout(600)
def test_two_processes_resume(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    finish(start(path, tmp_path / "whole", 0.0, launcher, ACCELERATE_USE_CPU="true"))
    victim = start(path, tmp_path / "killed", 0.5, launcher, ACCELERATE_USE_CPU="true")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed.work" / "checkpoint-4" / "trainer_state.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.8)
    launched = psutil.Process(victim.pid)
    workers = launched.children(recursive=True)
    assert len(workers) >= 2
    for process in (launched, *workers):  # the launcher first: it would tell its workers to end in good order
        process.kill()
    victim.communicate(timeout=120)
    psutil.wait_procs(workers, timeout=60)
    assert not (tmp_path / "killed").exists()
    assert "continuing from" in finish(start(path, tmp_path / "killed", 0.0, launcher, ACCELERATE_USE_CPU="true"))
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5, msg=name)
