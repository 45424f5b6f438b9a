"""The line after a run that says how to read its answers."""

from __future__ import annotations

import sys

import pytest

from implicit_if.tasks.alpaca_winrate.summary import where_to_read

HOW = "to read the answers, run with --log_samples --output_path DIR, then: implicit-if view DIR\n"


@pytest.mark.parametrize(
    ("arguments", "save", "line"),
    [
        (["--tasks", "x"], None, HOW),
        (["--tasks", "x"], "out/my run", "read the answers: implicit-if view 'out/my run'\n"),
        (["--output_path", "out", "--log_samples"], None, "read the answers: implicit-if view out\n"),
        (["-s", "-o=out"], None, "read the answers: implicit-if view out\n"),
        (["--output_path", "out"], None, HOW),
        (["--log_samples"], None, HOW),
    ],
)
def test_after_lm_eval_s_command(
    arguments: list[str], save: str | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    assert where_to_read(save) == line


def test_in_other_programs_only_a_saved_run_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--log_samples"])
    assert where_to_read(None) == ""
    assert where_to_read("out") == "read the answers: implicit-if view out\n"
