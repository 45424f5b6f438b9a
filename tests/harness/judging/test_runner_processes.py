"""Real processes on one store: killed in mid-run, and several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import judging_fakes
import pytest
from judging_fakes import FakeJudge, make_pair

from implicit_if.harness.annotations import AnnotationStore
from implicit_if.harness.judging import annotate

N = 30
BATCH = 4  # what the process writes at once


def start(store: Path, first: int, last: int, delay: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, judging_fakes.__file__, str(store), str(first), str(last), str(delay)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("the process did not get there in time")
        time.sleep(0.01)


def test_sigterm_writes_what_was_judged(store: Path) -> None:
    process = start(store, 0, N, 0.05)
    wait_for(lambda: store.exists() and len(store.read_bytes().splitlines()) >= BATCH)
    time.sleep(0.12)  # some more, which are less than a batch
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    told = int(error.decode().split("interrupted. ")[1].split()[0])
    assert told == len(AnnotationStore(store).read().verdicts) > BATCH


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes_and_loses_at_most_one_batch(store: Path, how: signal.Signals) -> None:
    process = start(store, 0, N, 0.02)
    wait_for(lambda: store.exists() and len(store.read_bytes().splitlines()) >= 2 * BATCH)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    kept = len(AnnotationStore(store).read().verdicts)
    assert 2 * BATCH <= kept < 2 * N
    judge = FakeJudge(lambda c: 0.75)
    result = annotate([make_pair(i) for i in range(N)], judge, store, progress=False)
    assert result.complete
    assert len(judge.asked) == 2 * N - kept
    assert len(AnnotationStore(store).read().verdicts) == 2 * N
    assert len(list(AnnotationStore(store))) <= 2 * N + BATCH  # Ctrl-C just after a write stores its batch twice


def test_a_line_torn_by_the_kill_is_asked_again(store: Path) -> None:
    pairs = [make_pair(1), make_pair(2)]
    annotate(pairs, FakeJudge(lambda c: 0.75), store, progress=False)
    store.write_bytes(store.read_bytes()[:-20])
    judge = FakeJudge(lambda c: 0.75)
    assert annotate(pairs, judge, store, progress=False).complete
    assert len(judge.asked) == 1
    assert len(list(AnnotationStore(store))) == 4


def test_several_processes_on_one_store_lose_nothing(store: Path) -> None:
    """Two share half of their pairs, a third is apart; all write in small batches at the same time."""
    processes = [start(store, *span, 0.002) for span in ((0, 20), (10, 30), (40, 60))]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error.decode()
    content = AnnotationStore(store).read()
    assert len(content.verdicts) == 2 * (30 + 20)
    assert {a.preference for a in content.verdicts.values()} == {0.75, 0.25}
    judge = FakeJudge(lambda c: 0.5)
    annotate([make_pair(i) for i in [*range(30), *range(40, 60)]], judge, store, progress=False)
    assert judge.asked == []
