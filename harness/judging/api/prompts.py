"""Judge prompts: sandboxed Jinja files, and fences around every text a model wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.safe_text import POLICY, cut, neutralise
from implicit_if.harness.storage import sha256_json, sha256_text

FIRST, SECOND = "m", "M"
"""What the judge calls the two answers: alpaca-eval's identifiers."""


class Labels(NamedTuple):
    """The two verdicts a prompt asks for.

    Attributes:
        first: For the first answer, or that an answer attempts its instruction.
        second: For the second answer, or that it does not.
        parser: Version of the functions of `verdict_text` for these: part of the fingerprint of every judge that uses
            them.
        any_case: Whether capitals are the same label.
    """

    first: str
    second: str
    parser: str
    any_case: bool = False

    def of(self, word: str) -> str:
        """The label a word stands for; the word itself if it is none."""
        return word.lower() if self.any_case else word


PAIR = Labels(FIRST, SECOND, "verdict:v3")
ATTEMPT = Labels("yes", "no", "attempt:v1", any_case=True)

_FOLDER = Path(__file__).parent.parent / "prompts"


@dataclass(frozen=True)
class Prompt:
    """A prompt file: a Jinja template with a block `user` and, if wanted, a block `system`.

    The blocks see `instruction`, `first` and `second` (each already neutralised, cut and fenced), `fence`, `mode`
    ("logprobs" or "text") and the identifiers `first_label` and `second_label`. A prompt that shows `answer` instead
    of two asks whether that answer attempts the instruction.

    Attributes:
        name: Name or path as the user gave it.
        source: The template's text.
    """

    name: str
    source: str

    @property
    def identity(self) -> dict[str, str]:
        """What a fingerprint must hold about the prompt."""
        return {"sha256": sha256_text(self.source), "text_policy": POLICY}

    @property
    def pointwise(self) -> bool:
        """Whether it shows one answer."""
        return "answer" in self._names

    @property
    def labels(self) -> Labels:
        """The verdicts it asks for."""
        return ATTEMPT if self.pointwise else PAIR

    @property
    def texts(self) -> dict[str, str]:
        """The texts it shows, by their names in the template: the comparison's attribute."""
        return {"instruction": "instruction"} | (
            {"answer": "first"} if self.pointwise else {"first": "first", "second": "second"}
        )

    @cached_property
    def _names(self) -> set[str]:
        from jinja2 import Environment, meta

        _ = self._template  # a fault of the template is its message
        return set(meta.find_undeclared_variables(Environment(autoescape=True).parse(self.source)))

    @cached_property
    def _template(self) -> Any:
        from jinja2 import StrictUndefined, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        try:
            template = environment.from_string(self.source)
        except TemplateSyntaxError as error:
            raise UserError(f"prompt {self.name!r}, line {error.lineno}: {error.message}. Fix it.") from error
        if "user" not in template.blocks:
            raise UserError(
                f"prompt {self.name!r} has no block 'user'. Expected {{% block user %}}...{{% endblock %}}, and "
                f"{{% block system %}} if wanted; copy {_FOLDER / 'pairwise.jinja'} and change it."
            )
        return template

    def ask(self, comparison: Comparison, *, mode: str, max_chars: int) -> tuple[list[dict[str, str]], list[str]]:
        """The chat messages that put one comparison to a judge, and which texts were longer than the limit.

        Args:
            comparison: The instruction and the two answers, as the models wrote them.
            mode: "logprobs" or "text".
            max_chars: Characters kept of each text; what is cut is named.
        """
        texts, shortened = {}, []
        for name, attribute in self.texts.items():
            text, was_cut = cut(getattr(comparison, attribute), max_chars)
            texts[name] = neutralise(text)
            if was_cut:
                shortened.append(name)
        fence = _fence(texts)
        values = {name: f"<{name} {fence}>\n{text}\n</{name} {fence}>" for name, text in texts.items()}
        labels = {"first_label": self.labels.first, "second_label": self.labels.second}
        context = values | labels | {"fence": fence, "mode": mode}
        return [m for role in ("system", "user") if (m := self._message(role, context))], shortened

    def _message(self, role: str, context: dict[str, str]) -> dict[str, str] | None:
        from jinja2 import TemplateError

        block = self._template.blocks.get(role)
        if block is None:
            return None
        try:
            content = "".join(block(self._template.new_context(context))).strip()
        except (TemplateError, ArithmeticError, TypeError, ValueError) as error:
            raise UserError(f"prompt {self.name!r}, block {role!r}: {error}. Fix the template.") from error
        return {"role": role, "content": content}


def load_prompt(name: str) -> Prompt:
    """A shipped prompt by name, or a user's by path.

    Raises:
        UserError: If there is none, it is no Jinja template, or it does not show all texts.
    """
    shipped = {path.stem: path for path in _FOLDER.glob("*.jinja") if not path.stem.endswith(".html")}
    path = shipped.get(name) or Path(os.path.expanduser(name))
    if name not in shipped and not os.path.isfile(path):
        raise unknown_name("judge prompt", name, shipped, fix="Or give the path of a Jinja file.")
    try:
        prompt = Prompt(name, path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt {name!r}: cannot be read ({error}). Expected a Jinja file in UTF-8.") from error
    trial = Comparison("trial", "text-of-instruction", "text-of-first", "text-of-second")
    shown = "".join(m["content"] for m in prompt.ask(trial, mode="text", max_chars=100)[0])
    missing = [name for name, attribute in prompt.texts.items() if f"text-of-{attribute}" not in shown]
    if missing:
        raise UserError(f"prompt {name!r} does not show {', '.join(missing)}. Put {{{{ {missing[0]} }}}} into it.")
    return prompt


def _fence(texts: dict[str, str]) -> str:
    """A word in none of the texts: 16 hex digits of their hash, so that no answer can close its own fence."""
    fence = sha256_json(texts)[:16]
    while any(fence in text for text in texts.values()):
        fence = sha256_text(fence)[:16]
    return fence
