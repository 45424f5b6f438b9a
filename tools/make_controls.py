"""Answers that deserve no win, for the control rows of a board: empty, constant, echo, and the longer of two systems'.

    python tools/make_controls.py controls --instructions builtin --two rules.json response.json

Each is an outputs file to be judged and submitted with `--system control` like any system's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import Output, OutputsMeta, load_outputs, save_outputs

CONSTANT = (
    "Thank you for your question. There are several things to consider here. First, it helps to look at the situation "
    "as a whole. Second, it is worth taking each part in turn. In short, the best answer depends on what you need."
)


def main() -> None:
    """Writes the four files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--instructions", default="builtin")
    parser.add_argument("--two", type=Path, nargs=2, required=True, metavar="OUTPUTS", help="for longest_of_two")
    args = parser.parse_args()
    instructions = load_instructions(args.instructions)
    two = [{o.instruction_id: o.output for o in load_outputs(path)} for path in args.two]
    answers = {
        "empty": {item.id: "" for item in instructions.items},
        "constant": {item.id: CONSTANT for item in instructions.items},
        "echo": {item.id: item.text for item in instructions.items},
        "longest_of_two": {item.id: max((side[item.id] for side in two), key=len) for item in instructions.items},
    }
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, by_id in answers.items():
        outputs = [
            Output(
                instruction_id=item.id,
                instruction=item.text,
                output=by_id[item.id],
                generator=f"control:{name}",
                dataset=instructions.name,
                finish_reason="eos",
            )
            for item in instructions.items
        ]
        meta = OutputsMeta(
            generator=f"control:{name}",
            instruction_set=instructions.name,
            instruction_revision=instructions.revision,
        )
        save_outputs(args.folder / f"{name}.json", outputs, meta)


if __name__ == "__main__":
    main()
