"""A real wheel and a real editable install, each in a virtual environment of its own, under the unmodified lm_eval.

The environments borrow the running one's packages through links, without implicit-if and without start-up files.
Their lm_eval has few built-in tasks, because it reads every YAML file it has at each start; its code is untouched.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")
NOT_COPIED = (".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "benchmarks", "docs", "examples")
BUILT_IN = "hellaswag"
USER_TASK = "{task: TASK, dataset_path: none, output_type: generate_until, doc_to_text: a, doc_to_target: b}"
GENERATED = re.compile(
    r"leaderboards/(submissions/|replications/|answers/|figures/|page\.html|README\.md|(leaderboard|rules)\.(md|csv|json))"
)
HOOK_FILES = {"implicit_if.pth", "implicit_if.start", "_implicit_if_autoload.py"}


@dataclass
class Environment:
    """A virtual environment, and the copy of the source tree that is installed in it."""

    folder: Path
    source: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").glob("python*/site-packages"))

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_"))}
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=kept | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def ok(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments: str | Path) -> str:
        return self.ok("-m", "pip", "--disable-pip-version-check", *arguments)

    def files(self) -> set[str]:
        places = (self.site, self.folder / "bin")
        return {str(p.relative_to(self.folder)) for place in places for p in place.rglob("*")}


def copy_source(target: Path) -> Path:
    """The tree to install from, so that building writes nothing into the repository."""
    return Path(shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def borrow_packages(target: Path, *, all_tasks: bool) -> Path:
    """Links to everything the running environment has installed, but no trace of implicit-if."""
    target.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for item in Path(place).iterdir():
            if "implicit_if" not in item.name and item.suffix not in (".pth", ".start") and item.name != "lm_eval":
                (target / item.name).symlink_to(item)
    found = importlib.util.find_spec("lm_eval")
    assert found is not None
    assert found.origin is not None
    lm_eval = Path(found.origin).parent
    if all_tasks:
        (target / "lm_eval").symlink_to(lm_eval)
        return target
    (target / "lm_eval" / "tasks").mkdir(parents=True)
    for folder in (lm_eval, lm_eval / "tasks"):
        for item in folder.iterdir():
            if item.suffix == ".py" or (folder == lm_eval and item.name not in ("tasks", "__pycache__")):
                (target / item.relative_to(lm_eval.parent)).symlink_to(item)
    shutil.copytree(lm_eval / "tasks" / BUILT_IN, target / "lm_eval" / "tasks" / BUILT_IN)
    return target


def make_environment(folder: Path, borrowed: Path) -> Environment:
    venv.EnvBuilder(symlinks=True).create(folder)
    environment = Environment(folder, folder / "source")
    (environment.site / "borrowed.pth").write_text(f"{borrowed}\n")
    return environment


def install(environment: Environment, how: str, wheel: Path) -> Environment:
    if how == "wheel":
        environment.pip("install", "--no-index", "--no-deps", wheel)
    else:
        copy_source(environment.source)
        options = ("--no-index", "--no-deps", "--no-build-isolation")
        environment.pip("install", *options, "--editable", environment.source)
    return environment


@pytest.fixture(scope="module")
def borrowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return borrow_packages(tmp_path_factory.mktemp("borrowed") / "site", all_tasks=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, borrowed: Path) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    builder = make_environment(folder / "builder", borrowed)
    builder.pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, copy_source(builder.source))
    return next(folder.glob("implicit_if-*.whl"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, borrowed: Path, wheel: Path
) -> Environment:
    """An installed environment that tests leave as it is."""
    return install(make_environment(tmp_path_factory.mktemp(request.param) / "env", borrowed), request.param, wheel)


@pytest.fixture(params=["wheel", "editable"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(how: str, tmp_path: Path, borrowed: Path, wheel: Path) -> Environment:
    """An installed environment to break."""
    return install(make_environment(tmp_path / "env", borrowed), how, wheel)


def user_tasks(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.yaml").write_text(USER_TASK.replace("TASK", name))
    return folder


def test_wheel_ships_the_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {n for n in archive.namelist() if ".dist-info/" not in n}
    own = ("__init__.py", "__main__.py", "api.py", "listing.py", "py.typed")
    expected = HOOK_FILES | {f"implicit_if/{name}" for name in own}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and not GENERATED.match(name):
                expected.add(f"implicit_if/{name}")
    assert shipped == expected


def test_record_covers_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(n for n in names if n.endswith(".dist-info/RECORD"))
        rows = {row[0]: row[1:] for row in csv.reader(archive.read(record).decode().splitlines())}
        assert sorted(rows) == sorted(names)
        assert rows.pop(record) == ["", ""]
        for name, (digest, size) in rows.items():
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={expected}", len(data)), name


def test_source_distribution_builds_the_same_wheel(tmp_path: Path, borrowed: Path, wheel: Path) -> None:
    builder = make_environment(tmp_path / "env", borrowed)
    source = copy_source(builder.source)
    call = f"import implicit_if_build as b; print(b.build_sdist({str(tmp_path)!r}))"
    script = f"import os, sys; os.chdir({str(source)!r}); sys.path.insert(0, 'build_backend'); {call}"
    archive = tmp_path / builder.ok("-c", script).splitlines()[-1]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "sdist", filter="data")
    unpacked = next((tmp_path / "sdist").iterdir())
    builder.pip("wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "out", unpacked)
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.whl"))) as ours, zipfile.ZipFile(wheel) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())


def test_requirements_are_met(environment: Environment) -> None:
    complaints = environment.run("-m", "pip", "check").stdout.splitlines()
    assert [line for line in complaints if line.startswith("implicit-if")] == []


def test_start_up_imports_nothing(environment: Environment) -> None:
    script = "import sys, json; print(json.dumps([sorted(sys.modules), [repr(f) for f in sys.meta_path]]))"
    modules, finders = json.loads(environment.ok("-c", script))
    assert {"lm_eval", "torch", "implicit_if"} & {m.partition(".")[0] for m in modules} == set()
    assert sum("ImplicitIfFinder" in finder for finder in finders) == 1


def test_start_up_costs_under_a_millisecond(environment: Environment) -> None:
    """What `site` does for our `.pth` files in a fresh process: opening, reading, running them."""
    script = """
