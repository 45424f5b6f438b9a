"""The documentation's site: generated pages are current, every page is in a table of contents, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LEFT_OUT = {DOCS / "ablations"}  # see docs/conf.py
LINKED = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("docs", "tasks", "examples", "harness/references")
    for path in (ROOT / folder).rglob("*.md")
)
PAGES = ("README.md", "CONTRIBUTING.md", "leaderboards/README.md", *LINKED)


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_code(text: str) -> str:
    return re.sub(r"^(```|~~~).*?^\1|`[^`\n]*`", "", text, flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """What a code host and MyST call the headings of a page: lower case, hyphens for spaces, no other signs."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("page", ["docs/reference/commands.md", "docs/llms.txt", "docs/figures/architecture.svg"])
def test_a_generated_page_is_current(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    made = tool("docs_pages").pages()
    assert made[ROOT / page] == (ROOT / page).read_text(encoding="utf-8"), "run python tools/docs_pages.py"


def test_every_command_and_argument_is_on_its_page() -> None:
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert set(re.findall(r"^## implicit-if (\S+)$", text, re.M)) == set(commands["implicit_if.commands"])
    judge = text.partition("## implicit-if judge\n")[2].partition("\n## ")[0]
    for argument in ("`OUTPUTS`", "`--reference` `OUTPUTS`", "`--length-control` `{", "`--dry-run` |", "`--max-cost`"):
        assert argument in judge, argument


def test_every_page_is_in_one_table_of_contents() -> None:
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(encoding="utf-8"), re.M | re.S)
    entries = [line.strip() for block in blocks for line in block.splitlines() if line.strip() and line[0] != ":"]
    listed = [
        path for entry in entries for path in (DOCS.glob(f"{entry}.md") if "*" in entry else [DOCS / f"{entry}.md"])
    ]
    there = [p for p in DOCS.rglob("*.md") if p != DOCS / "index.md" and not any(p.is_relative_to(f) for f in LEFT_OUT)]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = without_code(path.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def test_anchors_are_told_as_a_code_host_tells_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c, d\n## Who decides?\n```\n# no heading\n```\n## [Link](x.md) & more\n## Who decides?\n")
    assert anchors(page) == {"a-b-c-d", "who-decides", "link--more", "who-decides-1"}


def test_external_links_are_asked_by_a_schedule_and_no_warning_passes() -> None:
    links = yaml.safe_load((ROOT / ".github" / "workflows" / "links.yml").read_text(encoding="utf-8"))
    assert links[True]["schedule"]  # YAML 1.1 reads "on" as true
    assert any("sphinx -W" in step.get("run", "") for step in links["jobs"]["linkcheck"]["steps"])
    assert "sphinx -q -W --keep-going docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_no_conflict_is_left_in_a_page(page: str) -> None:
    assert not re.search(r"^(<{7}|>{7}) ", (ROOT / page).read_text(encoding="utf-8"), re.M)
