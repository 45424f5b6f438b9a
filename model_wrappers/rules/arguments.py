"""The rules' arguments of a wrapper, and its rules bound to its tokenizer."""

from __future__ import annotations

import difflib
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_json
from implicit_if.model_wrappers.identity import Identity
from implicit_if.model_wrappers.rules.presets import Preset, customise, load_preset, preset_names
from implicit_if.model_wrappers.rules.product import BoundRules


class WithRules(Identity):
    """Mixed into a model class of lm-eval: reads `rules=`, `drop=`, `missing=` and `<rule>.<option>=`.

    Attributes:
        preset: The wrapper's own rules.
        rules: The same, bound.
    """

    preset: Preset
    rules: BoundRules

    def read_rules(self, rules: Any, drop: str | None, missing: str, kwargs: dict[str, Any]) -> None:
        """Checks the rules, before the model is loaded; takes the keys that hold a dot out of `kwargs`.

        Raises:
            UserError: On any fault in them.
        """
        for key in kwargs:
            if near := difflib.get_close_matches(key, ("rules", "drop", "missing"), n=1, cutoff=0.8):
                raise UserError(f"unknown model argument {key!r}. Did you mean {near[0]!r}?")
        overrides = {key: kwargs.pop(key) for key in list(kwargs) if "." in key}
        if missing not in {"note", "error", "ignore"}:
            raise UserError(f"missing={missing}: expected 'note', 'error' or 'ignore'.")
        self.preset = customise(load_preset(rules), drop, overrides)
        self._missing = missing
        self._bound: dict[str | None, BoundRules] = {}
        self._noted: set[tuple[str, ...]] = set()

    @property
    def head_width(self) -> int | None:
        """Tokens that the model can predict; None if that is not known."""
        return None

    def bind(self, preset: Preset) -> BoundRules:
        """The preset's rules with the ids of this model's tokenizer."""
        tokenizer, eos = self.tokenizer, list(self.eos_ids)  # type: ignore[attr-defined]
        bound = BoundRules.bind(preset, tokenizer, map(int, eos), missing=self._missing, width=self.head_width)
        if bound.missing and tuple(bound.missing) not in self._noted:
            self._noted.add(tuple(bound.missing))
            print(
                f"note: rules: no token for {', '.join(map(repr, bound.missing))}: left out (missing={self._missing})"
            )
        if bound.prompt_after is not None and not tokenizer.is_fast:
            raise UserError("rules that look at the prompt need a fast tokenizer; use rules=paper.")
        if bound.prompt_after is not None and (self.head_width or len(tokenizer)) < len(tokenizer):
            raise UserError(
                f"rules that look at the prompt need an output for each of the tokenizer's {len(tokenizer)} tokens, "
                f"and the model has {self.head_width}; use rules=paper."
            )
        return bound

    def bound_rules(self, spec: Any = ...) -> BoundRules:
        """The rules that a request names.

        Args:
            spec: A `Preset`, a preset's name or path, or None for no rules; `...` for the wrapper's own.

        Raises:
            UserError: If there is no such preset, or a string of it is no single token.
        """
        if spec is ...:
            return self.rules
        if isinstance(spec, str) and spec not in (None, *preset_names()) and self._keeps_requests:
            raise UserError(
                f"--use_cache: its keys hold the path rules={spec} and not the file's rules. Give the file with "
                f"--model_args rules={spec}, or leave --use_cache out."
            )
        key = spec.sha256 if isinstance(spec, Preset) else spec
        if key not in self._bound:
            self._bound[key] = self.bind(spec if isinstance(spec, Preset) else load_preset(spec))
        return self._bound[key]

    def describe(self, rules: Any = ...) -> dict[str, Any]:
        """The preset with its changes and the number of strings left out, and a hash of what it does."""
        bound = self.bound_rules(rules)
        preset, name, digest = bound.preset, bound.preset.name, bound.preset.sha256
        left_out = {"missing": list(bound.missing)} if bound.missing else {}
        if left_out:
            name, digest = f"{name},missing={len(bound.missing)}", sha256_json([digest, left_out["missing"]])
        return {"product": f"rules:{name}@{digest[:8]}", "system": preset.as_data() | left_out}

    def get_model_info(self) -> dict[str, Any]:
        """Adds the strings for which the tokenizer has no token."""
        return super().get_model_info() | {"rules_missing": list(self.rules.missing)}