import site, sys, time
folder, *names = sys.argv[1:]
before = len(sys.meta_path)
start = time.process_time_ns()
for name in names:
    site.addpackage(folder, name, set())
print((time.process_time_ns() - start) / 1e6)
assert len(sys.meta_path) == before + len(names)
"""
    names = [path.name for path in environment.site.glob("*implicit_if*.pth")]
    costs = [float(environment.ok("-S", "-c", script, environment.site, *names)) for _ in range(15)]
    assert statistics.median(costs) < 1.0, names


def test_models_are_registered_beside_the_built_in_ones(environment: Environment) -> None:
    script = """
import sys
from lm_eval.api.registry import get_model, model_registry
rules_poe, hf = get_model("rules_poe"), get_model("hf")
print(rules_poe.__module__, rules_poe.__name__, issubclass(rules_poe, hf), hf.__module__)
"""
    expected = "implicit_if.model_wrappers.rules_poe RulesPoE True lm_eval.models.huggingface"
    assert environment.ok("-c", script).split("\n")[-2] == expected


def list_tasks(environment: Environment, *options: str) -> dict[str, list[str]]:
    """What `lm_eval ls tasks` prints: each task's further cells (where it is, its output type)."""
    lines = environment.ok("-m", "lm_eval", "ls", "tasks", *options).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_listing_tasks(environment: Environment) -> None:
    listed = list_tasks(environment)
    assert BUILT_IN in listed
    assert listed["alpaca_winrate"][1] == "generate_until"


def test_validating_tasks(environment: Environment) -> None:
    assert "All tasks found and valid" in environment.ok("-m", "lm_eval", "validate", "--tasks", "alpaca_winrate")
    missing = environment.run("-m", "lm_eval", "validate", "--tasks", "alpaca_winrat")
    assert (missing.returncode, missing.stdout.splitlines()[-1]) == (1, "Tasks not found: alpaca_winrat")


def test_a_users_task_wins_over_ours(environment: Environment, tmp_path: Path) -> None:
    folder = user_tasks(tmp_path / "mine", "alpaca_winrate", "only_mine")
    listed = list_tasks(environment, "--include_path", str(folder))
    assert listed["alpaca_winrate"][0] == str(folder / "alpaca_winrate.yaml")
    assert listed.keys() >= {"only_mine", BUILT_IN}


