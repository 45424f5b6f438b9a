"""A stand-in for the program: three chains of cells that take a moment and do next to nothing, and their tables.

    python stand_in.py replicate run MATRIX CELL --out DIR

It runs the real `run_cell`. The file `sleep` beside `--out` says for how many seconds a command sleeps, `broken` which
cell's command fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cell_run import run_cell
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.plan import Cell, find

MATRIX: Any = SimpleNamespace(models=(), organisation="none", seeds=())
SCRIPT = """
set -e
echo "$0" >> ../started
sleep "$(cat ../sleep)"
if grep -qx "$0" ../broken; then echo "error: $0 is broken" >&2; exit 2; fi
out=$1; shift
echo "$0" > "$out.part"
cat "$@" /dev/null >> "$out.part"
mv "$out.part" "$out"
"""


def cells(chains: str = "abc") -> list[Cell]:
    """tune -> answer -> judge in each chain, the judge of all but the first against the first one's answers."""
    found = []
    for chain in chains:
        tune, answer, judge = (f"{kind}-{chain}" for kind in ("tune", "answer", "judge"))
        found.append(_cell(tune, "tune"))
        found.append(_cell(answer, "answer", tune))
        found.append(_cell(judge, "judge", *dict.fromkeys((answer, f"answer-{chains[0]}"))))
    return [*found, _cell("all", "submit", *(f"judge-{chain}" for chain in chains))]


def _cell(name: str, kind: str, *needs: str) -> Cell:
    inputs = (f"cells/{need}/result" for need in needs)
    command = ("sh", "-c", SCRIPT, name, f"cells/{name}/result", *inputs)
    return Cell(name, kind, needs, command, (f"cells/{name}/result",), gpus=int(kind == "tune"))


def main() -> int:
    """Runs one cell."""
    parser = argparse.ArgumentParser()
    for name in ("replicate", "run", "matrix", "cell"):
        parser.add_argument(name)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    try:
        return run_cell(Folder(args.out / "stand-in", cells(), args.data), find(cells(), args.cell), MATRIX)
    except UserError as error:
        print(f"implicit-if: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
