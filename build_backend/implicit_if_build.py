"""A PEP 517 build backend: setuptools, plus the start-up files at the root of wheels and editable wheels.

setuptools has no way of its own to put a `.pth` file into a wheel. As the files are listed in RECORD, `pip uninstall`
removes them like any other.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

HOOK = Path(__file__).with_name("_implicit_if_autoload.py")


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """PEP 517: builds the wheel, with the start-up files, and returns its file name."""
    shutil.rmtree("build/lib", ignore_errors=True)  # setuptools would ship modules that were deleted since
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    rewrite(Path(wheel_directory, name), add=startup_files())
    return name


def build_editable(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """PEP 660: builds the editable wheel, with the start-up files, and returns its file name."""
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    rewrite(Path(wheel_directory, name), add=startup_files(), change=put_off)
    return name


def startup_files() -> dict[str, bytes]:
    """The start-up files' contents by name; see `_implicit_if_autoload.py`."""
    source = HOOK.read_text(encoding="utf-8")
    answer = f"exec({_without_docstrings(source)!r}, s := {{}}) or s['ImplicitIfFinder'].find_spec(name, path, target)"
    return {
        "implicit_if.pth": finder_line("insert(0, ", "ImplicitIfFinder", ("lm_eval.models", "lm_eval.tasks"), answer),
        "implicit_if.start": f"{HOOK.stem}:install\n".encode("ascii"),
        HOOK.name: source.encode("utf-8"),
    }


def put_off(name: str, data: bytes) -> bytes:
    """Puts the start-up line of an editable wheel off until implicit_if is first imported.

    setuptools' line imports a generated module that imports pathlib and more: ten milliseconds of every Python start.
    The finder that replaces it finds nothing; it lets setuptools append the one that does. Other files stay as they
    are.
    """
    if name.endswith(".pth") and data.startswith(b"import "):
        return finder_line("append(", "ImplicitIfEditable", ("implicit_if",), f"exec({data.decode().strip()!r})")
    return data


def finder_line(call: str, name: str, modules: tuple[str, ...], answer: str) -> bytes:
    """A line for a `.pth` file that adds a meta-path finder, once; Python compiles next to nothing until it is asked.

    Args:
        call: The beginning of a call of a method of `sys.meta_path`.
        name: The finder's `__name__`.
        modules: The modules it answers for.
        answer: The expression for its answer; it may use `name`, `path` and `target`.
    """
    find_spec = f"lambda name, path=None, target=None: {answer} if name in {modules!r} else None"
    known = f"{name!r} in [getattr(f, '__name__', '') for f in sys.meta_path]"  # in a venv, site runs each line twice
    line = f"import sys; {known} or sys.meta_path.{call}type({name!r}, (), {{'find_spec': {find_spec}}}))\n"
    return line.encode("ascii")


def rewrite(
    wheel: Path, add: Mapping[str, bytes], change: Callable[[str, bytes], bytes] = lambda name, data: data
) -> None:
    """Rewrites a wheel and its RECORD; equal inputs give equal bytes.

    Args:
        wheel: The wheel, replaced at the end.
        add: Contents by name of files to add at its root.
        change: Gives the new content of a file that is there, from its name and content.

    Raises:
        FileExistsError: If the wheel already has a file that is to be added.
    """
    rewritten = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED) as new:
        record = next(info for info in old.infolist() if info.filename.endswith(".dist-info/RECORD"))
        if taken := add.keys() & set(old.namelist()):
            raise FileExistsError(f"{wheel.name} already has {', '.join(sorted(taken))}")
        files = {info: change(info.filename, old.read(info)) for info in old.infolist() if info is not record}
        for name, data in add.items():
            info = zipfile.ZipInfo(name, record.date_time)
            info.external_attr, info.compress_type = record.external_attr, zipfile.ZIP_DEFLATED
            files[info] = data
        rows = [(info.filename, f"sha256={_record_digest(data)}", len(data)) for info, data in files.items()]
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([*rows, (record.filename, "", "")])
        files[record] = table.getvalue().encode()
        for info, data in files.items():
            new.writestr(info, data)
    rewritten.replace(wheel)


def _without_docstrings(source: str) -> str:
    """The same code with less to compile at each start of Python."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.unparse(tree)


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
