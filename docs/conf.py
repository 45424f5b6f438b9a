"""Settings of the documentation's site: `python -m sphinx -W docs build/docs` makes it of the Markdown here."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = f"{PROJECT['urls']['Repository']}/blob/main"

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
release = metadata.version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["ablations"]  # what a command wrote, kept as it came
default_role = "code"  # docstrings name things in single backticks

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_linkify_fuzzy_links = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "implicit-if"
html_extra_path = ["llms.txt"]
html_theme_options = {
    "source_repository": PROJECT["urls"]["Repository"],
    "source_branch": "main",
    "source_directory": "docs/",
}

# External addresses are asked by the scheduled workflow; local files and anchors by tests/docs/test_links.py.
linkcheck_anchors = False
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"https?://localhost"]


def files_outside(app: Any, docname: str, source: list[str]) -> None:
    """Links to files outside of docs/ lead to the repository; on a code host the same links work as they are."""
    folder = (DOCS / docname).parent

    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = (folder / path).resolve()
        if not path or "://" in path or target.is_relative_to(DOCS):
            return match[0]
        return f"]({SOURCE}/{target.relative_to(ROOT).as_posix()}{anchor})"

    source[0] = re.sub(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", link, source[0])


def setup(app: Any) -> None:
    app.connect("source-read", files_outside)
