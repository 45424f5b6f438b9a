"""The accelerate configurations against the installed accelerate's schema; nothing here can run them."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin

from implicit_if.harness.tuning import cli

FOLDER = Path(__file__).parents[3] / "examples" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECTED = {
    "gpu1_80gb_offload.yaml": ("DEEPSPEED", 1),
    "gpu2_fsdp2.yaml": ("FSDP", 2),
    "gpu2_zero3.yaml": ("DEEPSPEED", 2),
    "gpu8_fsdp2.yaml": ("FSDP", 8),
    "gpu8_zero3.yaml": ("DEEPSPEED", 8),
}


def test_the_files_are_these() -> None:
    assert {path.name for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_accelerate_reads_it(path: Path) -> None:
    config = load_config_from_file(str(path))  # refuses unknown keys
    assert (config.distributed_type.value, config.num_processes) == EXPECTED[path.name]
    assert config.mixed_precision == "bf16"
    # Every batch of the profiles can be dealt out.
    assert 64 % config.num_processes == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_nested_key_is_an_option_of_the_launcher(path: Path) -> None:
    options = {action.dest for action in launch_command_parser()._actions}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("fsdp_config", "deepspeed_config"):
        assert set(content.get(section, {})) <= options


@pytest.mark.parametrize("path", [p for p in FILES if "fsdp" in p.name], ids=lambda path: path.name)
def test_the_fsdp_plugin_takes_the_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))["fsdp_config"]
    for name in list(os.environ):
        if name.startswith("FSDP_"):
            monkeypatch.delenv(name)
    for key, value in content.items():
        monkeypatch.setenv(key.upper(), str(value))  # as the launcher hands them on
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.activation_checkpointing is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_head_names_its_own_file_and_a_real_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("compute_environment")[0]
    assert f"--config_file examples/accelerate/{path.name}" in head
    assert re.search(r"-m implicit_if\.harness\.cli \\\n#     tune instruction --base", head)
    assert "not run" in head


def test_the_slurm_job_is_a_script_of_real_commands() -> None:
    path = FOLDER.parent / "slurm" / "tune.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    (config,) = re.findall(r"--config_file (\S+)", text)
    assert FOLDER.parents[1] / config in FILES
    (words,) = re.findall(r"implicit_if\.harness\.cli tune (.*)", text)
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    arguments = parser.parse_args(
        shlex.split(words.replace("$recipe", "gsm").replace("$SLURM_ARRAY_TASK_ID", "3").replace("$base", "a/b"))
    )
    assert (arguments.recipe, arguments.seed) == ("gsm", 3)


@pytest.mark.parametrize(
    ("launcher", "status", "queued"),
    [
        ("exit 75", 75, True),
        ("trap 'exit 1' TERM; kill -TERM $PPID $$", 75, True),  # torchrun's status after a signal
        ("kill -TERM $PPID; exit 75", 75, True),
        ("kill -TERM $PPID $$", 75, True),
        ("kill -TERM $PPID; mkdir -p tuned/gsm-3", 0, False),  # finished in time
        ("mkdir -p tuned/gsm-3.work; exit 1", 1, False),
        ("exit 2", 2, False),
        ("mkdir -p tuned/gsm-3", 0, False),
    ],
)
def test_the_slurm_job_is_queued_again_when_a_signal_left_it_unfinished(
    launcher: str, status: int, queued: bool, tmp_path: Path
) -> None:
    programs = {
        "srun": 'echo "$@" > srun.txt\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
        "scontrol": 'echo "$@" > scontrol.txt',
        "accelerate": f'echo "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT $*" > accelerate.txt\n{launcher}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "16"}
    job = subprocess.run(
        ["bash", str(FOLDER.parent / "slurm" / "tune.sbatch"), "gsm", "a/b", "other/reference"],
        cwd=tmp_path,
        env={**variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert job.returncode == status
    assert "--cpus-per-task=16" in (tmp_path / "srun.txt").read_text()
    words = (tmp_path / "accelerate.txt").read_text()
    assert words.startswith("280 launch --config_file")
    assert words.endswith("tune gsm --base a/b --profile other/reference --out tuned/gsm-3 --seed 3\n")
    found = (tmp_path / "scontrol.txt").exists()
    assert found == queued
    assert not found or (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"
