"""`implicit-if list`: every name that a command takes, by kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.cli import main
from implicit_if.harness.instructions import NAMES
from implicit_if.harness.judging.registry import check_judge_spec, get_backend
from implicit_if.harness.references import reference_names
from implicit_if.listing import KINDS
from implicit_if.model_wrappers.rules.presets import load_preset


def test_what_is_listed_is_what_commands_take(capsys: Any) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(KINDS)
    assert all(found.values())
    assert list(found["references"]) == reference_names()
    assert set(found["instruction-sets"]) == {*NAMES}
    assert {"alpaca_winrate", "response_ranking", "chatbot_audit"} <= set(found["tasks"])
    assert {"embedded", "rules_poe", "urial"} <= set(found["models"])
    assert {"instruction", "response", "gsm"} <= set(found["recipes"])
    assert "builtin@" in found["references"]["gemma-3-270m/instruction"]
    for name in found["judges"]:
        backend = get_backend(name)
        check_judge_spec(backend.example if backend else name)
    for name in found["presets"]:
        load_preset(name)
    for name in found["templates"]:
        load_template(name)


def test_kinds_are_chosen_by_name(capsys: Any) -> None:
    assert main(["list", "presets", "templates"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("presets (--model_args rules=)\n")
    assert "eos, uniform, diversity" in shown
    assert "judges" not in shown
    assert main(["list", "judge"]) == 2
    assert "unknown kind 'judge'. Did you mean 'judges'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_prints_alone(kind: str, capsys: Any) -> None:
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1
