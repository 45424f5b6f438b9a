"""What sharing prompts saves when every response is scored after every instruction.

    python benchmarks/response_ranking.py             # the embedded model on the CPU, about six minutes on a core
    python benchmarks/response_ranking.py --device cuda --pretrained MODEL
    python benchmarks/response_ranking.py --quick     # a minute: does it run?

Alone: one forward pass for prompt and response, as a script with plain transformers does it (logits of all positions,
`log_softmax`, sum). Shared: `log_probs` of the wrapper, all responses after one prompt. Both take turns on the same
prompts, and count CPU seconds of all threads, or wall seconds on a GPU. Alone is measured on some responses a prompt,
spread over the set, and counted for all; the largest difference of the two scores is printed (float32 `log_softmax`
over 262,144 columns is itself off by some 1e-4). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any


def main() -> None:
    """Measures, prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", help="a model's folder or hub name (the embedded model)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-size", type=int, default=32, help="rows at once (32)")
    parser.add_argument("--pairs", default="builtin", help="as for the command (builtin, n = 100)")
    parser.add_argument("--prompts", type=int, default=8, help="prompts measured, spread over the set (8)")
    parser.add_argument("--alone", type=int, default=10, help="responses a prompt that are scored alone (10)")
    parser.add_argument("--quick", action="store_true", help="2 prompts, 4 responses alone")
    args = parser.parse_args()
    if args.quick:
        args.prompts, args.alone = 2, 4
    measured = measure(args)
    ratio = measured["alone"] / measured["shared"]
    print(f"{'':24}ms a pair")
    for name in ("alone", "shared"):
        print(f"{name:24}{1000 * measured[name]:9.1f}")
    print(f"alone over shared {ratio:.1f}; largest difference of two scores {measured['difference']:.1e}")
    ratios = {"alone over shared": {"value": round(ratio, 2), "goal": 5, "better": "higher"}}
    print(json.dumps({"name": "response_ranking", "ratios": ratios}))


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds a pair of both ways, and their largest difference."""
    import torch

    from implicit_if.harness.analysis.response_pairs import load_pairs
    from implicit_if.harness.chat_templates import load_template
    from implicit_if.model_wrappers.rules_poe import RulesPoE

    lm = RulesPoE(args.pretrained, rules=None, device=args.device, dtype=args.dtype, batch_size=args.batch_size)
    pairs, template = load_pairs(args.pairs).items, load_template("tulu")
    responses = [pair.response for pair in pairs]
    step = max(1, len(pairs) // args.prompts)
    prompts = [template.render_prompt(pair.instruction) for pair in pairs[::step][: args.prompts]]
    some = range(0, len(pairs), max(1, len(pairs) // args.alone))[: args.alone]

    def clock() -> float:
        if lm.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    lm.log_probs(prompts[0], responses[:10])  # first calls check the model and warm it up
    alone(lm, prompts[0], responses[0])
    seconds = {"alone": 0.0, "shared": 0.0}
    difference = 0.0
    for prompt in prompts:
        start = clock()
        shared = lm.log_probs(prompt, responses)
        seconds["shared"] += clock() - start
        for j in some:
            start = clock()
            score = alone(lm, prompt, responses[j])
            seconds["alone"] += clock() - start
            difference = max(difference, abs(score - shared[j]))
    return {
        "alone": seconds["alone"] / (len(prompts) * len(some)),
        "shared": seconds["shared"] / (len(prompts) * len(responses)),
        "difference": difference,
    }


def alone(lm: Any, prompt: str, response: str) -> float:
    """One pair as a plain script scores it."""
    import torch

    start = len(lm.tokenizer(prompt)["input_ids"])
    ids = torch.tensor([lm.tokenizer(prompt + response)["input_ids"]], device=lm.device)
    with torch.no_grad():
        scores = lm.model(input_ids=ids).logits.float().log_softmax(-1)
    return float(scores[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum())


if __name__ == "__main__":
    main()
