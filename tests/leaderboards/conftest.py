"""Shared by the tests of leaderboards."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `import factory` and `import board_samples`
