"""What shaped answers beside the system itself, as signatures tell it: system instruction, template, limits, dtype."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from implicit_if.harness.errors import UserError
from implicit_if.harness.outputs import OutputsMeta
from implicit_if.harness.storage import sha256_json, sha256_text

LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm-eval's names of the limit on an answer's tokens; the first that is given counts."""
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed")
"""Generation arguments that greedy decoding ignores."""

_FIELDS = {"sys": "system_instruction", "tpl": "template", "gen": "generation", "dtype": "dtype"}
_NOT_DECODING = ("dtype", "rules", "system_instruction")
_VALUE = re.compile(r"[^|\s\x00-\x1f\x7f]+")
_PLAIN = re.compile(r"[A-Za-z0-9._+-]{1,24}")


@dataclass(frozen=True, order=True)
class AnswerSettings:
    """Settings of a run that all its answers share; what is not known, or was not there, is empty.

    Attributes:
        system_instruction: First 8 hex digits of the sha256 of the system instruction.
        template: The chat template's name and the first 8 hex digits of its hash, e.g. "tulu@f96a4d3f"; "model" is
            the model's own.
        generation: How tokens were chosen, how many at most, and what else was set, e.g. "greedy,256" or
            "sampled,512,seed=1234,temperature=0.7".
        dtype: The type of the model's weights, e.g. "float32".
    """

    system_instruction: str = ""
    template: str = ""
    generation: str = ""
    dtype: str = ""

    def __post_init__(self) -> None:
        for name in _FIELDS.values():
            if (value := getattr(self, name)) and not _VALUE.fullmatch(value):
                raise UserError(f"signature: {name} is {value!r}. Expected text without '|' and white space.")
        if self.system_instruction and not re.fullmatch(r"[0-9a-f]{8}", self.system_instruction):
            raise UserError(f"signature: system_instruction is {self.system_instruction!r}, expected 8 hex digits.")

    @classmethod
    def of(
        cls,
        template: Mapping[str, Any] | None = None,
        generation: Mapping[str, Any] | None = None,
        system_instruction: str | None = None,
        dtype: Any = None,
    ) -> AnswerSettings:
        """The settings from what a run records.

        Args:
            template: `name` and, where known, `sha256` of the chat template.
            generation: lm-eval's generation arguments; empty: not known.
            system_instruction: The text that stood before every prompt.
            dtype: The weights' type or its name, e.g. "torch.float32".
        """
        name, digits = (str((template or {}).get(key) or "") for key in ("name", "sha256"))
        return cls(
            system_instruction="" if system_instruction is None else sha256_text(system_instruction)[:8],
            template=_quoted(name) + (f"@{_quoted(digits[:8])}" if name and digits else ""),
            generation=_decoding(generation or {}),
            dtype=_quoted(str(dtype or "").removeprefix("torch.")),
        )

    @classmethod
    def of_meta(cls, meta: OutputsMeta | None) -> AnswerSettings:
        """The settings that a sidecar of outputs tells; none is nothing known."""
        if meta is None:
            return cls()
        told = (meta.model_extra or {}).get("system_instruction")
        dtype = meta.model.get("model_dtype") or meta.model.get("dtype")
        return cls.of(meta.template, meta.generation, told if isinstance(told, str) else None, dtype)

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> AnswerSettings:
        """The settings from a signature's fields, by their short names."""
        return cls(**{attribute: fields.get(name, "") for name, attribute in _FIELDS.items()})

    @property
    def fields(self) -> list[str]:
        """The signature's fields, in its order; what is empty is left out."""
        return [f"{name}:{value}" for name, attribute in _FIELDS.items() if (value := getattr(self, attribute))]

    @property
    def of_table(self) -> AnswerSettings:
        """What all systems of a table share: everything but the type of the weights, which a system's name tells."""
        return replace(self, dtype="")


FIELD_NAMES = tuple(_FIELDS)
"""The fields of a signature that hold these settings, in their order."""
NOTHING_KNOWN = AnswerSettings()
"""Of answers whose making is not recorded."""


def _decoding(arguments: Mapping[str, Any]) -> str:
    """Generation arguments in one canonical form; what has no effect is left out."""
    given = {str(k): v for k, v in arguments.items() if v not in (None, [], "") and k not in _NOT_DECODING}
    limits = [given.pop(name) for name in LIMITS if name in given]
    sampled = _flag(given.pop("do_sample", (given.get("temperature") or 0) not in (0, "0", "0.0")))
    if given.get("num_beams") == 1:
        del given["num_beams"]
    kept = {k: v for k, v in given.items() if sampled or k not in SAMPLING}
    if not arguments or not (limits or kept or "do_sample" in arguments):
        return ""
    return ",".join(
        [
            "sampled" if sampled else "greedy",
            *(_plain(limit) for limit in limits[:1]),
            *(f"{_plain(k)}={_plain(kept[k])}" for k in sorted(kept)),
        ]
    )


def _flag(value: Any) -> bool:
    return value.lower() == "true" if isinstance(value, str) else bool(value)


def _plain(value: Any) -> str:
    """A number or word as it is, anything else as 8 digits of its hash."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else sha256_json(value)[:8]


def _quoted(text: str) -> str:
    return quote(text, safe="/+~:,()")
