"""What CI checks of a pull request, and the workflow that runs it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from factory import make_submission

from implicit_if.harness.errors import UserError
from implicit_if.leaderboards.verification.pull_request import SUBMISSIONS, changed_submissions, check

REPOSITORY = Path(__file__).parents[3]
WORKFLOW = REPOSITORY / ".github" / "workflows" / "verify-submission.yml"


def git(folder: Path, *arguments: str) -> bytes:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The base with one submission, and a commit on it that brings another."""
    root = tmp_path / "data"
    make_submission(root / SUBMISSIONS, name="acme/old", seed=1)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "base")
    make_submission(root / SUBMISSIONS, name="acme/new", seed=2)
    git(root, "add", ".")
    git(root, "commit", "-qm", "new")
    return root


def changed(root: Path) -> bytes:
    return git(root, "diff", "--name-only", "-z", "--no-renames", "HEAD^1", "HEAD")


def run(root: Path) -> subprocess.CompletedProcess[str]:
    names = changed(root)
    command = [sys.executable, "-I", "-m", "implicit_if.leaderboards.verification.pull_request", str(root)]
    done = subprocess.run(command, input=names, capture_output=True, check=False, cwd=root.parent)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_what_a_pull_request_brings_is_verified(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    assert "acme__new/v1: rescored" in done.stdout
    assert "acme__old" not in done.stdout


def test_a_broken_submission_is_not_accepted(checkout: Path) -> None:
    (checkout / SUBMISSIONS / "acme__new" / "v1" / "scores.json").write_text("{}")
    git(checkout, "commit", "-qam", "broken", "--amend")
    done = run(checkout)
    assert done.returncode == 2
    assert "the file was changed" in done.stderr


def test_code_beside_a_submission_is_refused_and_not_run(checkout: Path, tmp_path: Path) -> None:
    trap = "open({!r}, 'w').close()".format(str(tmp_path / "ran"))
    for name in ("conftest.py", "sitecustomize.py", "implicit_if.py", "json.py", "numpy.py"):
        (checkout / name).write_text(trap)
        (checkout.parent / name).write_text(trap)  # even in the folder it runs in
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "code", "--amend")
    done = run(checkout)
    assert done.returncode == 2
    assert "Expected files of submissions only" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_link_among_submissions_is_refused(checkout: Path) -> None:
    folder = checkout / SUBMISSIONS / "acme__new"
    shutil.rmtree(folder / "v1")
    (folder / "v1").symlink_to("/etc")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "link", "--amend")
    assert run(checkout).returncode == 2


def test_stolen_answers_are_found(checkout: Path) -> None:
    import factory

    answers = [o.model_copy(update={"generator": "x"}) for o in factory.outputs("old", 12, 1)]
    make_submission(checkout / SUBMISSIONS, name="thief/x", answers=answers)
    names = [f"{SUBMISSIONS}thief__x/v1/metadata.yaml".encode()]
    with pytest.raises(UserError, match="all its answers are those of acme__old/v1"):
        check(checkout, names)


@pytest.mark.parametrize(
    "name",
    [
        b"setup.py",
        b"leaderboards/verification/verify.py",
        b"leaderboards/submissions/x",
        b"leaderboards/submissions/a__b/v1",
        b"leaderboards/submissions/a__b/../c",
        b"leaderboards/submissions/../../x/y/z",
        b"leaderboards/submissions/a__b/v1/deep/file",
        b"leaderboards/submissions//v1/x",
        b"\xff\xfe",
    ],
)
def test_other_paths_are_refused(name: bytes) -> None:
    with pytest.raises(UserError, match="Expected files of submissions only"):
        changed_submissions([name])


def test_a_list_that_did_not_arrive_is_no_pull_request_without_submissions(checkout: Path) -> None:
    """In the workflow's pipe, an error of git's leaves an empty stdin."""
    with pytest.raises(UserError, match="found no changed file"):
        check(checkout, [])


def test_ids_are_found_once() -> None:
    names = [f"{SUBMISSIONS}a__b/v1/{n}".encode() for n in ("x", "y")] + [f"{SUBMISSIONS}a__a/v1/x".encode()]
    assert changed_submissions(names) == ["a__a/v1", "a__b/v1"]
    with pytest.raises(UserError, match="Split it"):
        changed_submissions(names * 1000)


def test_the_workflow_has_no_rights_and_runs_base_code_only() -> None:
    content = yaml.safe_load(WORKFLOW.read_text())
    assert set(content[True]) == {"pull_request"}  # YAML reads `on` as true
    assert content["permissions"] == {"contents": "read"}
    text = WORKFLOW.read_text()
    assert "secrets." not in text
    steps = content["jobs"]["verify"]["steps"]
    code, data = (step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout"))
    assert code["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert (code["path"], data["path"]) == ("code", "data")
    for options in (code, data):
        assert options["persist-credentials"] is False
    for step in steps:  # names and titles of a pull request never reach a shell
        assert "github.event.pull_request.title" not in str(step)
        assert "${{" not in step.get("run", "")
        assert "/data" not in step.get("run", "") or "git -C ../data diff" in step["run"]


def test_the_workflow_installs_all_that_verification_imports(tmp_path: Path) -> None:
    folder = make_submission(tmp_path)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["verify"]["steps"]
    line = next(s["run"] for s in steps if "constraints.txt" in s.get("run", ""))
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in line.partition("constraints.txt")[2].split()}
    code = f"""
        import sys
        from implicit_if.leaderboards.verification.verify import verify
        from implicit_if.leaderboards.verification.verify_all import verify_all
        verify({str(folder)!r})
        verify_all({str(tmp_path)!r})
        import implicit_if.leaderboards.verification.pull_request
        print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=environment
    )
    owners = importlib.metadata.packages_distributions()
    needed = {re.sub(r"[-_.]+", "-", d).lower() for m in done.stdout.split() for d in owners.get(m, [])[:1]}
    optional = {"charset-normalizer", "coverage", "setuptools"}  # imported where they happen to be installed
    assert needed - optional <= _with_requirements(installed) | {"implicit-if"}


def _with_requirements(names: set[str]) -> set[str]:
    """The distributions and all they require."""
    found, todo = set(), set(names)
    while todo:
        name = todo.pop()
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            required = re.split(r"[ ;<>=!~\[(]", line)[0]
            normal = re.sub(r"[-_.]+", "-", required).lower()
            if "extra ==" not in line and normal not in found and _is_installed(normal):
                todo.add(normal)
    return found


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
