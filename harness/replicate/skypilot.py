"""SkyPilot as a launcher: one machine of a cloud that runs the whole matrix, as its task YAML."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from implicit_if.harness.replicate.cells import Cell
from implicit_if.harness.storage import yaml_bytes

MOUNT = "/replication"


def skypilot_task(matrix: str, cells: Sequence[Cell], accelerators: str | None = None) -> dict[str, Any]:
    """A SkyPilot task, for `sky jobs launch`: what a preempted machine had finished lies in the bucket.

    Args:
        matrix: The matrix's name, or its file's in the working directory.
        cells: The plan.
        accelerators: GPUs of the machine, e.g. "H100:8"; None takes one H100, or eight where a cell needs several. A
            matrix without GPUs asks for none.
    """
    gpus = max(cell.gpus for cell in cells)
    accelerators = accelerators or ("H100:8" if gpus > 1 else "H100:1")
    number = int(accelerators.partition(":")[2] or 1)
    memory = max(math.ceil(cell.costs.memory_gb) for cell in cells)
    resources: dict[str, Any] = {
        "cpus": "4+",
        "memory": f"{max(16, memory * max(1, number // max(1, gpus)))}+",
        "disk_size": max(100, math.ceil(2 * max(cell.costs.disk_gb for cell in cells)) * max(1, number)),
        "use_spot": True,
    }
    if gpus:
        resources = {"accelerators": accelerators, **resources}
    name = f"replicate-{matrix.rsplit('/', 1)[-1].removesuffix('.yaml').replace('_', '-')}"
    run = f"implicit-if replicate run {shlex.quote(matrix)} --out {MOUNT}"
    keys = {"HF_TOKEN": None} | ({"OPENAI_API_KEY": None} if any(cell.api for cell in cells) else {})
    return {
        "name": name,
        "resources": resources,
        "workdir": ".",
        "secrets": keys,
        "file_mounts": {MOUNT: {"name": f"implicit-if-{name}", "mode": "MOUNT_CACHED"}},
        "setup": 'pip install -e ".[embedded,replicate]"',
        "run": f"{run} --gpus {number}" if gpus else run,
    }


def skypilot_yaml(matrix: str, cells: Sequence[Cell], accelerators: str | None = None) -> str:
    """The task as YAML, with how to use it."""
    head = (
        "# sky jobs launch FILE --secret HF_TOKEN ...; from a checkout of this repository, whose folder is copied.\n"
        "# The bucket of file_mounts needs a name of its own. Checked against SkyPilot's fields, not run on a cloud.\n"
    )
    return head + yaml_bytes(skypilot_task(matrix, cells, accelerators)).decode("ascii")
