"""Turns a tuned model's stored answers into a named reference, without instruction texts.

    lm_eval --model rules_poe --model_args pretrained=tuned/instruction,rules=none --tasks alpaca_winrate \\
      --gen_kwargs max_gen_toks=256 --metadata instructions=builtin reference=base save=answers
    python tools/make_reference.py answers/outputs.json --name gemma-3-270m/instruction --model tuned/instruction \\
      --base embedded --base google/gemma-3-270m
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import OutputsMeta, load_meta, load_outputs
from implicit_if.harness.provenance import load_provenance
from implicit_if.harness.references import FOLDER, load_reference, store_answers


def main() -> None:
    """Writes the reference and reads it back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--name", required=True, help="<base model>/<system>")
    parser.add_argument("--model", type=Path, required=True, help="the tuned model's folder")
    parser.add_argument("--base", action="append", required=True, help="a name of the base model; may be repeated")
    parser.add_argument("--instructions", default="builtin")
    args = parser.parse_args()
    instructions = load_instructions(args.instructions)
    by_id = {output.instruction_id: output for output in load_outputs(args.outputs)}
    outputs = [by_id[item.id].model_copy(update={"generator": args.name}) for item in instructions.items]
    made = load_meta(args.outputs)
    assert made is not None, f"{args.outputs}: no sidecar"
    meta = OutputsMeta(
        generator=args.name,
        instruction_set=instructions.name,
        instruction_revision=instructions.revision,
        model={"bases": args.base, "tuning": provenance(args.model), "dtype": made.model["model_dtype"]},
        template=made.template,
        generation=made.generation,
        versions=made.versions,
    )
    target = FOLDER / args.name / f"{instructions.signature}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    store_answers(target, outputs, instructions, meta)
    assert [o.sha256 for o in load_reference(args.name, instructions)] == [o.sha256 for o in outputs]
    print(target)


def provenance(model: Path) -> dict[str, Any]:
    """What is worth telling of a model's tuning; no path of this machine."""
    found = load_provenance(model)
    if found is None:
        raise UserError(f"{model}: expected a model made by `tune`.")
    data = {key: value for key, value in found.data.items() if key != "origin"}
    return {**found.model_dump(include={"recipe", "identity", "seed", "training", "versions"}), "data": data}


if __name__ == "__main__":
    main()
