"""What signatures call instruction sets and systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import alpaca_eval, load_instructions
from implicit_if.harness.instructions.alpaca_eval import official_ids
from implicit_if.harness.instructions.identify import identify_set, system_name
from implicit_if.harness.outputs import Output, OutputsMeta, save_outputs


def outputs(*names: str) -> list[Output]:
    return [Output(instruction=f"Say {i}.", output="x", generator=name) for i, name in enumerate(names)]  # type: ignore[call-arg]


def test_known_sets_are_known_by_their_ids() -> None:
    assert identify_set(official_ids()[5:9]) == ("alpaca_eval", alpaca_eval.REVISION)
    builtin = load_instructions("builtin")
    assert identify_set(list(builtin.texts())[:3]) == ("builtin", builtin.revision)
    validation = load_instructions("validation")
    assert identify_set(list(validation.texts())[:3]) == ("validation", validation.revision)
    assert identify_set(["a"]) == ("custom", None)


def test_the_given_set_or_the_sidecar_tells(tmp_path: Path) -> None:
    builtin = load_instructions("builtin")
    with pytest.raises(UserError, match="1 of 1 outputs answer no instruction of 'builtin'"):
        identify_set(["a"], builtin)
    path = tmp_path / "o.json"
    save_outputs(path, outputs("s"), OutputsMeta(generator="s", instruction_set="mine", instruction_revision="7"))
    assert identify_set(["a"], outputs=path) == ("mine", "7")


def test_a_systems_name() -> None:
    path = Path("file.json")
    assert system_name(outputs("a", "a"), path) == "a"
    assert system_name(outputs(""), path) == "file"
    assert system_name(outputs("a\x1b[1m"), path) == "a\N{REPLACEMENT CHARACTER}[1m"
    with pytest.raises(UserError, match="answers of 2 systems in one file"):
        system_name(outputs("a", "b"), path)
