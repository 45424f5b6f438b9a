"""CPU threads that do not collapse beside other work.

GNU OpenMP, which PyTorch uses on Linux, lets idle threads spin: where another process wants a core, two threads may
decode ten times slower than one. Spinning less must be asked for before torch loads (`spin_briefly`). How many threads
are faster is measured again and again while tokens are generated (`ThreadTrials`); float32 answers are the same anyway.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Generator

SPIN_COUNT = "1000"
"""Rounds that a thread waits awake."""
_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
_STEPS = 3
_INTERVAL, _LONGEST = 64, 512


def may_try(dtype: str) -> int:
    """How many threads `ThreadTrials` may use for weights of a type on the CPU: 1 where the number is not to change.

    Only float32 gives the same answers with any number of threads; a number that the user set stays.
    """
    import torch

    return torch.get_num_threads() if dtype == "float32" and "OMP_NUM_THREADS" not in os.environ else 1


def spin_briefly() -> None:
    """Asks OpenMP not to spin for long; does nothing once torch is loaded, or where the user has chosen."""
    if "torch" not in sys.modules and not any(name in os.environ for name in _SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


class ThreadTrials:
    """Chooses between one thread and all, by the time that decoding steps take under both.

    A trial is a few steps with each number, every 64 steps. It ends early where all threads are much slower, and then
    comes less often.

    Attributes:
        steps: How many steps each number of threads did.
    """

    def __init__(self, most: int) -> None:
        """Sets nothing yet.

        Args:
            most: Threads that may be used; with 1 nothing is tried.
        """
        self.most = most
        self.steps: Counter[int] = Counter()
        self._threads, self._rows, self._last = most, 0, 0.0
        self._trials: Generator[None, float, None] | None = None

    def step(self, rows: int) -> None:
        """Called after every decoding step with the number of rows decoded; between batches see `pause`."""
        if self.most == 1:
            return
        now = time.perf_counter()
        self.steps[self._threads] += 1
        if self._trials is None or (rows != self._rows and self._rows):
            self._trials = self._try()
            next(self._trials)
        elif self._last:
            self._trials.send(now - self._last)
        self._rows, self._last = rows, time.perf_counter()

    def pause(self) -> None:
        """Called between batches: the time until the next step is no step's."""
        self._last = 0.0

    def _set(self, threads: int) -> None:
        import torch

        self._threads = threads
        torch.set_num_threads(threads)

    def _try(self) -> Generator[None, float, None]:
        interval = _INTERVAL
        while True:
            self._set(1)
            yield  # what has just begun with the other number
            one = 0.0
            for _ in range(_STEPS):
                one += yield
            self._set(self.most)
            every = yield
            collapsed = every > one
            if not collapsed:
                every = 0.0
                for _ in range(_STEPS):
                    every += yield
            self._set(1 if every > one else self.most)
            interval = min(2 * interval, _LONGEST) if collapsed else _INTERVAL
            for _ in range(interval):
                yield

    def __str__(self) -> str:
        total = sum(self.steps.values())
        if not total:
            return str(self.most)
        return ", ".join(f"{n} in {100 * k / total:.0f} % of the steps" for n, k in sorted(self.steps.items()))
