"""Launchers: Snakemake, SLURM by a stand-in, SkyPilot's YAML."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.cli import main
from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cells import levels
from implicit_if.harness.replicate.held import GPUS, own_gpus
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.replicate.plan import plan
from implicit_if.harness.replicate.skypilot import skypilot_yaml
from implicit_if.harness.replicate.slurm import write
from implicit_if.harness.replicate.snakemake import run_snakemake, snakefile

HERE = Path(__file__).parent
STAND_IN = HERE / "stand_in.py"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Stage = load("test_cells").Stage


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    return Stage(tmp_path / "out")


@pytest.fixture
def sbatch_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    shutil.copy(HERE / "sbatch", tmp_path / "bin" / "sbatch")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def finished(stage: Any, cell: str) -> int:
    """How often a cell's command was brought to its end, as its log tells."""
    log = stage.launch.log(cell)
    return log.read_text().count(f"implicit-if: {cell} is done") if log.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_snakemake_goes_on_beside_a_failed_cell_and_after_it(stage: Any, capfd: pytest.CaptureFixture[str]) -> None:
    stage.set("broken", "answer-b")
    assert run_snakemake(stage.launch, cores=2, gpus=1, api=1) == 1
    said = capfd.readouterr().out
    assert "not whole: answer-b: error: answer-b is broken" in said
    assert f"answer-b begins; log: {stage.launch.log('answer-b')}\n" in said
    stage.set("broken", "")
    locks = stage.place.path / "snakemake" / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    for name in ("0.input.lock", "0.output.lock"):  # as a killed Snakemake leaves them
        (locks / name).write_text(str(stage.place.path / "snakemake" / "stamps" / "answer-b") + "\n")
    assert run_snakemake(stage.launch, cores=2, gpus=1, api=1) == 0
    assert "an earlier Snakemake was killed: its lock is removed" in capfd.readouterr().err
    assert {cell.name: finished(stage, cell.name) for cell in stage.cells} == dict.fromkeys(stage.place.cells, 1)
    assert run_snakemake(stage.launch, cores=2, gpus=1, api=1) == 0
    assert len(stage.started) == len(stage.cells) + 1  # answer-b, which failed once


def test_rules_leave_stamps_and_name_their_resources(stage: Any) -> None:
    text = snakefile(stage.launch)
    outputs = re.findall(r"output: (.*)", text)
    assert outputs == [f'touch("stamps/{cell.name}")' for cell in stage.cells]
    assert "cells/" not in text
    assert text.count("gpu=1, tasks=1, tasks_per_gpu=-1") == 3  # of the SLURM executor: one process a job


