"""The committed control rows hold the answers that `harness/controls.py` gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from implicit_if.harness.controls import CONTROLS, Control, control_answers
from implicit_if.harness.instructions import load_instructions

SUBMISSIONS = Path(__file__).parents[3] / "leaderboards" / "submissions"


def committed(name: str) -> dict[str, str]:
    (folder,) = (SUBMISSIONS / f"implicit-if__gemma-3-270m-{name}").iterdir()
    lines = (folder / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["instruction_id"]: row["output"] for row in map(json.loads, lines)}


@pytest.mark.parametrize("control", CONTROLS)
def test_committed_controls_are_todays(control: Control) -> None:
    systems = (committed("rules"), committed("response-full-s1"))
    assert committed(f"control-{control}") == control_answers(control, load_instructions("builtin").texts(), systems)
