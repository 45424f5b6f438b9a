"""A lock that a child process can inherit, and GPUs handed out by such locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from implicit_if.harness.locks import hold

GPUS = "IMPLICIT_IF_GPUS"
"""Which GPUs the cells of a launcher share, e.g. "0,1,2"; each takes as many as it needs for itself."""


@contextlib.contextmanager
def held(path: Path, who: str) -> Iterator[int]:
    """Holds a lock file, and waits for whoever holds it.

    Args:
        path: The file.
        who: What holds it, for the message.

    Yields:
        Its descriptor. A child process that inherits it holds the lock until it has ended itself, however we end.
    """
    with open(path, "a", encoding="utf-8") as file:
        hold(file, f"implicit-if: waiting for {who}, which holds {path}", patience=0)
        yield file.fileno()


@contextlib.contextmanager
def own_gpus(number: int, seconds: float = 1.0) -> Iterator[None]:
    """Waits for as many GPUs as are asked for, of those of `GPUS`, and shows nothing else to what runs in the block.

    Args:
        number: How many; with 0, or without `GPUS`, nothing happens.
        seconds: Between two looks.
    """
    shared = [name for name in os.environ.get(GPUS, "").split(",") if name]
    if not number or not shared:
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"implicit-if-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    number, before = min(number, len(shared)), os.environ.get("CUDA_VISIBLE_DEVICES")
    with contextlib.ExitStack() as stack:
        while len(found := _free(folder, shared, number, stack)) < number:
            stack.close()  # none is kept while waiting, so that two cells never wait for each other
            time.sleep(seconds)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(found)
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _free(folder: Path, shared: list[str], number: int, stack: contextlib.ExitStack) -> list[str]:
    found: list[str] = []
    for name in shared:
        if len(found) == number:
            break
        file = open(folder / f"{name}.lock", "a", encoding="utf-8")  # noqa: SIM115  the stack closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            stack.enter_context(file)
            found.append(name)
    return found
