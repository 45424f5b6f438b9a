"""A stand-in for the program: three chains of cells that take a moment and do next to nothing, and their tables.

    python stand_in.py replicate run MATRIX CELL --out DIR
    python stand_in.py launch local|snakemake|sbatch --out DIR

It runs the real `run_cell`. The file `sleep` beside `--out` says for how many seconds a command sleeps, `broken` which
cell's command fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate import slurm
from implicit_if.harness.replicate.cell_run import run_cell
from implicit_if.harness.replicate.cells import Cell, find
from implicit_if.harness.replicate.launch import Launch, run_in_order
from implicit_if.harness.replicate.markers import Folder
from implicit_if.harness.replicate.snakemake import run_snakemake

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


def cells(chains: str = "") -> list[Cell]:
    """tune -> answer -> judge in each chain, which are those of `$CHAINS` or three.

    The judge of all but the first chain judges against the first one's answers.
    """
    found, chains = [], chains or os.environ.get("CHAINS", "abc")
    for chain in chains:
        tune, answer, judge = (f"{kind}-{chain}" for kind in ("tune", "answer", "judge"))
        found.append(_cell(tune, "tune"))
        found.append(_cell(answer, "reply", tune))
        found.append(_cell(judge, "judge", *dict.fromkeys((answer, f"answer-{chains[0]}"))))
    return [*found, _cell("all", "submit", *(f"judge-{chain}" for chain in chains))]


def _cell(name: str, kind: str, *needs: str) -> Cell:
    inputs = (f"cells/{need}/result" for need in needs)
    command = ("sh", "-c", SCRIPT, name, f"cells/{name}/result", *inputs)
    return Cell(name, kind, needs, command, (f"cells/{name}/result",), gpus=int(kind == "tune"))


def launch(out: Path, engine: str) -> int:
    """Runs all cells by a launcher."""
    place = Folder(out / "stand-in", cells())
    found = Launch("stand-in", cells(), out, place, (sys.executable, __file__))
    if engine == "local":
        return run_in_order(found)
    if engine == "snakemake":
        return run_snakemake(found, cores=2, gpus=1, api=1)
    status = subprocess.run(["sh", str(slurm.write(found))], check=False).returncode  # sbatch is a stand-in, too
    return status or found.report()


def main() -> int:
    """Runs one cell, or all by a launcher."""
    if sys.argv[1] == "launch":
        return launch(Path(sys.argv[4]), sys.argv[2])
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+", help="replicate run MATRIX CELL, or replicate status MATRIX")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    place = Folder(args.out / "stand-in", cells(), args.data)
    if args.words[1] == "status":
        return Launch("stand-in", cells(), args.out, place).report()
    try:
        return run_cell(place, find(cells(), args.words[3]), MATRIX)
    except UserError as error:
        print(f"implicit-if: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
