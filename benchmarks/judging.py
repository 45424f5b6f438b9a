"""Comparisons a second of our judge stage and of alpaca-eval, on the same pairs, prompt, parser and server.

    python benchmarks/judging.py

The server (a process of its own) answers every request after 300 ms; both sides have 64 requests in flight. Ours is
the whole stage: runner, both orders, verdicts synced to disk. alpaca-eval gets fewer of the same pairs, because it is
slow. The last line is JSON.
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


class Measured(NamedTuple):
    """Comparisons judged, wall seconds and CPU seconds of this process."""

    n: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.n / self.wall


def main() -> None:
    """Measures both, prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=3000, help="for ours")
    parser.add_argument("--alpaca-eval-comparisons", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds")
    arguments = parser.parse_args()
    texts = make_texts(max(arguments.comparisons, arguments.alpaca_eval_comparisons))
    with fake_server(arguments.latency) as url:
        os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        logging.disable(logging.ERROR)
        warnings.simplefilter("ignore")
        measured = {
            "implicit-if, alpaca_eval:" + ANNOTATOR: ours(f"alpaca_eval:{ANNOTATOR}", texts[: arguments.comparisons]),
            "implicit-if, openai:": ours("openai:fake", texts[: arguments.comparisons]),
            "alpaca-eval, " + ANNOTATOR: theirs(texts[: arguments.alpaca_eval_comparisons]),
        }
    report(measured, arguments.latency)


def report(measured: dict[str, Measured], latency: float) -> None:
    """Prints the table and the JSON line."""
    most = CONCURRENCY / latency
    print(f"\n{latency * 1000:.0f} ms a request, {CONCURRENCY} in flight: {most:.0f}/s at the very most\n")
    print(f"{'':58} {'judged':>7} {'seconds':>8} {'per second':>11} {'CPU ms each':>12}")
    for name, m in measured.items():
        print(f"{name:58} {m.n:7d} {m.wall:8.1f} {m.rate:11.1f} {1000 * m.cpu / m.n:12.2f}")
    mine, _, alpaca = measured.values()
    ratios = {
        "ours_over_alpaca_eval": {"value": round(mine.rate / alpaca.rate, 2), "goal": 10, "better": "higher"},
        "comparisons_per_second": {"value": round(mine.rate, 1), "goal": 150, "better": "higher"},
    }
    print(json.dumps({"name": "judging", "ratios": ratios}))


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


def theirs(texts: list[tuple[str, str, str]]) -> Measured:
    """alpaca-eval over the same comparisons, in one order each, without its cache."""
    os.environ["OPENAI_MAX_CONCURRENCY"] = str(CONCURRENCY)
    from alpaca_eval.annotators import PairwiseAnnotator

    rows = [{"instruction": i, "output_1": a, "output_2": b} for i, a, b in texts]
    annotator = PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=None)
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        annotator(rows[:1], num_procs=CONCURRENCY)
        judged, wall, cpu = timed(lambda: len(annotator(rows[1:], num_procs=CONCURRENCY)))
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
