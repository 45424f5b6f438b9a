"""Finding base models: folders, hub names and registered names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.base import Base, registered_models, resolve_base


def test_folders_and_hub_names(tiny: Path) -> None:
    assert resolve_base(str(tiny)) == Base(str(tiny), str(tiny))
    assert resolve_base("some/model") == Base("some/model", "some/model")


def test_registered_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    # A distribution as an installer leaves it.
    info = tmp_path / "registering_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registering-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[implicit_if.models]\nmy-tiny = registering_models:find\n")
    (tmp_path / "registering_models.py").write_text(f"def find():\n    return {str(tiny)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "my-tiny" in registered_models()
    assert resolve_base("my-tiny") == Base("my-tiny", str(tiny))
    monkeypatch.delitem(sys.modules, "registering_models", raising=False)


@pytest.mark.parametrize("name", ["nothing-here", "./not/there", "/a/b", "a/b/c", ""])
def test_what_is_no_model(name: str) -> None:
    with pytest.raises(UserError, match=r"Expected a folder|holds no config"):
        resolve_base(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        resolve_base(str(tmp_path))
