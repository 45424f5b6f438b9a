"""Runs before `lm_eval` loads a model, so that a mistyped argument costs seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check(metadata: Mapping[str, Any]) -> None:
    """Checks the task's arguments.

    Args:
        metadata: lm-eval's `--model_args` and `--metadata`, merged.

    Raises:
        UserError: On anything that would end the run later.
    """
    from implicit_if.tasks.alpaca_winrate.settings import Settings

    Settings.from_metadata(metadata).check()
