"""What the rules cost: against plain greedy decoding, and against decoding as the paper's released code does.

    python benchmarks/rules.py                      # the embedded model on the CPU, about 20 minutes on two cores
    python benchmarks/rules.py --device cuda --pretrained MODEL
    python benchmarks/rules.py --quick              # a minute: does it run?

Every number compares two things measured in this process. All rows decode the same number of tokens: no token ends an
answer. Rules and plain decoding take turns, and each step counts with its shortest time over the repeats, so that
other work on the machine does not decide. Times are CPU seconds of all threads, or wall seconds on a GPU, which is
waited for at every step. Plain is `generate` of transformers without anything of ours. The released code's way has no
key-value cache, decodes one row at a time, and adds the rules in Python loops over a dense vector; it is measured on
`--released-rows` whole rows and counted once for each row of the batch. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

Clock = Callable[[], float]
COLUMNS = (32_768, 262_144)


@dataclass(frozen=True)
class Setting:
    """What is measured: model and rules, and the clock that measures."""

    model: Any
    tokenizer: Any
    rules: Any
    clock: Clock
    tokens: Sequence[int]
    repeats: int

    @property
    def steps(self) -> int:
        return max(self.tokens)

    @property
    def columns(self) -> int:
        """Scores of a position; also an EOS id that no token has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def encode(self, rows: int) -> Any:
        """Prompts of the builtin instruction set, left-padded, on the model's device."""
        from implicit_if.harness.chat_templates import load_template
        from implicit_if.harness.instructions import load_instructions
        from implicit_if.model_wrappers.prompt_batches import Prompts

        texts = itertools.islice(itertools.cycle(load_instructions("builtin").texts().values()), rows)
        prompts = [load_template("tulu").render_prompt(text) for text in texts]
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(self.model.device)
        return Prompts(batch["input_ids"], batch["attention_mask"])

    def step_times(self, decode: Callable[[], object]) -> list[float]:
        """Seconds of each of the first `steps` tokens: from one forward pass's beginning to the next one's."""
        starts: list[float] = []
        handle = self.model.register_forward_pre_hook(lambda *_: starts.append(self.clock()))
        try:
            decode()
        finally:
            handle.remove()
        assert len(starts) == self.steps + 1, f"{len(starts)} forward passes, expected {self.steps + 1}"
        return [b - a for a, b in itertools.pairwise(starts)]


