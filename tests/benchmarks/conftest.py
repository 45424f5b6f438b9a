"""Loads a benchmark's script, which is in no package, as a module."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def load_benchmark() -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run_quick(
    load_benchmark: Callable[[str], ModuleType],
    tiny_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[list[str], dict[str, Any]]]:
    """Runs a benchmark with `--quick` on the tiny model: the lines it prints, and its JSON line, which names it."""

    def run(name: str, *arguments: str) -> tuple[list[str], dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--pretrained", tiny_model_folder, *arguments])
        load_benchmark(name).main()
        *table, last = capsys.readouterr().out.splitlines()
        line: dict[str, Any] = json.loads(last)
        assert line["name"] == name
        return table, line["ratios"]

    return run
