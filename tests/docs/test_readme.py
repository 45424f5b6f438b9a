"""The README: its examples are the committed answers, its clone address the project's, and its test command CI's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from implicit_if.harness.judging.attempts import is_installed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.skipif(not is_installed(), reason="needs the extra embedded")
def test_examples_and_gallery_are_the_committed_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import answer_examples  # type: ignore[import-not-found]

    examples = answer_examples.readme_examples()
    assert examples in README
    about = re.findall(r"<i>base × rules</i> \((no attempt|attempts),", examples)
    assert about == ["no attempt", "attempts"]  # the first instruction, and the first that the rules elicit
    assert answer_examples.gallery() == (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


def test_nothing_of_fixed_width_runs_off_the_screen() -> None:
    assert "<pre>" not in README
    blocks = re.findall(r"^```.*?\n(.*?)^```", README, re.M | re.S)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 125


def test_clone_address_python_and_citation_are_the_project_s() -> None:
    assert f"git clone {PROJECT['urls']['Repository']} " in README
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    assert f"Python {' or '.join(f'3.{minor}' for minor in range(int(low), int(high)))}." in README
    citation: Any = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    (bibtex,) = re.findall(r"^```bibtex\n(.*?)^```", README, re.M | re.S)
    assert citation["title"] in bibtex
    assert f"year    = {{{citation['year']}}}" in bibtex
    assert [a["family-names"] in bibtex for a in citation["authors"]] == [True] * len(citation["authors"])


def test_continuous_integration_calls_the_readme_s_test_command_which_comes_last() -> None:
    last = re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)[-1]
    command = last.strip().rpartition(" && ")[2]
    assert README.rstrip().endswith("```")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1] == command
