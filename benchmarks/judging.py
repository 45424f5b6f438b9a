"""Comparisons a second of our judge stage and of alpaca-eval, on the same pairs, prompt, parser and server.

    python benchmarks/judging.py

The server, a process of its own, answers every request after a fixed time: first 300 ms, like a hosted judge, then
30 ms, like a small one nearby. Each tool does its whole work: every verdict parsed and on disk. alpaca-eval runs as it
comes (five threads) and with as many requests in flight as ours has; it gets fewer of the same pairs, because it is
slow. Where the server is the limit (64 in flight against 300 ms: 213 a second), no client can be faster than that. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

SERVER = Path(__file__).parents[1] / "tests" / "harness" / "judging" / "fake_server.py"
ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
CONCURRENCY = 64
"""Our default."""
HOSTED, NEARBY = 0.3, 0.03
"""Seconds a request."""

OURS = f"implicit-if, alpaca_eval:{ANNOTATOR}"
AS_IT_COMES = f"alpaca-eval, {ANNOTATOR}, as it comes"
SAME_IN_FLIGHT = f"alpaca-eval, {ANNOTATOR}, {CONCURRENCY} threads"


class Measured(NamedTuple):
    """Comparisons judged, wall seconds and CPU seconds of this process."""

    n: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.n / self.wall


def main() -> None:
    """Measures both at both servers, prints two tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=3000, help="for ours")
    parser.add_argument("--alpaca-eval-comparisons", type=int, default=300)
    arguments = parser.parse_args()
    texts = make_texts(max(arguments.comparisons, arguments.alpaca_eval_comparisons))
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    tables = {}
    for latency in (HOSTED, NEARBY):
        with fake_server(latency) as url:
            os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
            tables[latency] = measure(texts[: arguments.comparisons], texts[: arguments.alpaca_eval_comparisons])
        report(tables[latency], latency)
    print(json.dumps({"name": "judging", "ratios": ratios(tables[HOSTED], tables[NEARBY])}))


def measure(texts: list[tuple[str, str, str]], fewer: list[tuple[str, str, str]]) -> dict[str, Measured]:
    """Every contestant against the server that the environment names."""
    return {
        OURS: ours(f"alpaca_eval:{ANNOTATOR}", texts),
        "implicit-if, openai:": ours("openai:fake", texts),
        AS_IT_COMES: theirs(fewer),
        SAME_IN_FLIGHT: theirs(fewer, num_procs=CONCURRENCY),
    }


def report(measured: dict[str, Measured], latency: float) -> None:
    """Prints a table."""
    most = CONCURRENCY / latency
    print(f"\n{latency * 1000:.0f} ms a request; with {CONCURRENCY} in flight {most:.0f}/s at the very most\n")
    print(f"{'':66} {'judged':>7} {'seconds':>8} {'per second':>11} {'CPU ms each':>12}")
    for name, m in measured.items():
        print(f"{name:66} {m.n:7d} {m.wall:8.1f} {m.rate:11.1f} {1000 * m.cpu / m.n:12.2f}")


def ratios(hosted: dict[str, Measured], nearby: dict[str, Measured]) -> dict[str, dict[str, float | str]]:
    """What the goals are about; `most` is what a client without any cost of its own would reach."""
    mine, theirs_64 = hosted[OURS], hosted[SAME_IN_FLIGHT]
    most = CONCURRENCY / HOSTED / theirs_64.rate
    return {
        "comparisons_per_second": goal(mine.rate, 150),
        "ours_over_alpaca_eval": goal(mine.rate / hosted[AS_IT_COMES].rate, 10),
        "ours_over_alpaca_eval_64_threads": {"value": round(mine.rate / theirs_64.rate, 2), "most": round(most, 2)},
        "ours_over_alpaca_eval_64_threads_30_ms": goal(nearby[OURS].rate / nearby[SAME_IN_FLIGHT].rate, 10),
    }


def goal(value: float, at_least: float) -> dict[str, float | str]:
    """An entry of the JSON line."""
    return {"value": round(value, 2), "goal": at_least, "better": "higher"}


def ours(spec: str, texts: list[tuple[str, str, str]]) -> Measured:
    """Our stage over half as many pairs, each in both orders."""
    from implicit_if.harness.judging.pairs import make_pairs
    from implicit_if.harness.judging.registry import get_judge
    from implicit_if.harness.judging.runner import annotate
    from implicit_if.harness.outputs import Output

    half = texts[: len(texts) // 2]
    sides = [
        [Output.model_validate({"instruction": t[0], "output": t[side], "generator": str(side)}) for t in half]
        for side in (1, 2)
    ]
    judge = get_judge(spec, concurrency=CONCURRENCY, price_in=0, price_out=0)
    with tempfile.TemporaryDirectory() as folder:
        pairs, path = make_pairs(*sides), Path(folder) / "annotations.jsonl"
        warm_up = annotate(pairs[:1], judge, path, progress=False)
        assert warm_up.complete
        result = timed(lambda: len(annotate(pairs, judge, path, progress=False).unjudged))
        assert result[0] == 0, f"{result[0]} comparisons without a verdict"
    return Measured(2 * len(pairs) - 2, *result[1:])


def theirs(texts: list[tuple[str, str, str]], **options: int) -> Measured:
    """alpaca-eval over the same comparisons, in one order each, with a cache file of its own."""
    from alpaca_eval.annotators import PairwiseAnnotator

    rows = [{"instruction": i, "output_1": a, "output_2": b} for i, a, b in texts]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(open(os.devnull, "w")):
        annotator = PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=Path(folder) / "annotations.json")
        annotator(rows[:1], **options)
        judged, wall, cpu = timed(lambda: len(annotator(rows[1:], **options)))
    assert judged == len(rows) - 1, f"{judged} of {len(rows) - 1} verdicts"
    return Measured(judged, wall, cpu)


def timed(call: Callable[[], int]) -> tuple[int, float, float]:
    """The call's result, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def make_texts(n: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Instructions and pairs of answers of about 1,200 characters, all different."""
    rng = random.Random(seed)
    words = [f"{a}{b}{c}" for a in "bdfklmnprst" for b in "aeiou" for c in ("n", "ra", "st", "lo", "")]
    texts = [" ".join(rng.choices(words, k=k)) for _ in range(n) for k in (15, 300, 300)]
    return list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))


@contextlib.contextmanager
def fake_server(latency: float) -> Iterator[str]:
    """Runs the server in a process of its own; yields its base URL."""
    command = [sys.executable, str(SERVER), "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.communicate()


if __name__ == "__main__":
    main()
