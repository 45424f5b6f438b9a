"""Every task has what CONTRIBUTING.md asks for: a page with the command and the source, and a test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = sorted(path for path in (ROOT / "tasks").iterdir() if any(path.glob("*.yaml")))


def missing(folder: Path, tests: Path) -> list[str]:
    """What a task's folder lacks."""
    page, test = folder / "README.md", tests / f"test_{folder.name}.py"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    wanted = {"README.md": text.startswith(f"# {folder.name}\n"), "the command": f"--tasks {folder.name}" in text}
    return [what for what, there in (wanted | {test.name: test.is_file()}).items() if not there]


@pytest.mark.parametrize("folder", TASKS, ids=lambda path: path.name)
def test_a_task_has_a_page_and_a_test(folder: Path) -> None:
    assert missing(folder, ROOT / "tests" / "tasks") == []


@pytest.mark.parametrize("folder", TASKS, ids=lambda path: path.name)
def test_a_task_names_its_source(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Source: " in text or "docs/analyses/" in text


@pytest.mark.parametrize("folder", TASKS, ids=lambda path: path.name)
def test_a_task_has_a_version(folder: Path) -> None:
    class Loader(yaml.SafeLoader):
        """Reads lm-eval's `!function` as text."""

    Loader.add_constructor("!function", lambda loader, node: node.value)
    settings = yaml.load((folder / f"{folder.name}.yaml").read_text(encoding="utf-8"), Loader)  # noqa: S506
    assert settings["task"] == folder.name
    assert float(settings["metadata"]["version"]) >= 1


def test_a_task_without_page_or_test_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "poems").mkdir()
    assert missing(tmp_path / "poems", tmp_path) == ["README.md", "the command", "test_poems.py"]
    (tmp_path / "poems" / "README.md").write_text("# poems\n\nlm_eval --model hf --tasks poems\n")
    assert missing(tmp_path / "poems", tmp_path) == ["test_poems.py"]
