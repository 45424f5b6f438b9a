"""What all launchers share, and the plainest of them: the cells of a matrix one after the other, each in a process.

A launcher knows when a cell may start and nothing else: each cell checks its inputs, locks itself and is its own proof.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from implicit_if.harness.child_process import STOPPED, run_stoppable
from implicit_if.harness.replicate.cells import Cell
from implicit_if.harness.replicate.held import GPUS
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.safe_text import one_line, printable

_TAIL = 20_000


class Launch:
    """One matrix in one folder, as launchers see it."""

    def __init__(self, matrix: str, cells: Sequence[Cell], out: Path, place: Folder, program: Sequence[str] = ()):
        """Holds what is needed to start cells.

        Args:
            matrix: The matrix as the user named it: a name, or a file.
            cells: The plan.
            out: `--out`.
            place: The matrix's folder.
            program: What starts this program; empty: this interpreter.
        """
        self.matrix = str(Path(matrix).resolve()) if Path(matrix).suffix in (".yaml", ".yml") else matrix
        self.cells, self.out, self.place = cells, out.resolve(), place
        self.program = program or (sys.executable, "-m", "implicit_if.harness.cli")

    def command(self, cell: str) -> list[str]:
        """What runs a cell, from anywhere."""
        words = [*self.program, "replicate", "run", self.matrix, cell, "--out", str(self.out)]
        return words if self.place.data is None else [*words, "--data", str(self.place.data.resolve())]

    def log(self, cell: str) -> Path:
        """The file of a cell's messages."""
        return self.place.path / "logs" / f"{cell}.log"

    def todo(self) -> list[Cell]:
        """The cells that are not whole, in order."""
        self.place.forget()
        return [cell for cell in self.cells if self.place.unfinished(cell.name) is not None]

    def failed(self) -> list[Cell]:
        """The cells that are not whole though all that they need is."""
        todo = self.todo()
        return [cell for cell in todo if not {other.name for other in todo} & set(cell.needs)]

    def report(self) -> int:
        """Says how many cells are whole, and which are not: those that failed, with reason and log, and the others.

        Returns:
            0 if all are whole, else 1.
        """
        todo, failed = self.todo(), self.failed()
        print(f"{len(self.cells) - len(todo)} of {len(self.cells)} cells are whole in {self.place.path}")
        for cell in failed:
            log = self.log(cell.name)
            print(f"not whole: {cell.name}: {self.reason(cell.name)}" + (f"\n  log: {log}" if log.is_file() else ""))
        if waiting := len(todo) - len(failed):
            print(f"{waiting} more wait for these.")
        if todo:
            print("`implicit-if replicate run` goes on from there; what failed needs its reason gone first.")
        return int(bool(todo))

    def reason(self, cell: str) -> str:
        """What a cell's log says last, which is the error it ended with; why it has to run where there is no log."""
        log = self.log(cell)
        if not log.is_file():
            return str(self.place.unfinished(cell))
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        told = [line for line in lines if "error" in line.lower()] or lines or ["it was ended without a word"]
        return one_line(printable(told[-1].strip()), 500)


def run_in_order(launch: Launch) -> int:
    """Runs the cells one after the other; a cell that fails leaves those that do not wait for it.

    Returns:
        0 if all are whole at the end, 1 if not, 75 if it was stopped.
    """
    for number, cell in enumerate(launch.cells, start=1):
        launch.place.forget()
        why = launch.place.unfinished(cell.name)
        if why is None or why.startswith("waits"):
            continue
        print(f"[{number}/{len(launch.cells)}] {cell.name} {why}; log: {launch.log(cell.name)}", flush=True)
        began = time.monotonic()
        status, stopped = run_stoppable(logged(launch, cell.name))
        if stopped or status == STOPPED:
            print("stopped; run the same command to continue", flush=True)
            return STOPPED
        what = "done" if status == 0 else f"failed ({status}): {launch.reason(cell.name)}"
        print(f"[{number}/{len(launch.cells)}] {cell.name} {what} after {time.monotonic() - began:.0f} s", flush=True)
    return launch.report()


def count_gpus() -> int:
    """NVIDIA GPUs that this machine's driver knows, or as many as `CUDA_VISIBLE_DEVICES` names."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@contextlib.contextmanager
def shared_gpus(number: int) -> Iterator[None]:
    """Has the cells that are started in the block share this machine's GPUs, if there are several."""
    if number > 1 and GPUS not in os.environ:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ[GPUS] = named or ",".join(map(str, range(number)))
        try:
            yield
        finally:
            del os.environ[GPUS]
    else:
        yield


def logged(launch: Launch, cell: str) -> list[str]:
    """A command that runs a cell and appends its messages to the cell's log."""
    log = launch.log(cell)
    os.makedirs(log.parent, exist_ok=True)
    return ["sh", "-c", f"exec {shlex.join(launch.command(cell))} >>{shlex.quote(str(log))} 2>&1"]
