"""implicit-if: does a language model follow instructions although nobody taught it to?

`import implicit_if as iif` loads nothing; each function below is loaded when it is first used (docs/python.md).
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from implicit_if.api import attempts, compare, judge, rules_processor, score, tune, verify
    from implicit_if.harness.errors import UserError
    from implicit_if.harness.instructions import load_instructions
    from implicit_if.harness.judging.sheets.agreement import rater_agreement
    from implicit_if.harness.outputs import Output, load_outputs, save_outputs

try:
    __version__ = version("implicit-if")
except PackageNotFoundError:  # a source tree on the path without an installed distribution
    __version__ = "0+unknown"

__all__ = [
    "Output",
    "UserError",
    "__version__",
    "attempts",
    "compare",
    "judge",
    "load_instructions",
    "load_outputs",
    "rater_agreement",
    "rules_processor",
    "save_outputs",
    "score",
    "tune",
    "verify",
]

_MODULES = {
    "Output": "harness.outputs",
    "UserError": "harness.errors",
    "load_instructions": "harness.instructions",
    "load_outputs": "harness.outputs",
    "rater_agreement": "harness.judging.sheets.agreement",
    "save_outputs": "harness.outputs",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)
