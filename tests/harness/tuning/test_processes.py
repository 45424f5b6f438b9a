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
from implicit_if.harness.tuning.recipe_schema import Recipe

pytestmark = pytest.mark.slow
MakeRecipe = Callable[..., Recipe]

# Runs the recipe file argv[1] into argv[2]; slow enough to be killed in the middle of an epoch.
SCRIPT = """
import sys, time
from implicit_if.harness.cli import main
from implicit_if.harness.tuning.callbacks import Progress
Progress.on_step_end = lambda self, *_, **__: time.sleep(float(sys.argv[3]))
sys.exit(main(["tune", sys.argv[1], "--out", sys.argv[2]]))
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


def wait_for_epoch(work: Path, process: subprocess.Popen[str]) -> None:
    """Waits until one or two steps of the second epoch are done."""
    deadline = time.monotonic() + 120
    while not (work / "checkpoint-4" / "trainer_state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.8)


@pytest.mark.timeout(600)
def test_sigterm_ends_with_a_status_of_its_own(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    finish(start(path, tmp_path / "whole", 0.0))
    victim = start(path, tmp_path / "stopped", 0.5)
    wait_for_epoch(tmp_path / "stopped.work", victim)
    victim.terminate()
    errors = victim.communicate(timeout=120)[1]
    assert victim.returncode == 75, errors
    assert "Run the same command to continue" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "stopped.work" / "checkpoint-4").exists()  # the newer one has taken its place
    assert "continuing from" in finish(start(path, tmp_path / "stopped", 0.0))
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.timeout(600)
def test_kill_9_in_the_middle_of_an_epoch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    finish(start(path, tmp_path / "whole", 0.0))
    victim = start(path, tmp_path / "killed", 0.5)
    wait_for_epoch(tmp_path / "killed.work", victim)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (tmp_path / "killed").exists()
    assert "continuing from" in finish(start(path, tmp_path / "killed", 0.0))
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.timeout(600)
def test_two_processes_train_as_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    joined = {"micro_batch": 2, "packing": "padding_free"}
    for average, train in (("example", {}), ("token", {}), ("example", joined)):
        one, two = tmp_path / f"one-{average}-{len(train)}", tmp_path / f"two-{average}-{len(train)}"
        save_recipe(path, make_recipe(epochs=2, batch=4, loss_average=average))
        finish(start(path, one, 0.0))
        save_recipe(path, make_recipe(epochs=2, batch=4, loss_average=average, **train))
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
        finish(start(path, two, 0.0, launcher, ACCELERATE_USE_CPU="true"))
        assert json.loads((two / "tuning.json").read_text())["training"]["processes"] == 2
        left, right = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
        for name in left:
            torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=2e-4, msg=f"{average} {name}")


@pytest.mark.timeout(600)
def test_sigterm_to_one_of_two_processes_stops_both_after_the_same_step(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    victim = start(path, tmp_path / "out", 0.5, launcher, ACCELERATE_USE_CPU="true")
    wait_for_epoch(tmp_path / "out.work", victim)
    workers = [p for p in psutil.Process(victim.pid).children(recursive=True) if "run.py" in " ".join(p.cmdline())]
    workers[-1].terminate()
    errors = victim.communicate(timeout=120)[1]
    assert "which is saved. Run the same command to continue" in errors
    assert "exitcode  : 75" in errors
    assert "continuing from" in finish(start(path, tmp_path / "out", 0.0, launcher, ACCELERATE_USE_CPU="true"))


@pytest.mark.timeout(600)
def test_two_processes_resume(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    finish(start(path, tmp_path / "whole", 0.0, launcher, ACCELERATE_USE_CPU="true"))
    victim = start(path, tmp_path / "killed", 0.5, launcher, ACCELERATE_USE_CPU="true")
    wait_for_epoch(tmp_path / "killed.work", victim)
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


@pytest.mark.timeout(600)
def test_a_launcher_that_gets_sigterm_is_queued_again(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "tuned" / "small-3"
    save_recipe(path, make_recipe(epochs=4, batch=2))
    (tmp_path / "run.py").write_text(SCRIPT)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    programs = {
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
        "scontrol": 'echo "$@" > scontrol.txt',
        "accelerate": f'exec {sys.executable} {" ".join(launcher)} run.py recipe.yaml "$out" 0.5',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = Path(__file__).parents[3] / "examples" / "slurm" / "tune.sbatch"
    variables = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "2", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ACCELERATE_USE_CPU": "true"}
    command = ["bash", str(script), "small", "a/b", "other/reference"]
    job = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_epoch(out.with_name("small-3.work"), job)
    (step,) = psutil.Process(job.pid).children()
    for process in (step, *step.children()):  # the step's shell and the launcher; the workers are the launcher's
        process.terminate()
    errors = job.communicate(timeout=240)[1]
    assert job.returncode == 75, errors
    assert "which is saved. Run the same command to continue" in errors
    assert "SignalException" in errors  # why the launcher's own status does not decide
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"
    assert "continuing from" in finish(start(path, out, 0.0, launcher, ACCELERATE_USE_CPU="true"))
