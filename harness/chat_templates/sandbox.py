"""Where chat templates run: Jinja's immutable sandbox with what Hugging Face templates expect to find."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

GENERATION_MARK = "generation_mark"
"""Template variable holding the text that is put on both sides of each `{% generation %}` block; absent for none."""


class GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`: what the model is trained to write, as in Hugging Face templates."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares a plain attribute

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_surround", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _surround(self, context: Context, caller: Callable[[], str]) -> str:
        mark = context.get(GENERATION_MARK, "")
        return f"{mark}{caller()}{mark}"


@functools.lru_cache(maxsize=64)
def compile_template(source: str) -> jinja2.Template:
    """Compiles a template with the whitespace rules, extensions and helpers of Hugging Face's renderer.

    `strftime_now` is missing on purpose: a prompt must not depend on the day it is rendered.

    Raises:
        jinja2.TemplateSyntaxError: If the source is not a template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(source)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as it is; Jinja's own filter would escape HTML characters."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
