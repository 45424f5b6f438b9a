"""The kinds of systems, once: their order on boards, labels, colours and the model classes that make them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["base", "rules", "instruction", "response", "single_task", "urial", "proxy", "control", "other"]


class SystemKind(NamedTuple):
    """What is the same for all systems of a kind.

    Attributes:
        label: For readers, in few words.
        colour: In figures and on the page.
        models: lm-eval's model classes that make such systems, where a class is enough to tell.
    """

    label: str
    colour: str
    models: tuple[str, ...] = ()


SYSTEM_KINDS: dict[Kind, SystemKind] = {
    "base": SystemKind("base", "#5b6474"),
    "rules": SystemKind("rules", "#0b6e4f", ("rules_poe", "rules_poe_vllm")),
    "single_task": SystemKind("single task", "#b35c00"),
    "response": SystemKind("response tuning", "#1d5fa8"),
    "instruction": SystemKind("instruction tuning", "#7a3e9d"),
    "urial": SystemKind("URIAL", "#8a6d00", ("urial",)),
    "proxy": SystemKind("proxy tuning", "#a8325e", ("proxy_tuned",)),
    "other": SystemKind("other", "#3f6f78"),
    "control": SystemKind("control", "#8a93a5"),
}
"""By kind, in the order of rows."""


def kind_of_model(model: str | None) -> Kind | None:
    """The kind that lm-eval's model class makes; None if the class alone does not tell."""
    return next((kind for kind, known in SYSTEM_KINDS.items() if model in known.models), None)
