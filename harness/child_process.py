"""Commands in processes of their own that can be stopped and continued."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence

STOPPED = 75
"""Exit status of a command that was stopped and can be continued: EX_TEMPFAIL of sysexits.h."""


def run_stoppable(command: Sequence[str], keep_open: Sequence[int] = ()) -> tuple[int, bool]:
    """Exit status of a command that is handed this process's SIGTERM, and whether there was one.

    Args:
        command: Its words.
        keep_open: File descriptors that it inherits, such as a lock's, which is then held until it ends, too.
    """
    signals: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        signals.append(number)
        for child in children:
            child.send_signal(number)

    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, forward) if ours else None
    try:
        with subprocess.Popen(command, pass_fds=keep_open) as child:
            children.append(child)
            if signals:  # one that came while the child was started
                child.terminate()
            try:
                return child.wait(), bool(signals)
            except BaseException:
                child.kill()
                raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)
