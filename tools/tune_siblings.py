"""Tunes the embedded base model in many ways on one GPU, and keeps the answers, not the weights.

    python tools/tune_siblings.py DATA answers --workers 4 --more alpaca_eval \\
      --cells instruction:5:1e-4:1 response:5:1e-4:1 gsm:7:1e-4:1 mbpp:15:1e-4:1 recipes:20:1e-4:1 gsm:3:2e-4:1:lora

A cell is recipe:epochs:learning rate:seed, with `:lora` behind it for adapters, which are kept. DATA holds the rows:
lima_data.jsonl, gsm8k_train_first1000.jsonl, mbpp_train.jsonl, recipes.jsonl, poetry.jsonl, chess.jsonl. Every cell is
the profile gemma-3-270m/full and answers greedily in float32, at most 256 tokens. `answers/<cell>.json` appears when a
cell is whole; the same command goes on where it was stopped. The cells above but `recipes` took 5.5 minutes on an H200.
Without a GPU it works, too, in days.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

FILES = {
    "instruction": "lima_data.jsonl",
    "response": "lima_data.jsonl",
    "gsm": "gsm8k_train_first1000.jsonl",
    "mbpp": "mbpp_train.jsonl",
    "recipes": "recipes.jsonl",
    "poetry": "poetry.jsonl",
    "chess": "chess.jsonl",
}
NEW_TOKENS = 256
KEPT = ("training_log.jsonl", "recipe.yaml", "tuning.json")


def main() -> None:
    """Hands the cells to the workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", nargs="+", required=True)
    parser.add_argument("--instructions", nargs="+", default=["validation", "builtin"], help="sets, or files")
    parser.add_argument("--more", nargs="*", default=[], help="sets that cells without adapters answer, too")
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--work", type=Path, default=Path("siblings.work"), help="models; deleted when answered")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=int, default=256, help="answers at once")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    todo: Any = context.Queue()
    for cell in args.cells:
        todo.put(cell)
    workers = [context.Process(target=work, args=(args, todo)) for _ in range(args.workers)]
    for _ in workers:
        todo.put(None)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    missing = [cell for cell in args.cells if not _file(args.out, cell).exists()]
    print(f"{len(args.cells) - len(missing)} of {len(args.cells)} cells are whole", *missing, file=sys.stderr)
    sys.exit(bool(missing))


def work(args: argparse.Namespace, todo: Any) -> None:
    """Does cells until none is left; one that fails is told, and leaves the others."""
    while (cell := todo.get()) is not None:
        if _file(args.out, cell).exists():
            continue
        start = time.monotonic()
        try:
            do_cell(cell, args)
        except Exception:  # noqa: BLE001  (the other cells go on)
            traceback.print_exc()
        print(f"== {cell}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def do_cell(cell: str, args: argparse.Namespace) -> None:
    """Tunes, answers, writes the cell's file, and deletes the model."""
    from implicit_if.harness.storage import write_json
    from implicit_if.harness.tuning.recipe import load_recipe
    from implicit_if.harness.tuning.runner import tune

    name, epochs, rate, seed, *lora = cell.split(":")
    overrides = [f"train.epochs={epochs}", f"train.learning_rate={rate}", "train.save_steps=1000000"]
    if lora:
        overrides.append("train.lora.r=16")
    recipe = load_recipe(
        name,
        [*overrides, *args.overrides],
        base=args.base,
        profile="gemma-3-270m/full",
        data=args.data / FILES[name],
        seed=int(seed),
    )
    folder = args.work / cell.replace(":", "_")
    start = time.monotonic()
    tune(recipe, folder, keep_checkpoints=bool(lora))
    trained = time.monotonic()
    sets = [*args.instructions, *([] if lora else args.more)]
    found = {**answer(folder, sets, args.rows), "files": {name: (folder / name).read_text() for name in KEPT}}
    found["seconds"] = {"tuning": trained - start, "answers": time.monotonic() - trained}
    if lora:
        for path in Path(f"{folder}.work").rglob("adapter_model.safetensors"):
            shutil.copy(path, args.out / f"{folder.name}.safetensors")
    write_json(_file(args.out, cell), found)
    shutil.rmtree(folder)
    shutil.rmtree(f"{folder}.work", ignore_errors=True)


def answer(folder: Path, sets: list[str], rows: int) -> dict[str, Any]:
    """Greedy answers to instruction sets: `[id, text, finish reason, tokens]` by set."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from implicit_if.harness.chat_templates import load_template
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.outputs import package_versions
    from implicit_if.model_wrappers.generate import decode_batch
    from implicit_if.model_wrappers.prompt_batches import left_padded

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).to(device).eval()
    template = load_template("tulu")
    loaded = [load_instructions(name) for name in sets]
    items = [(n, item.id, template.render_prompt(item.text)) for n, own in enumerate(loaded) for item in own.items]
    items.sort(key=lambda item: -len(item[2]))
    answers: list[list[list[Any]]] = [[] for _ in loaded]
    with torch.inference_mode():
        for at in range(0, len(items), rows):
            batch = items[at : at + rows]
            prompts = left_padded([tokenizer(text)["input_ids"] for _, _, text in batch], tokenizer.pad_token_id)
            prompts.ids, prompts.mask = prompts.ids.to(device), prompts.mask.to(device)
            eos = torch.tensor([tokenizer.eos_token_id], device=device)
            done = decode_batch(model, tokenizer, prompts, NEW_TOKENS, eos_ids=eos, do_sample=False)
            for (n, key, _), text in zip(batch, done, strict=True):
                answers[n].append([key, str(text), text.finish_reason, text.n_tokens])
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return {
        "answers": {own.signature: rows for own, rows in zip(loaded, answers, strict=True)},
        "template": {"name": template.name, "sha256": template.sha256},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": package_versions(),
    }


def _file(out: Path, cell: str) -> Path:
    return out / f"{cell.replace(':', '_')}.json"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
