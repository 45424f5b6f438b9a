"""Full and incremental rebuilds of the leaderboards from synthetic submissions, page and its answers included.

    python benchmarks/leaderboard.py
    python benchmarks/leaderboard.py --submissions 100 --instructions 80

Submissions are made in a temporary folder (`--keep FOLDER` makes them there once and uses them again), all against one
reference, so that all are in one table. Each rebuild is the command in a process of its own; memory is that of the
process with all its children. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

SAMPLES = Path(__file__).parents[1] / "tests" / "leaderboards"
COMMAND = (
    "import argparse, sys; from implicit_if.leaderboards.commands import leaderboard as c; "
    "p = argparse.ArgumentParser(); c.add_arguments(p); sys.exit(c.run(p.parse_args()))"
)
KINDS = [
    {"kind": "base"},
    {"kind": "rules", "preset": "paper"},
    {"kind": "rules", "preset": "paper", "without": ["eos"]},
    {"kind": "single_task", "task": "gsm"},
    {"kind": "response"},
    {"kind": "instruction"},
    {"kind": "control", "control": "longest_of_two"},
]


class Measured(NamedTuple):
    """Wall seconds, CPU seconds and the most memory, in MiB, of one command."""

    wall: float
    cpu: float
    memory: float


def main() -> None:
    """Makes the submissions, measures, prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--instructions", type=int, default=805)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the submissions, made if it is not there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        made = arguments.keep or Path(folder, "made")
        make_submissions(made, arguments.submissions + 1, arguments.instructions, arguments.processes)
        last = sorted((made / "submissions").iterdir())[arguments.submissions]
        shutil.copytree(made / "submissions", root / "submissions", ignore=lambda _, names: {last.name} & set(names))
        time.sleep(3)  # files changed within the last seconds are read again, see verification/verify_all
        os.environ |= {"IMPLICIT_IF_CACHE": str(Path(folder, "cache")), "OMP_NUM_THREADS": "1"}
        command = ["--root", str(root), "--processes", str(arguments.processes)]
        measured = {"full": measure(command)}
        shutil.copytree(last, root / "submissions" / last.name)
        measured["incremental, one new submission"] = measure(command)
        measured["incremental, nothing new"] = measure(command)
        measured["check"] = measure([*command, "--check"])
        report(measured, root, arguments.submissions, arguments.instructions)


def report(measured: dict[str, Measured], root: Path, submissions: int, instructions: int) -> None:
    """Prints the table and the JSON line."""
    print(f"\n{submissions} submissions of {instructions} outputs\n")
    print(f"{'':34} {'seconds':>8} {'CPU seconds':>12} {'MiB':>7}")
    for name, m in measured.items():
        print(f"{name:34} {m.wall:8.1f} {m.cpu:12.1f} {m.memory:7.0f}")
    page = (root / "page.html").stat().st_size
    beside = [path.stat().st_size for path in (root / "answers").glob("*.js")]
    print(f"\npage.html: {page / 1e6:.2f} MB, and {len(beside)} files of answers, {sum(beside) / 1e6:.0f} MB")
    full, new = measured["full"], measured["incremental, one new submission"]
    ratios = {
        "full_over_incremental": {"value": round(full.wall / new.wall, 1), "goal": 12, "better": "higher"},
        "full_seconds": {"value": round(full.wall, 1), "goal": 60, "better": "lower"},
        "incremental_seconds": {"value": round(new.wall, 1), "goal": 5, "better": "lower"},
        "full_mib": {"value": round(full.memory), "goal": 2048, "better": "lower"},
        "page_mb": {"value": round(page / 1e6, 2), "goal": 5, "better": "lower"},
    }
    print(json.dumps({"name": "leaderboard", "ratios": ratios}))


def measure(arguments: list[str]) -> Measured:
    """Runs the command and samples its memory ten times a second."""
    started, cpu, most = time.perf_counter(), _children_cpu(), [0.0]
    command = [sys.executable, "-c", COMMAND, *arguments]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        watcher = threading.Thread(target=_watch, args=(process, most))
        watcher.start()
        process.wait()
        watcher.join()
        said.seek(0)
        assert process.returncode == 0, said.read().decode()
    return Measured(time.perf_counter() - started, _children_cpu() - cpu, most[0])


def make_submissions(root: Path, count: int, instructions: int, processes: int) -> None:
    """As many submissions as needed, of all kinds, seeds among them."""
    (root / "submissions").mkdir(parents=True, exist_ok=True)
    todo = [i for i in range(count) if not (root / "submissions" / _name(i).replace("/", "__")).exists()]
    with ProcessPoolExecutor(processes) as pool:
        for number, _ in enumerate(pool.map(_make, [root] * len(todo), todo, [instructions] * len(todo)), start=1):
            if number % 100 == 0:
                print(f"{number} of {len(todo)} submissions made", file=sys.stderr)


def _make(root: Path, number: int, instructions: int) -> None:
    sys.path.insert(0, str(SAMPLES))
    from factory import make_submission

    make_submission(
        root / "submissions",
        name=_name(number),
        n=instructions,
        seed=number,
        words=(20 + number % 120, 160 + number % 200),
        system=KINDS[number % len(KINDS)],
        base_model={"name": f"org/base-{number % 5}b"},
        share=True,
    )


def _name(number: int) -> str:
    return f"org{number % 40}/system-{number:04d}"


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _watch(process: subprocess.Popen[bytes], most: list[float]) -> None:
    import psutil

    while process.poll() is None:
        try:
            parent = psutil.Process(process.pid)
            used = sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)])
        except psutil.NoSuchProcess:
            continue
        most[0] = max(most[0], used / 2**20)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
