"""The language models that are loaded in this process, for tasks that need more of a model than its answers.

lm-eval hands a task no model. Our wrappers enter themselves here, so that a task can tell whether the model at work
answers as its own base on request, and how many tokens it should be given.
"""

from __future__ import annotations

import weakref
from typing import Any

_newest: weakref.ref[Any] | None = None


def register(model: Any) -> None:
    """Enters a loaded model; it is forgotten when nothing else refers to it."""
    global _newest
    _newest = weakref.ref(model)


def newest() -> Any | None:
    """The wrapper that was loaded last and is still there, or None under another model class."""
    return _newest() if _newest is not None else None