@pytest.mark.parametrize("name", ["embedded", "paper"])
def test_snakemake_takes_the_shipped_matrices(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replicate", "snakefile", name, "--out", str(tmp_path)]) == 0
    (tmp_path / "Snakefile").write_text(capsys.readouterr().out)
    listed = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--list-rules"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert len(listed.stdout.split()) >= len(plan(load_matrix(name))) + 1


def test_sbatch_submits_a_level_at_a_time(stage: Any, sbatch_calls: Path) -> None:
    stage.set("broken", "answer-b")
    subprocess.run(["sh", str(write(stage.launch, ["--partition=x"]))], check=True)
    calls = [line.split() for line in sbatch_calls.read_text().splitlines()]
    arrays = [next(word for word in call if word.startswith("--array=")) for call in calls[:-1]]
    assert arrays == ["--array=0-2", "--array=0-2", "--array=0-2", "--array=0-0"]
    waits = [[word for word in call if word.startswith("--dependency")] for call in calls]
    assert waits == [[], *([f"--dependency=afterany:{n}"] for n in range(1, 5))]
    assert [("--gres=gpu:1" in call) for call in calls] == [True, False, False, False, False]
    assert all("--partition=x" in call for call in calls)
    assert sorted(stage.started) == sorted(c.name for c in stage.cells if c.name not in ("judge-b", "all"))
    stage.set("broken", "")
    sbatch_calls.unlink()
    subprocess.run(["sh", str(write(stage.launch))], check=True)
    assert stage.launch.todo() == []
    with pytest.raises(UserError, match="every cell is whole"):
        write(stage.launch)


def test_a_gpu_job_starts_its_cell_once(stage: Any, sbatch_calls: Path) -> None:
    text = write(stage.launch).with_name("task.sh").read_text()
    assert not [line for line in text.splitlines() if line.strip().startswith("srun")]
    subprocess.run(["sh", str(stage.place.path / "slurm" / "submit.sh")], check=True)
    assert stage.started.count("tune-a") == 1


def test_queued_jobs_keep_their_cells_when_what_is_left_is_submitted(stage: Any, tmp_path: Path) -> None:
    write(stage.launch)
    [before] = (stage.place.path / "slurm").glob("level-1-*.txt")
    assert stage.run("tune-a") == 0
    again = write(stage.launch)
    queued = ["sh", "slurm/task.sh", f"slurm/{before.name}"]
    env = {**os.environ, "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "7"}
    subprocess.run(queued, cwd=stage.place.path, env=env, check=True)
    assert stage.started == ["tune-a", "tune-b"]
    [after] = {path.name for path in again.parent.glob("level-1-*.txt")} - {before.name}
    assert f"slurm/{after} " in f"{again.read_text()} ".replace(")", " ")
    assert (again.parent / after).read_text() == "tune-b\ntune-c\n"


def test_a_job_that_is_told_to_end_is_queued_again(stage: Any, tmp_path: Path, sbatch_calls: Path) -> None:
    stage.set("sleep", "60")
    [cells] = write(stage.launch).parent.glob("level-1-gpu1-*.txt")
    requeue = tmp_path / "bin" / "scontrol"
    requeue.write_text(f'#!/bin/sh\necho "$@" > {tmp_path / "requeued"}\n')
    requeue.chmod(0o755)
    job = subprocess.Popen(
        ["sh", "slurm/task.sh", str(cells)],
        cwd=stage.place.path,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "7"},
    )
    while "tune-b" not in stage.started:
        time.sleep(0.05)
    job.terminate()
    assert job.wait(timeout=60) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 7_1\n"


def test_sbatch_is_asked_for_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["replicate", "run", "embedded", "--sbatch", "--out", str(tmp_path)]) == 2
    assert "no sbatch here" in capsys.readouterr().err


# https://docs.skypilot.co/en/latest/reference/yaml-spec.html
SKYPILOT = {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "volumes", "file_mounts", "setup", "run"}
SKYPILOT_RESOURCES = {
    *("infra", "accelerators", "cpus", "memory", "use_spot", "disk_size", "disk_tier", "instance_type", "any_of"),
    *("job_recovery", "image_id", "ports", "labels", "autostop", "ordered", "network_tier", "accelerator_args"),
}


@pytest.mark.parametrize("name", ["embedded", "paper", "single_gpu"])
def test_skypilot_s_yaml_has_its_documented_fields(name: str) -> None:
    cells = plan(load_matrix(name))
    task = yaml.safe_load(skypilot_yaml(name, cells))
    assert task.keys() <= SKYPILOT
    assert task["resources"].keys() <= SKYPILOT_RESOURCES
    assert ("accelerators" in task["resources"]) == any(cell.gpus for cell in cells)
    assert f"replicate run {name} --out /replication" in task["run"]
    [(path, mount)] = task["file_mounts"].items()
    assert path == "/replication"
    assert mount["mode"] in ("MOUNT", "MOUNT_CACHED", "COPY")
    assert ("OPENAI_API_KEY" in task["secrets"]) == (name == "paper")


def test_cells_of_one_machine_take_different_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(GPUS, "4,5,6")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with own_gpus(2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
        with own_gpus(1):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with own_gpus(9):  # as many as there are
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6"


def test_levels_of_the_paper_s_matrix() -> None:
    kinds = [sorted({cell.kind for cell in level}) for level in levels(plan(load_matrix("paper")))]
    assert kinds[0] == ["answer", "opponent"]
    assert kinds[1] == ["select"]
    assert kinds[2] == ["tune"]
    assert kinds[-2:] == [["tables"], ["comparison"]]
