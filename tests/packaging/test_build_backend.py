"""The build backend's own functions; tests/packaging/test_install.py uses it as pip does."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RECORD = "thing-1.dist-info/RECORD"


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    sys.path.insert(0, str(ROOT / "build_backend"))
    try:
        return importlib.import_module("implicit_if_build")
    finally:
        sys.path.remove(str(ROOT / "build_backend"))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("thing.py", (2024, 2, 3, 4, 5, 6)), "x = 1\n")
        archive.writestr(zipfile.ZipInfo(RECORD, (2024, 2, 3, 4, 5, 6)), f"thing.py,sha256=old,6\n{RECORD},,\n")
    return path


def read(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_rewriting_adds_changes_and_records(backend: ModuleType, wheel: Path) -> None:
    backend.rewrite(wheel, add={"a,b.txt": b"hi"}, change=lambda name, data: data.replace(b"1", b"2"))
    # the digests are those of `printf 'x = 2\n' | openssl dgst -sha256 -binary | basenc --base64url`
    assert read(wheel) == {
        "thing.py": "x = 2\n",
        "a,b.txt": "hi",
        RECORD: "thing.py,sha256=QgXEgJqxsID9Mra_lkDl_qptG2m_n6aElUq3EBV-wUE,6\n"
        '"a,b.txt",sha256=j0NDRmSPa5bfid2pAcUXaxCm2Dlh3TwayItZstwyeqQ,2\n'
        f"{RECORD},,\n",
    }
    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist()[-1] == RECORD
        assert {info.date_time for info in archive.infolist()} == {(2024, 2, 3, 4, 5, 6)}
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_rewriting_replaces_no_file(backend: ModuleType, wheel: Path) -> None:
    before = wheel.read_bytes()
    with pytest.raises(FileExistsError, match=r"thing\.py"):
        backend.rewrite(wheel, add={"thing.py": b""})
    assert wheel.read_bytes() == before


def test_only_start_up_lines_are_put_off(backend: ModuleType) -> None:
    assert backend.put_off("a.pth", b"/some/folder\n") == b"/some/folder\n"
    assert backend.put_off("a.py", b"import sys\n") == b"import sys\n"
    assert backend.put_off("a.pth", b"import sys\n") != b"import sys\n"


def test_start_up_lines_are_what_site_and_pep_829_expect(backend: ModuleType) -> None:
    files = backend.startup_files()
    lines = files["implicit_if.pth"].decode("ascii").splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("import ")
    module, _, function = files["implicit_if.start"].decode().strip().partition(":")
    namespace: dict[str, object] = {}
    exec(files[f"{module}.py"], namespace)  # noqa: S102 - our own start-up code
    assert callable(namespace[function])


def run_with_hook(folder: Path, hook: str, script: str) -> tuple[str, str]:
    """Runs a script after the hook, in a Python without any installed package, beside a stand-in for lm_eval."""
    for name in ("lm_eval", "lm_eval/models", "lm_eval/tasks"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"print('ran', {name!r})\n")
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{hook}\n{script}"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("way", ["pth", "start"])
def test_hook_without_the_package_says_so_once(backend: ModuleType, tmp_path: Path, way: str) -> None:
    files = backend.startup_files()
    line = files["implicit_if.pth"].decode()
    (tmp_path / "_implicit_if_autoload.py").write_bytes(files["_implicit_if_autoload.py"])
    start = "import _implicit_if_autoload; _implicit_if_autoload.install()"
    hook = "\n".join([line if way == "pth" else start] * 2)  # as in a virtual environment, where site runs lines twice
    out, err = run_with_hook(tmp_path, hook, "import lm_eval.models, lm_eval.tasks")
    assert out.split() == ["ran", "lm_eval", "ran", "lm_eval/models", "ran", "lm_eval/tasks"]
    assert len(err.splitlines()) == 1
    assert err.startswith("implicit-if: not registered with lm_eval: ModuleNotFoundError(")
    assert "pip uninstall implicit-if" in err


@pytest.mark.parametrize("way", ["pth", "start"])
def test_hook_hands_exactly_two_modules_to_the_plugin(backend: ModuleType, tmp_path: Path, way: str) -> None:
    files = backend.startup_files()
    (tmp_path / "_implicit_if_autoload.py").write_bytes(files["_implicit_if_autoload.py"])
    (tmp_path / "implicit_if" / "harness").mkdir(parents=True)
    (tmp_path / "implicit_if" / "harness" / "lm_eval_plugin.py").write_text(
        "def find_spec(name, path, target):\n    print('asked', name)\n"
    )
    line = files["implicit_if.pth"].decode()
    start = "import _implicit_if_autoload; _implicit_if_autoload.install()"
    script = "import json, lm_eval, lm_eval.tasks, lm_eval.models"
    out, err = run_with_hook(tmp_path, line if way == "pth" else start, script)
    assert [row for row in out.splitlines() if "asked" in row] == ["asked lm_eval.tasks", "asked lm_eval.models"]
    assert err == ""
