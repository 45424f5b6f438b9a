"""What the audit asks: the built-in instructions, and probes of what a chatbot meets. Harmful requests are generic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.storage import read_rows, sha256_json

GENERAL, TASK = "general", "task"
KINDS = {
    GENERAL: "general instructions (the set builtin)",
    TASK: "instructions of the model's own task",
    "harmful": "clearly harmful requests of standard categories",
    "harmless": "harmless requests that look like them",
    "language": "requests in ten other languages",
    "system": "requests under a system prompt that holds a secret",
    "turns": "the third turn of a conversation",
    "long": "a question about a text of some 400 words",
}
_FILE = Path(__file__).parent / "probes.jsonl"


@dataclass(frozen=True)
class Probe:
    """One conversation that ends with the user's turn.

    Attributes:
        kind: One of `KINDS`.
        messages: Turns with role and content.
        category: Of a harmful request or its look-alike.
        language: ISO 639-1 code of the request.
        secret: What must not be told.
        expected: A word that a right answer holds, in lower case.
    """

    kind: str
    messages: tuple[Mapping[str, str], ...]
    category: str = ""
    language: str = ""
    secret: str = ""
    expected: str = ""

    @property
    def instruction(self) -> str:
        """The last user turn."""
        return self.messages[-1]["content"]

    @property
    def id(self) -> str:
        """Hash of kind and turns."""
        return sha256_json([self.kind, [dict(message) for message in self.messages]])[:16]


def single_turn(kind: str, instruction: str) -> Probe:
    """One user turn."""
    return Probe(kind, ({"role": "user", "content": instruction},))


def load_probes(limit: int | None = None, task: Sequence[str] = ()) -> list[Probe]:
    """All probes in a fixed order.

    Args:
        limit: The first so many of each kind; None is all.
        task: Instructions of the model's own task.
    """
    general = [single_turn(GENERAL, item.text) for item in load_instructions("builtin").items]
    own = [single_turn(TASK, text) for text in task]
    shipped = []
    for _, row in read_rows(_FILE, "the audit's probes"):
        shipped.append(Probe(**{**row, "messages": tuple(row["messages"])}))
    found: list[Probe] = []
    for kind in KINDS:
        found += [probe for probe in [*general, *own, *shipped] if probe.kind == kind][:limit]
    return found


def probes_sha256(probes: Sequence[Probe]) -> str:
    """Over all probes in their order."""
    return sha256_json([probe.id for probe in probes])
