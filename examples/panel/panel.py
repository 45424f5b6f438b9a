"""A rater's verdicts scored: attempt rate and win rate of each system, and agreement with other judges.

    python examples/panel/panel.py FOLDER

FOLDER holds the answers: every outputs.jsonl below it is tried, and those that the verdicts name by sha256 are taken.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

import implicit_if as iif
from implicit_if.harness.judging.sheets.read import read_sheet
from implicit_if.harness.judging.sheets.verdicts import attempts_by_answer

VERDICTS = Path(__file__).with_name("panel_builtin.jsonl")
RATER = {"rater": "panel", "kind": "language-model"}
REFERENCE = "instruction"


def main(folder: str) -> int:
    rows = read_sheet(VERDICTS)
    attempts = attempts_by_answer(rows)
    judged: dict[str, dict[str, tuple[str, str]]] = {}  # by system and instruction, the hashes of both answers
    for row in rows:
        instruction, *hashes = row.pair.split(":")
        judged.setdefault(row.system, {})[instruction] = (hashes[0], hashes[1])
    ids = {instruction for pairs in judged.values() for instruction in pairs}
    reference = answers(folder, {i: hashes[1] for pairs in judged.values() for i, hashes in pairs.items()})
    table = [[f"{REFERENCE} (reference)", attempt_rate(reference, ids, attempts), "50.0", f"{len(ids)} of 80"]]
    with tempfile.TemporaryDirectory() as store:
        for system, pairs in judged.items():
            outputs = [o for o in answers(folder, {i: h[0] for i, h in pairs.items()}) if o.instruction_id in ids]
            run = iif.judge(
                outputs,
                reference,
                judge=f"sheet:{VERDICTS}",
                system=system,
                instructions=iif.load_instructions("builtin"),
                annotations=Path(store) / f"{system}.jsonl",
                allow_missing=True,
                **RATER,
            )
            score = run.scores["win_rate"]
            coverage = f"{score.n_judged} of {score.n_expected}"
            table.append([system, attempt_rate(outputs, ids, attempts), f"{score.value:.1f}", coverage])
    print(f"judged by {run.judgement.judge}")
    print(tabulate(table, ["system", "attempts %", "win rate %", "instructions"], disable_numparse=True))
    files = sorted(Path(folder).rglob("annotations.jsonl"))
    for one in iif.rater_agreement([f"panel={VERDICTS}", *files]):
        if one.first == "panel":
            who = "with itself, in the other order" if one.second == "panel" else f"with {one.second}"
            print(
                f"{who}: {one.same.of} pairs, same verdict {one.same.percent:.1f} %, kappa {one.kappa:.2f}, "
                f"correlation {one.correlation:.2f}, same winner {one.winner.n} of {one.winner.of} decided"
            )
    return 0


def answers(folder: str, hashes: dict[str, str]) -> list[iif.Output]:
    """The answers of the one file below the folder that holds all of these, by instruction and sha256."""
    for path in sorted(Path(folder).rglob("outputs.jsonl")):
        found = {o.instruction_id: o for o in iif.load_outputs(path)}
        if all(i in found and found[i].sha256 == sha256 for i, sha256 in hashes.items()):
            return list(found.values())
    raise SystemExit(f"{folder}: no outputs.jsonl holds these {len(hashes)} answers. Give the folder that has them.")


def attempt_rate(outputs: list[iif.Output], ids: set[str], attempts: dict[tuple[str, str], float]) -> str:
    """Percent of the answers that the rater calls an attempt; half of its verdicts on one are enough."""
    said = [attempts[o.instruction_id, o.sha256] >= 0.5 for o in outputs if o.instruction_id in ids]
    return f"{100 * sum(said) / len(said):.1f}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
