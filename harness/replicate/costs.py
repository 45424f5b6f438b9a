"""What a cell takes: hours, memory, disk, judge calls and their cost, computed from measured inputs."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS = {
    "instruction": 645_458,  # those of LIMA, GSM8K and MBPP: measured with Gemma's tokenizer (docs/tuning.md)
    "response": 588_725,
    "mbpp": 38_404,
    "gsm": 193_540,
    "recipes": 260_000,  # these three: estimated, 4 characters a token, of a game 2
    "poetry": 130_000,
    "chess": 180_000,
}
"""Tokens of one epoch."""
LIMA_SHORT = 300_000
"""Tokens of the 786 rows of LIMA that have no more than 768 (docs/tuning.md)."""
GPU_FLOPS = 350e12
"""Floating-point operations that an H100 does in a second of tuning, an assumption: 35 % of its 989e12 in bfloat16."""
CPU_TOKENS = 195 * 2.68e8
"""Tokens a second times parameters on two CPU cores, with adapters on weights in bfloat16 (docs/tuning.md)."""
MEASURED_FLOPS = 6 * 2.68e8 * 41_000
"""What an H200 did, measured: five trainings of the 270M model made 41,000 tokens a second in all (docs/tuning.md)."""
OFFLOAD = 2.0
"""How much longer a step takes with weights and moments on the host, an assumption (docs/replicate.md)."""
GPU_BANDWIDTH = 3.35e12
"""Bytes that an H100 reads in a second."""
ANSWER_BATCH = 32
CPU_STEP = 0.4 / 2.68e8
"""Seconds a parameter in which two CPU cores decode a token for each answer of a batch, in float32."""
CALL_TOKENS = (1_100, 1)
"""Tokens that a judge reads and writes in one call on AlpacaEval, roughly."""


@dataclass(frozen=True)
class Work:
    """What a cell does, as far as its costs depend on it.

    Attributes:
        parameters: Of the model.
        adapters: Whether only adapters are trained.
        gpus: How many it gets; 0 is two CPU cores.
        memory_gb: Memory of the host that the matrix asks for; 0 if it does not say.
        tokens: Trained tokens, over all epochs.
        models: Finished models that stay on the disk.
        answers: Answers that are generated.
        new_tokens: The most tokens of an answer.
        verdicts: Times the judge is asked.
        judge: The judge, where it is asked.
        paid: Whether the judge is behind an API.
    """

    parameters: float = 0
    adapters: bool = False
    gpus: int = 0
    memory_gb: float = 0
    tokens: float = 0
    models: int = 0
    answers: int = 0
    new_tokens: int = 0
    verdicts: int = 0
    judge: str = ""
    paid: bool = False


@dataclass(frozen=True)
class Costs:
    """What a cell takes.

    Attributes:
        hours: Of the machine, all its GPUs together counted once.
        memory_gb: Of the host.
        disk_gb: The most that it needs while it runs.
        judge_calls: Questions to a judge.
        judge_cost: US dollars; None if the judge's prices are not known.
    """

    hours: float
    memory_gb: float
    disk_gb: float
    judge_calls: int
    judge_cost: float | None


def costs(work: Work) -> Costs:
    """The costs of a cell's work."""
    weights = work.parameters * 4 / 1e9
    hours, memory, disk = 0.005, 2.0, 0.01
    if work.tokens:
        hours += 6 * work.parameters * work.tokens / (GPU_FLOPS * work.gpus) / 3600 if work.gpus else 0
        hours += 0 if work.gpus else work.tokens * work.parameters / CPU_TOKENS / 3600
        memory += weights if work.gpus else 4 * weights
        disk += weights * (1 if work.adapters else 3) + work.models * weights
    if work.answers:
        steps = work.answers * work.new_tokens / ANSWER_BATCH
        second = work.parameters * 2 / GPU_BANDWIDTH * 2 if work.gpus else CPU_STEP * work.parameters
        hours += steps * second / 3600
        memory += weights
    if work.verdicts:
        hours += work.verdicts * (0.1 if work.gpus or work.paid else 0.02) / 3600
        memory += 2
    return Costs(round(hours, 3), round(work.memory_gb or memory, 1), round(disk, 2), work.verdicts, _price(work))


def _price(work: Work) -> float | None:
    if not work.paid:
        return 0.0
    from implicit_if.harness.judging.api.options import price_list
    from implicit_if.harness.judging.registry import resolve_spec

    known = price_list()[1].get(resolve_spec(work.judge).argument or "")
    return None if known is None else judge_price(work.verdicts, known)


def judge_price(calls: int, prices: tuple[float, float]) -> float:
    """US dollars of so many calls, by dollars for a million tokens read and written; see `CALL_TOKENS`."""
    return round(calls * (CALL_TOKENS[0] * prices[0] + CALL_TOKENS[1] * prices[1]) / 1e6, 4)
