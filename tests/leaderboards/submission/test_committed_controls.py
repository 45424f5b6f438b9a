"""The committed control rows hold the answers that `harness/controls.py` gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.controls import Control, control_answers
from implicit_if.harness.instructions import load_instructions
from implicit_if.leaderboards.verification.result import read_pairs
from implicit_if.leaderboards.verification.verify import verify

SUBMISSIONS = Path(__file__).parents[3] / "leaderboards" / "submissions"


def committed(name: str) -> dict[str, str]:
    (folder,) = (SUBMISSIONS / f"implicit-if__gemma-3-270m-{name}").iterdir()
    return {pair.instruction_id: pair.system.output for pair in read_pairs(verify(folder))}


@pytest.mark.parametrize("control", ["empty", "constant", "echo", "longest_of_two"])
def test_committed_controls_are_todays(control: Control) -> None:
    systems = (committed("rules"), committed("response")) if control == "longest_of_two" else ()
    assert committed(f"control-{control}") == control_answers(control, load_instructions("builtin").texts(), systems)