def test_bad_task_arguments_end_a_run_before_it_loads_the_model(environment: Environment) -> None:
    arguments = ("--model", "no-such-model", "--tasks", "alpaca_winrate", "--metadata", "judge=no-such-judge")
    ended = environment.run("-m", "lm_eval", "run", *arguments)
    assert ended.returncode != 0
    assert "implicit-if: unknown judge 'no-such-judge'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Attempted to load model" not in ended.stderr


def test_command_line(environment: Environment) -> None:
    script = environment.folder / "bin" / "implicit-if"
    version = environment.ok("-c", "from importlib.metadata import version; print(version('implicit-if'))").strip()
    assert environment.ok(script, "--version") == f"implicit-if {version}\n"
    commands = environment.ok(script, "--help")
    assert [name for name in ("compare", "embedded-model", "judge", "tune") if name not in commands] == []
    assert "broken" not in commands


def break_by_deleting(environment: Environment, how: str) -> None:
    shutil.rmtree(environment.source if how == "editable" else environment.site / "implicit_if")


def break_by_raising(environment: Environment, how: str) -> None:
    place = environment.source if how == "editable" else environment.site / "implicit_if"
    (place / "harness" / "lm_eval_plugin.py").write_text("raise RuntimeError('damaged')\n")


def break_by_losing_the_tasks(environment: Environment, how: str) -> None:
    shutil.rmtree((environment.source if how == "editable" else environment.site / "implicit_if") / "tasks")


def break_by_losing_the_metadata(environment: Environment, how: str) -> None:
    shutil.rmtree(next(environment.site.glob("implicit_if-*.dist-info")))


@pytest.mark.parametrize(
    "damage", [break_by_deleting, break_by_raising, break_by_losing_the_tasks, break_by_losing_the_metadata]
)
def test_a_broken_install_harms_nothing(own: Environment, how: str, damage: Any) -> None:
    damage(own, how)
    idle = own.run("-c", "pass")
    assert (idle.returncode, idle.stdout, idle.stderr) == (0, "", "")
    script = "from lm_eval.tasks import TaskManager; import sys; sys.stderr.flush(); print(TaskManager().all_subtasks)"
    used = own.run("-W", "ignore", "-c", script)
    assert (used.returncode, used.stdout) == (0, f"['{BUILT_IN}']\n"), used.stderr
    assert len(used.stderr.splitlines()) == 1, used.stderr
    assert used.stderr.startswith("implicit-if: not registered with lm_eval")


def test_uninstalling_leaves_nothing(tmp_path: Path, borrowed: Path, wheel: Path, how: str) -> None:
    environment = make_environment(tmp_path / "env", borrowed)
    before = environment.files()
    install(environment, how, wheel)
    assert {path.name for path in environment.site.iterdir()} >= HOOK_FILES
    environment.ok("-m", "lm_eval", "validate", "--tasks", "alpaca_winrate")  # compiles what it imports
    environment.pip("uninstall", "--yes", "implicit-if")
    assert environment.files() == before
    after = environment.run("-c", "import lm_eval.tasks; import implicit_if")
    assert after.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'implicit_if'"


def test_two_installs_in_one_python_register_once(tmp_path: Path, borrowed: Path, wheel: Path) -> None:
    environment = install(make_environment(tmp_path / "env", borrowed), "wheel", wheel)
    second = tmp_path / "second"
    environment.pip("install", "--no-index", "--no-deps", "--target", second, wheel)
    script = f"""
import site
site.addsitedir({str(second)!r})
from lm_eval.tasks import TaskManager
print(TaskManager.__init__.__wrapped__.__qualname__, hasattr(TaskManager.__init__.__wrapped__, "__wrapped__"))
"""
    assert environment.ok("-c", script) == "TaskManager.__init__ False\n"


@pytest.mark.slow
def test_with_all_of_lm_evals_tasks(tmp_path: Path, wheel: Path, how: str) -> None:
    borrowed = borrow_packages(tmp_path / "site", all_tasks=True)
    environment = install(make_environment(tmp_path / "env", borrowed), how, wheel)
    listed = list_tasks(environment)
    assert len(listed) > 1000
    assert listed["alpaca_winrate"][1] == "generate_until"
