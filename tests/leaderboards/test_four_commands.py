"""What docs/submitting.md promises: from a clean clone to a board with one row more, by the commands as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository's files, without what git ignores, and a package folder that imports from them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs the repository's git")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = tmp_path / "clone" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    submissions = tmp_path / "clone" / "leaderboards" / "submissions"
    for folder in submissions.glob("*__*"):  # a few will do: every answer of theirs is judged again
        if folder.name not in ("implicit-if__gemma-3-270m-base", "implicit-if__gemma-3-270m-rules"):
            shutil.rmtree(folder)
    package = tmp_path / "path" / "implicit_if"
    package.mkdir(parents=True)
    for room in ROOMS:
        (package / room).symlink_to(tmp_path / "clone" / room)
    shutil.copyfile(ROOT / "src" / "implicit_if" / "__init__.py", package / "__init__.py")
    return tmp_path / "clone"


def test_evaluate_submit_verify_rebuild_check(clone: Path, tiny_model_folder: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "path"),
        "IMPLICIT_IF_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=clone, env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr

    ours = "implicit_if.harness.cli"
    evaluated = run(
        *("lm_eval", "--model", "hf", "--model_args", f"pretrained={tiny_model_folder}", "--tasks", "alpaca_winrate"),
        *("--log_samples", "--output_path", "out", "--gen_kwargs", "max_gen_toks=16", "--device", "cpu"),
    )
    assert "judged against gemma-3-270m/instruction" in evaluated
    run(
        *(ours, "submit", "out", "--name", "acme/tiny", "--licence", "CC0-1.0"),
        *("--system", "instruction", "--base-model", "acme/base"),
    )
    folder = next((clone / "leaderboards" / "submissions" / "acme__tiny").iterdir())
    assert "recomputed" in run(ours, "verify", str(folder))
    run(ours, "leaderboard", "--check", code=1)
    run(ours, "leaderboard")
    run(ours, "leaderboard", "--check")
    assert "acme/tiny" in (clone / "leaderboards" / "README.md").read_text(encoding="utf-8")
    assert "acme/tiny" in (clone / "leaderboards" / "page.html").read_text(encoding="utf-8")