def main() -> None:
    """Measures everything, prints tables and the JSON line."""
    args = parse()
    setting = load(args)
    decoding = {rows: measure_decoding(setting, rows) for rows in args.batches}
    ratios = report_decoding(setting, decoding)
    rows = 8 if 8 in decoding else max(decoding)
    ratios |= report_released(setting, rows, decoding[rows]["rules"], args.released_rows)
    ratios |= report_columns(setting, max(args.batches))
    print(json.dumps({"name": "rules", "ratios": ratios}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", help="a model's folder or hub name (the embedded model)")
    parser.add_argument("--rules", default="paper", help="preset (paper)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--batches", type=numbers, default=[1, 8, 32], metavar="N,N")
    parser.add_argument("--tokens", type=numbers, default=[64, 128, 256], metavar="N,N")
    parser.add_argument("--repeats", type=int, default=3, help="of every decoding (3)")
    parser.add_argument("--released-rows", type=int, default=1, help="rows decoded the released code's way (1)")
    parser.add_argument("--quick", action="store_true", help="batches 1,4, tokens 8,16, one repeat")
    args = parser.parse_args()
    if args.quick:
        args.batches, args.tokens, args.repeats = [1, 4], [8, 16], 1
    return args


def numbers(text: str) -> list[int]:
    return sorted({int(part) for part in text.split(",")})


def load(args: argparse.Namespace) -> Setting:
    """Loads the model, binds the rules, and says where it runs."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from implicit_if.model_wrappers.embedded_model import ensure_embedded_model
    from implicit_if.model_wrappers.rules.presets import load_preset
    from implicit_if.model_wrappers.rules.product import BoundRules

    if args.threads:
        torch.set_num_threads(args.threads)
    name = args.pretrained or str(ensure_embedded_model())
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(name, dtype=args.dtype).to(args.device).eval()
    rules = BoundRules.bind(load_preset(args.rules), tokenizer, [tokenizer.eos_token_id]).to(args.device)

    def wait() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    gpu = model.device.type == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    what = args.pretrained or "the embedded model"
    print(f"{what}, {model.dtype}, {where}, torch {torch.__version__}, rules {args.rules}")
    return Setting(model, tokenizer, rules, wait if gpu else time.process_time, args.tokens, args.repeats)


# ---------------------------------------------------------------------- against plain greedy decoding
def measure_decoding(setting: Setting, rows: int) -> dict[str, list[float]]:
    """Shortest seconds of each step, plain and with rules, and of one call of the processor at each step count."""
    prompts = setting.encode(rows)
    plain: list[list[float]] = []
    rules: list[list[float]] = []
    for number in range(setting.repeats + 1):
        turn = [
            lambda: plain.append(setting.step_times(lambda: plain_decode(setting, prompts))),
            lambda: rules.append(setting.step_times(lambda: rules_decode(setting, prompts))),
        ]
        for measure in turn if number % 2 else turn[::-1]:
            measure()
    best = {"plain": shortest(plain[1:]), "rules": shortest(rules[1:])}  # the first turn warms up
    processor = [processor_time(setting, setting.rules, rows, t, setting.columns) for t in setting.tokens]
    return best | {"processor": processor}


def plain_decode(setting: Setting, prompts: Any) -> None:
    setting.model.generate(
        input_ids=prompts.ids,
        attention_mask=prompts.mask,
        max_length=prompts.ids.shape[1] + setting.steps + 1,
        eos_token_id=[setting.columns],
        pad_token_id=setting.tokenizer.pad_token_id,
        do_sample=False,
        use_cache=True,
    )


def rules_decode(setting: Setting, prompts: Any) -> None:
    import torch
    from transformers import LogitsProcessorList

    from implicit_if.model_wrappers.generate import decode_batch
    from implicit_if.model_wrappers.rules.product import RulesProcessor

    scope = torch.zeros(len(prompts.ids), dtype=torch.long, device=prompts.ids.device)
    decode_batch(
        setting.model,
        setting.tokenizer,
        prompts,
        setting.steps + 1,
        eos_ids=torch.tensor([setting.columns], device=prompts.ids.device),
        processors=lambda width, rows: LogitsProcessorList([RulesProcessor(setting.rules, width, scope[rows])]),
        do_sample=False,
    )


def shortest(runs: Sequence[Sequence[float]]) -> list[float]:
    return [min(times) for times in zip(*runs, strict=True)]


def processor_time(setting: Setting, rules: Any, rows: int, history: int, columns: int, calls: int = 20) -> float:
    """Seconds of one call of the rules' processor over `[rows, columns]` scores after `history` tokens."""
    import torch

    from implicit_if.model_wrappers.rules.product import RulesProcessor

    device = setting.model.device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(columns, (rows, history), generator=generator).to(device)
    scope = torch.zeros(rows, dtype=torch.long, device=device)
    processor = RulesProcessor(rules, 0, scope)
    scores = torch.zeros(rows, columns, device=device)
    times = []
    for _ in range(10):
        start = setting.clock()
        for _ in range(calls):
            processor(ids, scores)
        times.append((setting.clock() - start) / calls)
    return min(times)


def report_decoding(setting: Setting, decoding: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    ratios: dict[str, Any] = {}
    print(f"\n{'rows':>5} {'tokens':>7} {'plain s':>9} {'rules s':>9} {'ratio':>7} {'processor us':>13} {'share':>7}")
    for rows, best in decoding.items():
        goal = 1.02 if rows >= 8 else 1.05
        for tokens, call in zip(setting.tokens, best["processor"], strict=True):
            plain, rules = sum(best["plain"][:tokens]), sum(best["rules"][:tokens])
            share = call * tokens / plain
            print(
                f"{rows:5d} {tokens:7d} {plain:9.3f} {rules:9.3f} {rules / plain:7.4f} {1e6 * call:13.1f} {share:7.2%}"
            )
            name = f"batch{rows}_tokens{tokens}"
            ratios[f"rules_over_plain_{name}"] = ratio(rules / plain, goal, "lower")
            ratios[f"processor_share_{name}"] = ratio(share, round(goal - 1, 2), "lower")
    return ratios


# ---------------------------------------------------------------------- against the released code's way
def report_released(setting: Setting, rows: int, ours: list[float], sample: int) -> dict[str, Any]:
    sample = min(sample, rows)
    prompts = setting.encode(rows)
    unpadded = [ids[mask.bool()][None] for ids, mask in zip(prompts.ids[:sample], prompts.mask, strict=False)]
    times = [setting.step_times(lambda ids=ids: released_decode(setting, ids)) for ids in unpadded]
    print(
        f"\nreleased code's way, {sample} of {rows} rows measured, one at a time, without cache; ours: batch of {rows}"
    )
    print(f"{'tokens':>7} {'released s':>11} {'ours s':>9} {'speed-up':>9}")
    speed_ups = {}
    for tokens in setting.tokens:
        released = rows * sum(sum(row[:tokens]) for row in times) / sample
        speed_ups[tokens] = released / sum(ours[:tokens])
        print(f"{tokens:7d} {released:11.2f} {sum(ours[:tokens]):9.2f} {speed_ups[tokens]:9.1f}")
    first, last = speed_ups[min(speed_ups)], speed_ups[max(speed_ups)]
    ratios = {
        f"speed_up_over_released_batch{rows}_tokens{tokens}": ratio(value, 20 if tokens >= 256 else 1, "higher")
        for tokens, value in speed_ups.items()
    }
    return ratios | {"speed_up_growth_with_length": ratio(last / first, 1, "higher")}


def released_decode(setting: Setting, ids: Any) -> None:
    """Greedy decoding of one row that runs the whole text through the model for every token."""
    import torch

    listed = [o for _, options in setting.rules.calls for o in options.values() if hasattr(o, "ids")]
    weights = [(o.ids.tolist(), o.weights.tolist()) for o in listed]
    start = ids.shape[1]
    with torch.no_grad():
        for i in range(setting.steps + 1):
            base = setting.model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
            rules = torch.zeros_like(base)
            for token in setting.rules.eos_ids.tolist():
                rules[token] += 15 * i / 250 if i < 250 else 0
            for group, shifts in weights:
                for token, shift in zip(group, shifts, strict=True):
                    rules[token] += shift
            for token in set(ids[0, start:].tolist()):
                rules[token] -= 1.5
            token = (base + rules.log_softmax(-1)).argmax()
            ids = torch.cat([ids, token.reshape(1, 1)], dim=1)


# ---------------------------------------------------------------------- against the vocabulary
def report_columns(setting: Setting, rows: int) -> dict[str, Any]:
    turns = [[processor_time(setting, spread(setting, v), rows, 128, v) for v in COLUMNS] for _ in range(3)]
    small, large = shortest(turns)
    print()
    for columns, seconds in zip(COLUMNS, (small, large), strict=True):
        print(f"processor at {columns:,} columns, {rows} rows: {1e6 * seconds:.1f} us")
    return {"processor_262k_over_32k_columns": ratio(large / small, 2, "lower")}


def spread(setting: Setting, columns: int) -> Any:
    """The same rules on ids that lie all over the columns."""
    import torch

    rules = setting.rules
    own = rules.touched(torch.empty(0, dtype=torch.long, device=rules.eos_ids.device))
    places = torch.linspace(0, columns - 1, len(own), device=own.device).long()
    small = rules.compact(own)
    calls = tuple(
        (name, {k: replace(o, ids=places[o.ids]) if hasattr(o, "ids") else o for k, o in options.items()})
        for name, options in small.calls
    )
    return replace(small, eos_ids=places[small.eos_ids], calls=calls)


def ratio(value: float, goal: float, better: str) -> dict[str, Any]:
    return {"value": round(value, 4), "goal": goal, "better": better}


if __name__ == "__main__":
    main()
