"""What the code imports is declared, and what is declared is pinned in the tested set."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def imported(path: Path) -> set[str]:
    """Top-level names of a module's absolute imports, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_every_import_is_a_declared_requirement() -> None:
    declared = requirements(*(extra for extra in EXTRAS if extra != "dev")).keys()
    owners = packages_distributions()
    undeclared = set()
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for name in imported(path) - sys.stdlib_module_names - {"implicit_if"}:
            distributions = {canonicalize_name(d) for d in owners.get(name, [name])}
            if not distributions & declared:
                undeclared.add(f"{path.relative_to(ROOT)}: {name}")
    assert sorted(undeclared) == []


def test_the_tested_set_pins_every_requirement_within_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    for name, requirement in requirements("embedded", "dev", "docs").items():
        if name != "implicit-if":
            assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} and {pins[name]}"


def test_bounds_leave_room_for_what_vllm_needs() -> None:
    resolved = {"transformers": "5.20.2", "torch": "2.14.0", "numpy": "2.3.5", "huggingface-hub": "2.4.0"}  # 0.33.0
    for name, version in resolved.items():
        assert requirements()[name].specifier.contains(version), f"{name} {version}"


def test_pins_hold_on_every_machine() -> None:
    """No local versions (such as torch's +cpu), no addresses, no options."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_continuous_integration_resolves_every_extra() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert set(workflow["jobs"]["extras"]["strategy"]["matrix"]["extra"]) == set(EXTRAS)


def test_continuous_integration_tests_the_lowest_and_the_newest_set() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]["bounds"]
    kinds = {(one["python"], one["resolution"]) for one in job["strategy"]["matrix"]["include"]}
    assert kinds == {("3.11", "lowest-direct"), ("3.12", "highest")}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert any("--resolution ${{ matrix.resolution }}" in command for command in commands)
    assert commands[-1].endswith("pytest")
    assert job["steps"][-1]["env"]["PYTEST_ADDOPTS"] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["typing-extensions", "transformers", "trl", "pydantic"])
def test_every_bound_that_was_tried_has_a_lower_end(name: str) -> None:
    assert any(one.operator == ">=" for one in requirements()[name].specifier)


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_recomputed_activations_are_asked_for_by_the_name_that_transformers_has(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """5.20, which vLLM needs, has another name than 5.23."""
    from implicit_if.harness.tuning.recipe import load_recipe
    from implicit_if.harness.tuning.runner import sft_config

    class Config:
        __dataclass_fields__: ClassVar[dict[str, None]] = {name: None}

        def __init__(self, **settings: Any) -> None:
            self.settings = settings

    monkeypatch.setattr("trl.trainer.sft_config.SFTConfig", Config)
    recipe = load_recipe("instruction", ["train.gradient_checkpointing=true"], base="embedded")
    settings = sft_config(recipe, tmp_path, 1, 8).settings  # type: ignore[attr-defined]
    assert settings[name] is True
    assert len({"activation_checkpointing", "gradient_checkpointing"} & settings.keys()) == 1
