"""`submit --pr`: a real git, a clone of a bare repository, and a stand-in for `gh` that notes what it was asked."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from factory import LongestJudge, judge_all, outputs, run

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import save_outputs
from implicit_if.harness.storage import jsonl_bytes
from implicit_if.leaderboards.commands import submit as submit_command

GH = """#!/bin/sh
echo "$@" >> "$GH_LOG"
case "$1 $2" in
  "auth status") echo "Token: gho_secret"; exit ${GH_AUTH:-0};;
  "repo view") echo "${GH_PERMISSION:-WRITE}";;
  "repo fork") git remote add fork "$GH_FORK";;
  "pr create") echo "Creating pull request"; echo "https://github.com/o/r/pull/7";;
esac
"""


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with `origin`, and a `gh` first on the path."""
    for key in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(key, "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(tmp_path, "init", "-q", "-b", "main", "first")
    (tmp_path / "first" / "README.md").write_text("a repository\n")
    git(tmp_path / "first", "add", ".")
    git(tmp_path / "first", "commit", "-qm", "first")
    for name in ("origin", "fork"):
        git(tmp_path, "clone", "-q", "--bare", "first", f"{name}.git")
    git(tmp_path, "clone", "-q", "origin.git", "clone")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o700 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GH_LOG", str(tmp_path / "gh.log"))
    monkeypatch.setenv("GH_FORK", str(tmp_path / "fork.git"))
    return tmp_path / "clone"


@pytest.fixture
def source(tmp_path: Path) -> list[str]:
    """The arguments of a submission from a file of outputs."""
    own, reference = outputs("parrot", 12, 1), outputs("base", 12, 2)
    save_outputs(tmp_path / "own.json", own)
    save_outputs(tmp_path / "reference.json", reference)
    lines = judge_all(LongestJudge(), own, reference)
    (tmp_path / "own.annotations.jsonl").write_bytes(jsonl_bytes([a.model_dump() for a in lines]))
    arguments = [str(tmp_path / "own.json"), "--reference", str(tmp_path / "reference.json"), "--name", "acme/parrot"]
    return [*arguments, "--licence", "CC0-1.0", "--system", "other", "--base-model", "acme/base", "--revision", "r1"]


def submit(clone: Path, source: list[str]) -> int:
    return run(submit_command, *source, "--root", str(clone / "leaderboards" / "submissions"), "--pr")


def asked(clone: Path) -> list[str]:
    return (clone.parent / "gh.log").read_text().splitlines()


@pytest.mark.parametrize(("permission", "remote"), [("WRITE", "origin"), ("READ", "fork")])
def test_it_pushes_one_commit_of_the_submission_alone(
    clone: Path, source: list[str], permission: str, remote: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("GH_PERMISSION", permission)
    (clone / "notes.txt").write_text("mine, not for others\n")
    git(clone, "add", "notes.txt")
    assert submit(clone, source) == 0
    printed = capsys.readouterr()
    assert printed.out.rstrip().endswith("https://github.com/o/r/pull/7")
    assert "git push -u" in printed.out.split("https://")[0]
    assert "gho_secret" not in printed.out + printed.err
    branch = "submit-acme__parrot-r1"
    bare = clone.parent / f"{remote}.git"
    changed = git(bare, "diff", "--name-only", "main", branch).splitlines()
    submission = clone / "leaderboards" / "submissions" / "acme__parrot" / "r1"
    (shared,) = (clone / "leaderboards" / "submissions" / "references").iterdir()
    assert changed == sorted(str(path.relative_to(clone)) for path in [*submission.iterdir(), shared])
    assert sum("/references/" in name for name in changed) == 1
    assert git(bare, "rev-list", "--count", f"main..{branch}") == "1"
    assert asked(clone)[-1].startswith("pr create --title Submit acme/parrot --body ")
    assert any(line.startswith("repo fork") for line in asked(clone)) == (remote == "fork")


def test_nothing_is_written_where_no_pull_request_can_be_opened(
    clone: Path, source: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(what: str) -> None:
        with pytest.raises(UserError, match=what):
            submit(clone, source)
        assert not (clone / "leaderboards").exists()

    monkeypatch.setenv("GH_AUTH", "1")
    refused("gh is not logged in. Run: gh auth login")
    monkeypatch.delenv("GH_AUTH")
    git(clone, "commit", "-q", "--allow-empty", "-m", "of my own")
    refused("has 1 commits that origin does not have.*git switch main")
    git(clone, "reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(UserError, match="is in no git clone"):
        run(submit_command, *source, "--root", str(clone.parent / "elsewhere"), "--pr")
    (clone.parent / "bin" / "gh").unlink()
    only_git = clone.parent / "only-git"
    only_git.mkdir()
    (only_git / "git").symlink_to(
        next(Path(p, "git") for p in os.environ["PATH"].split(os.pathsep) if Path(p, "git").exists())
    )
    monkeypatch.setenv("PATH", str(only_git))
    refused("needs the program gh, which is not installed. Install it")


def test_a_step_that_fails_names_what_is_left(clone: Path, source: list[str]) -> None:
    git(clone, "branch", "submit-acme__parrot-r1")
    with pytest.raises(UserError, match="git switch -c failed: .*already exists") as caught:
        submit(clone, source)
    assert "gh pr create" in str(caught.value)
    assert json.loads((clone / "leaderboards/submissions/acme__parrot/r1/scores.json").read_text())["scores"]
