"""The control answers of `harness/controls.py` as outputs files, for the control rows of a board.

    python tools/make_controls.py controls --instructions builtin --two rules.json response.json

Each is an outputs file to be judged and submitted with `--system control` like any system's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from implicit_if.harness.controls import CONTROLS, control_answers
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import Output, OutputsMeta, load_outputs, save_outputs


def main() -> None:
    """Writes one file a control."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--instructions", default="builtin")
    parser.add_argument(
        "--two",
        type=Path,
        nargs=2,
        required=True,
        metavar="OUTPUTS",
        help="of two systems",
    )
    args = parser.parse_args()
    instructions = load_instructions(args.instructions)
    two = tuple({o.instruction_id: o.output for o in load_outputs(path)} for path in args.two)
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in CONTROLS:
        by_id = control_answers(name, instructions.texts(), two)
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
