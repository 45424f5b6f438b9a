"""The systems of a chat: what a name stands for, models loaded once, and conversations as prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_if.harness.chat_templates import ChatTemplate, Message, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.generation import Prompt
from implicit_if.model_wrappers.rules.presets import Preset, customise, load_preset, preset_names

MODEL_TEMPLATE = "model"


@dataclass(frozen=True)
class System:
    """Something that answers.

    Attributes:
        name: What the user called it, and the type of its weights where it is not the usual one.
        lm: The wrapper of its model.
        rules: As in a request: None for none, `...` for the wrapper's own, or a preset.
        max_gen_toks: Tokens an answer may have.
    """

    name: str
    lm: Any
    rules: Any
    max_gen_toks: int


class Models:
    """Loads models when a system needs them, each once."""

    def __init__(self, model_args: str = "", max_gen_toks: int | None = None) -> None:
        """Loads nothing yet.

        Args:
            model_args: Of the base model, as lm-eval takes them; a tuned model gets those that are not about
                weights or rules.
            max_gen_toks: Tokens an answer may have; None is the wrapper's own number.
        """
        from lm_eval.utils import simple_parse_args_string

        self._arguments: dict[str, Any] = simple_parse_args_string(model_args)
        self._max_gen_toks = max_gen_toks
        self._loaded: dict[str | None, Any] = {}

    def systems(self, specs: str) -> list[System]:
        """The systems that a list of names stands for; presets are checked before a model is loaded.

        Args:
            specs: Names joined by commas: base, rules, rules:<preset>, a folder or a hub name.

        Raises:
            UserError: If a name is empty, comes twice or stands for nothing.
        """
        names = [name.strip() for name in specs.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"systems {specs!r}: found an empty name or one twice. Expected e.g. base,rules:paper.")
        parsed = [(name, *_parse(name)) for name in names]
        return [self._system(name, model, rules) for name, model, rules in parsed]

    def _system(self, name: str, model: str | None, rules: Any) -> System:
        if model not in self._loaded:
            self._loaded[model] = self._load(model)
        lm = self._loaded[model]
        lm.bound_rules(rules)  # a string without a token is to be found now
        return System(name + lm.name_suffix, lm, rules, self._max_gen_toks or lm.max_gen_toks)

    def _load(self, model: str | None) -> Any:
        from implicit_if.model_wrappers.rules_poe import RulesPoE

        arguments = dict(self._arguments)
        if model is not None:
            kept = {k: v for k, v in arguments.items() if k not in {"rules", "drop", "missing"} and "." not in k}
            arguments = kept | {"pretrained": model, "rules": None}
        return RulesPoE(**{"batch_size": 1} | arguments)


def _parse(name: str) -> tuple[str | None, Any]:
    """Model (None: the base model) and rules of a system's name."""
    if name == "base":
        return None, None
    if name == "rules":
        return None, ...
    if name.startswith("rules:"):
        return None, _preset(name.removeprefix("rules:"))
    return name, None


def _preset(spec: str) -> Preset:
    """A preset by name or path; `paper-eos` leaves the rule `eos` out, as a preset's changed name says it."""
    names = preset_names()
    head = max((name for name in names if spec.startswith(f"{name}-")), key=len, default=None)
    if spec in names or head is None:
        return load_preset(spec)
    return customise(load_preset(head), spec.removeprefix(f"{head}-").replace("-", "+"))


@dataclass(frozen=True)
class TurnTemplate:
    """How a conversation becomes a prompt.

    Attributes:
        template: None takes each model's own.
    """

    template: ChatTemplate | None

    @classmethod
    def load(cls, name: str) -> TurnTemplate:
        """By name; "model" is each model's own.

        Raises:
            UserError: If there is no such template.
        """
        return cls(None if name == MODEL_TEMPLATE else load_template(name))

    def prompt(self, lm: Any, messages: list[Message]) -> str:
        """The prompt of a conversation whose last turn is the user's.

        Raises:
            UserError: If the template cannot render it, or the model has none.
        """
        if self.template is not None:
            return self.template.render(messages, eos_token=lm.tokenizer.eos_token, add_generation_prompt=True)
        if lm.tokenizer.chat_template is None:
            raise UserError(
                f"--template model: {Path(str(lm.pretrained)).name} has no chat template of its own. "
                f"Expected e.g. --template tulu."
            )
        return Prompt.of(str(lm.apply_chat_template(messages)), [str(message["content"]) for message in messages])


def answer_prefixes(system: System, prompt: str, choices: list[Any]) -> Iterator[tuple[str, bool]]:
    """Streams an answer: its text so far and whether it ended by itself, after each token.

    Args:
        system: Who answers.
        prompt: The whole prompt.
        choices: Filled with every step.
    """
    from implicit_if.model_wrappers.chat.streaming import GrowingText, stream_choices

    text = GrowingText(system.lm.tokenizer, set(system.lm.eos_ids.tolist()))
    for choice in stream_choices(system.lm, prompt, system.rules, system.max_gen_toks):
        choices.append(choice)
        text.add(choice.token)
        yield text.text, text.ended
    yield text.close(), text.ended
