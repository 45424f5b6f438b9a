"""Old metadata made new: one function a step, so that a submission of any past version still loads.

To change the schema: raise `schema.SCHEMA_VERSION`, add the step from the version before to `STEPS`, and export the
schema again. Submissions stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from implicit_if.harness.signature import WIN_RATE_TASK
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION

Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: Mapping[int, Step] = {1: lambda value: {**value, "task": WIN_RATE_TASK}}
"""By the version a step starts from; it returns metadata of the next version. Version 2 names the task."""


def sign_task(data: bytes) -> bytes:
    """`scores.json` or `rerun.json` with the task in every signature; those of version 0.1 name none."""
    return data.replace(b'"signature": "set:', f'"signature": "task:{WIN_RATE_TASK}|set:'.encode("ascii"))


def migrate(value: dict[str, Any], steps: Mapping[int, Step] = STEPS, newest: int = SCHEMA_VERSION) -> dict[str, Any]:
    """Metadata of any known version as metadata of the newest.

    Args:
        value: As read from the file.
        steps: See `STEPS`.
        newest: The version to reach.

    Raises:
        ValueError: If the version is missing, newer than this program, or has no step.
    """
    version = value.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"schema_version: expected a number from 1 to {newest}")
    if version > newest:
        raise ValueError(f"schema_version {min(version, 10**6)} is newer than this program, which knows {newest}")
    while version < newest:
        if version not in steps:
            raise ValueError(f"schema_version {max(version, -1)}: expected a number from 1 to {newest}")
        value = {**steps[version](value), "schema_version": version + 1}
        version += 1
    return value
