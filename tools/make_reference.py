"""Turns a tuned model's answers into a named reference, without instruction texts.

From what `tools/tune_siblings.py` kept, to each of the instruction sets:

    python tools/make_reference.py answers/instruction_5_1e-4_1.json --training-data lima_data.jsonl \\
      --name gemma-3-270m/instruction-full-s1 --supersedes gemma-3-270m/instruction \\
      --base embedded --base google/gemma-3-270m --alpaca-eval alpaca_eval.json

Or from the task's `save=` folder and the tuned model's:

    python tools/make_reference.py answers/outputs.json --training-data lima_data.jsonl --model tuned/instruction \\
      --name gemma-3-270m/instruction --base embedded --base google/gemma-3-270m

What an answer recites of the training data is withheld: its licence may forbid passing it on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import SHIPPED, InstructionSet, load_instructions
from implicit_if.harness.outputs import Output, OutputsMeta, load_meta, load_outputs
from implicit_if.harness.provenance import PROVENANCE, load_provenance
from implicit_if.harness.references import FOLDER, load_reference, store_answers
from implicit_if.harness.references.recitation import TrainingTexts
from implicit_if.harness.storage import read_rows

Answers = tuple[InstructionSet, list[Output], OutputsMeta]


def main() -> None:
    """Writes the reference and reads it back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--training-data", type=Path, required=True, help="the rows the model was tuned on")
    parser.add_argument("--name", required=True, help="<base model>/<system>")
    parser.add_argument("--model", type=Path, help="the tuned model's folder")
    parser.add_argument("--base", action="append", required=True, help="a name of the base model; may be repeated")
    parser.add_argument("--instructions", default="builtin", help="what outputs.json answers")
    parser.add_argument("--alpaca-eval", default="alpaca_eval", help="AlpacaEval's instructions, if the hub is far")
    parser.add_argument("--supersedes", help="the reference that this one takes the place of")
    args = parser.parse_args()
    rows = [row for _, row in read_rows(args.training_data, "the rows the model was tuned on")]
    training = TrainingTexts(texts_of(rows))
    for instructions, answers, meta in from_model(args) if args.model else from_cell(args):
        outputs, meta.model["recited_passages_withheld"] = training.withhold_from(answers)
        if args.supersedes:
            meta.model["supersedes"] = args.supersedes
        target = FOLDER / args.name / f"{instructions.signature}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        store_answers(target, outputs, instructions, meta)
        assert [o.sha256 for o in load_reference(args.name, instructions)] == [o.sha256 for o in outputs]
        print(target)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)


def from_model(args: argparse.Namespace) -> Iterator[Answers]:
    """What the task saved."""
    instructions = load_instructions(args.instructions)
    by_id = {output.instruction_id: output for output in load_outputs(args.answers)}
    outputs = [by_id[item.id].model_copy(update={"generator": args.name}) for item in instructions.items]
    made = load_meta(args.answers)
    assert made is not None, f"{args.answers}: no sidecar"
    model = {"bases": args.base, "tuning": provenance(args.model), "dtype": made.model["model_dtype"]}
    yield instructions, outputs, made.model_copy(update={"generator": args.name, "model": model})


def from_cell(args: argparse.Namespace) -> Iterator[Answers]:
    """What `tune_siblings` kept of a cell."""
    cell = json.loads(args.answers.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        Path(folder, PROVENANCE).write_text(cell["files"][PROVENANCE], encoding="utf-8")
        tuning = provenance(Path(folder))
    for instructions in map(load_instructions, (*SHIPPED, args.alpaca_eval)):
        rows = {row[0]: row[1:] for row in cell["answers"].get(instructions.signature, [])}
        if not rows:
            continue
        outputs = [
            Output(
                instruction_id=item.id,
                instruction=item.text,
                output=rows[item.id][0],
                generator=args.name,
                dataset=item.dataset,
                finish_reason=rows[item.id][1],
                n_tokens=rows[item.id][2],
            )
            for item in instructions.items
        ]
        meta = OutputsMeta(
            generator=args.name,
            instruction_set=instructions.name,
            instruction_revision=instructions.revision,
            model={"bases": args.base, "tuning": tuning, "dtype": "float32", "model_device": cell["device"]},
            template=cell["template"],
            generation={"until": [], "do_sample": False, "max_gen_toks": 256},
            versions=cell["versions"],
        )
        yield instructions, outputs, meta


def provenance(model: Path) -> dict[str, Any]:
    """What is worth telling of a model's tuning; no path of this machine."""
    found = load_provenance(model)
    if found is None:
        raise UserError(f"{model}: expected a model made by `tune`.")
    data = {key: value for key, value in found.data.items() if key != "origin"}
    return {**found.model_dump(include={"recipe", "identity", "seed", "training", "versions"}), "data": data}


if __name__ == "__main__":
    main()
