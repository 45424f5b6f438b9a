"""Decoding on a CPU beside other work: threads as `implicit-if` sets them, as PyTorch does by itself, and one thread.

    python benchmarks/decoding.py                        # the embedded model, about five minutes
    python benchmarks/decoding.py --with GOMP_SPINCOUNT=0 --with OMP_WAIT_POLICY=passive
    python benchmarks/decoding.py --quick                # does it run?

Each contestant is a process of its own, since OpenMP reads its settings when torch loads. They take turns: once alone,
once beside a process that keeps one core busy; the median turn counts. On a machine with other work, run it under
`nice -n -20`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

OURS, MEASURED, DEFAULT, ONE = "implicit-if", "measured threads", "PyTorch alone", "one thread"
OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_")


def main() -> None:
    """Measures every contestant alone and beside a busy process, prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", help="a model's folder (the embedded model)")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="tokens a row")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--with", dest="more", action="append", default=[], metavar="NAME=VALUE", help="further settings"
    )
    parser.add_argument("--quick", action="store_true", help="2 rows, 2 tokens, 1 turn")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.tokens, args.turns = 2, 2, 1
    if args.contestant:
        answer(args)
        return
    environments = {OURS: {}, MEASURED: {}, DEFAULT: {}, ONE: {"OMP_NUM_THREADS": "1"}}
    environments |= {text: dict([text.split("=", 1)]) for text in args.more}
    processes = {name: start(name, environment, args) for name, environment in environments.items()}
    speeds: dict[tuple[str, bool], list[float]] = {}
    try:
        for process in processes.values():
            run(process)  # loads, and decodes once to warm up
        for _ in range(args.turns):
            for beside in (False, True):
                for name, process in processes.items():
                    with busy() if beside else contextlib.nullcontext():
                        speeds.setdefault((name, beside), []).append(args.rows * args.tokens / run(process))
    finally:
        for process in processes.values():
            process.communicate()
    speed = {key: statistics.median(values) for key, values in speeds.items()}
    print(f"\ntokens/s of {args.rows} rows, {os.cpu_count()} cores, median of {args.turns} turns")
    print(f"{'':28} {'alone':>8} {'beside':>8}  a busy process")
    for name in environments:
        print(f"{name:28} {speed[name, False]:8.1f} {speed[name, True]:8.1f}")
    free = speed[ONE, False]
    ratios = {
        "beside_other_work_over_one_free_thread": (speed[OURS, True] / free, 0.7),
        "measured_threads_beside_other_work_over_one_free_thread": (speed[MEASURED, True] / free, 0.7),
        "quiet_over_pytorch_alone": (speed[OURS, False] / speed[DEFAULT, False], 0.8),
    }
    entries = {k: {"value": round(v, 4), "goal": goal, "better": "higher"} for k, (v, goal) in ratios.items()}
    print(json.dumps({"name": "decoding", "ratios": entries}))


def start(name: str, environment: dict[str, str], args: argparse.Namespace) -> subprocess.Popen[str]:
    """A contestant's process."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(OPENMP)}
    command = [sys.executable, __file__, "--contestant", name, "--rows", str(args.rows), "--tokens", str(args.tokens)]
    command += ["--pretrained", args.pretrained] if args.pretrained else []
    return subprocess.Popen(
        command, env=inherited | environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def run(process: subprocess.Popen[str]) -> float:
    """Seconds a contestant took for one batch."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A process that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(0.2)
            yield
        finally:
            process.kill()


def answer(args: argparse.Namespace) -> None:
    """A contestant: decodes one batch for every line it reads, and prints the seconds."""
    from implicit_if.harness.cpu_threads import ThreadTrials, spin_briefly

    if args.contestant == OURS:
        spin_briefly()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from implicit_if.harness.chat_templates import load_template
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.model_wrappers.embedded_model import ensure_embedded_model
    from implicit_if.model_wrappers.generate import decode_batch
    from implicit_if.model_wrappers.prompt_batches import left_padded

    folder = Path(args.pretrained) if args.pretrained else ensure_embedded_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token_id = tokenizer.pad_token_id or 0
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    template = load_template("tulu")
    texts = [template.render_prompt(item.text) for item in load_instructions("builtin").items[: args.rows]]
    prompts = left_padded(tokenizer(texts)["input_ids"], tokenizer.pad_token_id)
    unused = torch.tensor([len(tokenizer) - 1])  # so that every row decodes all its tokens
    trials = ThreadTrials(torch.get_num_threads() if args.contestant in (OURS, MEASURED) else 1)
    for _ in sys.stdin:
        begin = time.perf_counter()
        trials.pause()
        decode_batch(model, tokenizer, prompts, args.tokens, eos_ids=unused, on_step=trials.step, do_sample=False)
        print(time.perf_counter() - begin, flush=True)
    print(f"{args.contestant}: {trials}", file=sys.stderr)


if __name__ == "__main__":
    main()
