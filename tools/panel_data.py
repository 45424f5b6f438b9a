"""The panel: a blind rater's verdicts on committed answers to builtin instructions, joined with the answers' texts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.outputs import load_outputs

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PanelPair:
    """A system's answer and the reference's to one instruction.

    Attributes:
        preferences: The rater's, for the system, one a verdict.
        system_attempts, reference_attempts: Whether the answer attempts the instruction, 0 or 1, one a verdict.
    """

    instruction_id: str
    instruction: str
    system: str
    answer: str
    reference: str
    reference_answer: str
    preferences: tuple[float, ...]
    system_attempts: tuple[int, ...]
    reference_attempts: tuple[int, ...]

    @property
    def preference(self) -> float:
        return sum(self.preferences) / len(self.preferences)


@dataclass(frozen=True)
class PanelAnswer:
    """An answer with the mean of the rater's verdicts on whether it attempts its instruction."""

    instruction_id: str
    instruction: str
    system: str
    answer: str
    attempts: float


def read_panel(path: Path) -> list[PanelPair]:
    """The pairs of a panel file, in its order; answers are found by their hash among all committed ones.

    Raises:
        UserError: If an answer is not among them.
    """
    instructions = load_instructions("builtin").texts()
    answers = dict(_committed_answers())
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts = [answers.get((row["instruction_id"], row[f"{side}_sha256"])) for side in ("system", "reference")]
        if None in texts:
            raise UserError(f"{path}: no committed answer has the hash that {row['system']} has in it: {line[:200]}")
        verdicts = row["verdicts"]
        pairs.append(
            PanelPair(
                instruction_id=row["instruction_id"],
                instruction=instructions[row["instruction_id"]],
                system=row["system"],
                answer=str(texts[0]),
                reference=row["reference"],
                reference_answer=str(texts[1]),
                preferences=tuple(v["preference"] for v in verdicts),
                system_attempts=tuple(v["system_attempts"] for v in verdicts),
                reference_attempts=tuple(v["reference_attempts"] for v in verdicts),
            )
        )
    return pairs


def panel_answers(pairs: list[PanelPair]) -> list[PanelAnswer]:
    """Every answer once; the reference's verdicts of all its pairs are averaged."""
    verdicts: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for p in pairs:
        verdicts[p.instruction_id, p.instruction, p.system, p.answer] += p.system_attempts
        verdicts[p.instruction_id, p.instruction, p.reference, p.reference_answer] += p.reference_attempts
    return [PanelAnswer(*key, sum(found) / len(found)) for key, found in verdicts.items()]


def _committed_answers() -> Iterator[tuple[tuple[str, str], str]]:
    """Answers by instruction id and hash: of the submissions, also archived ones, and of the references."""
    submissions = sorted((ROOT / "leaderboards").rglob("outputs.jsonl"))
    references = sorted((ROOT / "harness" / "references").rglob("builtin@*.json"))
    for path in (*submissions, *(p for p in references if not p.name.endswith(".meta.json"))):
        for output in load_outputs(path):
            yield (output.instruction_id, output.sha256), output.output
