"""`implicit-if doctor`: what it says, its exit status, and that no key is ever shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.cli import main
from implicit_if.harness.hub import HubUnavailableError
from implicit_if.harness.installation import doctor
from implicit_if.harness.installation.doctor import Finding


def test_a_sound_installation_is_0_and_lm_eval_finds_us(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "hub", lambda timeout: Finding("hub", "ok", "asked"))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {check["name"]: check for check in found["checks"]}
    assert found["ok"]
    assert by_name["models"]["found"] == "lm_eval --model proxy_tuned, rules_poe, rules_poe_vllm, urial"
    assert "alpaca_winrate" in by_name["tasks"]["found"]
    assert set(by_name) == {"version", "models", "tasks", "embedded", "hub", "keys", "GPU", "disk", "threads"}


def test_a_problem_is_1_with_its_fix(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("models", "tasks", "embedded", "gpu", "threads", "versions"):
        monkeypatch.setattr(doctor, name, lambda: Finding("x", "note", "y"))
    monkeypatch.setattr(doctor, "hub", lambda timeout: Finding("hub", "note", "away"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("problem disk"))
    assert "cannot be written" in lines[at]
    assert lines[at + 1].strip() == "fix: set IMPLICIT_IF_CACHE to a folder on a disk with room"


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    found = doctor.keys()
    assert found.status == "ok"
    assert found.found.startswith("set: OPENAI_API_KEY; not set: ANTHROPIC_API_KEY")
    assert "secret" not in str(found)


def test_a_hub_that_does_not_answer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(seconds: float, call: Any) -> None:
        raise HubUnavailableError(f"no answer from the hub within {seconds:g} seconds")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("implicit_if.harness.hub.within", away)
    found = doctor.hub(2)
    assert (found.status, found.name) == ("note", "hub")
    assert "not reachable (no answer from the hub within 2 seconds)" in found.found


def test_models_that_lm_eval_lacks_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("implicit_if.harness.lm_eval_plugin.declared", lambda group: ["no_such_model"])
    found = doctor.models()
    assert found.status == "problem"
    assert "does not know no_such_model" in found.found
    assert found.fix.startswith("pip install")
