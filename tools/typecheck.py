"""Type-checks the package as it is imported: the top-level rooms as `implicit_if.harness` and so on.

    python tools/typecheck.py [mypy options]

mypy finds packages by their folders, so it runs in a temporary tree of links; paths are printed as in the repository.
The settings are in pyproject.toml.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")


def main(options: list[str]) -> int:
    """Runs mypy and returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "implicit_if")
        package.mkdir()
        for target in [*(ROOT / "src" / "implicit_if").glob("*.py"), *(ROOT / room for room in ROOMS)]:
            (package / target.name).symlink_to(target)
        settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
        command = [sys.executable, "-m", "mypy", *settings, *options, "-p", "implicit_if"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    print(re.sub(rf"^implicit_if/(?=({'|'.join(ROOMS)})/)", "", done.stdout, flags=re.MULTILINE), end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
