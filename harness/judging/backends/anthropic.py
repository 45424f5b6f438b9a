"""The judge `anthropic:<model>`: Anthropic's messages API, which gives no logprobs, by a strict text verdict."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.endpoint import Endpoint, check_url, make_endpoint, read_key
from implicit_if.harness.judging.api.faults import Malformed
from implicit_if.harness.judging.api.llm_judge import LLMJudge, Question, Reading
from implicit_if.harness.judging.api.options import ApiOptions, merge_body, most_tokens, parse_options, prices_for
from implicit_if.harness.judging.api.prompts import Prompt, load_prompt
from implicit_if.harness.judging.api.verdict_text import TEXT_REMEDY, no_verdict, parse_text
from implicit_if.harness.judging.backends.openai import text_parts
from implicit_if.harness.judging.protocol import Comparison

ANTHROPIC_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
API_VERSION = "2023-06-01"


class AnthropicOptions(ApiOptions):
    """Options of `anthropic:<model>`, beside those of every API judge.

    Attributes:
        prompt: A shipped prompt's name or the path of a Jinja file.
        temperature: Sampling temperature.
        max_tokens: The most tokens the judge may write.
    """

    prompt: str = "pairwise"
    temperature: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=512, ge=1)


class MessagesDialect:
    """The messages API."""

    remedy = TEXT_REMEDY

    def __init__(self, model: str, options: AnthropicOptions, prompt: Prompt) -> None:
        self._options, self._prompt = options, prompt
        settings = {"model": model, "temperature": options.temperature, "max_tokens": options.max_tokens}
        self._settings = merge_body(settings, options.body)

    @property
    def identity(self) -> dict[str, Any]:
        """What a fingerprint must hold."""
        return {
            "judge": "anthropic",
            "settings": self._settings,
            "prompt": self._prompt.identity,
            "parser": self._prompt.labels.parser,
            "max_chars": self._options.max_chars,
            "revision": self._options.revision,
        }

    def question(self, comparison: Comparison) -> Question:
        """The request that asks about a comparison."""
        messages, cut = self._prompt.ask(comparison, mode="text", max_chars=self._options.max_chars)
        text = "\n".join(m["content"] for m in messages)
        return Question(self._settings | as_messages(messages), text, most_tokens(self._settings), cut)

    def reading(self, content: dict[str, Any]) -> Reading:
        """What an answer says."""
        text = joined_text(content)
        raw = {"said": text, "finish_reason": content.get("stop_reason"), "model": content.get("model")}
        error = no_verdict(content.get("stop_reason"))
        return Reading(None, error, raw) if error else Reading(*parse_text(text, self._prompt.labels), raw)


def build(argument: str | None, options: Mapping[str, Any]) -> LLMJudge:
    """The judge.

    Args:
        argument: The model's name.
        options: See `AnthropicOptions`.

    Raises:
        UserError: If an option is wrong or the key is missing.
    """
    if not argument:
        raise UserError("judge 'anthropic' needs a model. Use e.g. anthropic:claude-sonnet-4-5.")
    name = f"anthropic:{argument}"
    chosen = parse_options(AnthropicOptions, name, options)
    endpoint = anthropic_endpoint(chosen)
    prompt = load_prompt(chosen.prompt)
    dialect = MessagesDialect(argument, chosen, prompt)
    prices = prices_for(argument, chosen, local=endpoint.is_local)
    return LLMJudge(name, dialect.identity, endpoint, chosen.limits, prices, dialect, pointwise=prompt.pointwise)


def build_attempts(argument: str | None, options: Mapping[str, Any]) -> LLMJudge:
    """The judge of attempts: the same with the prompt `attempts`, unless another is given."""
    return build(argument, {"prompt": "attempts", **options})


def anthropic_endpoint(options: ApiOptions) -> Endpoint:
    """Where and as whom to ask: the option `base_url`, else `$ANTHROPIC_BASE_URL`, else Anthropic."""
    base_url = options.base_url or os.environ.get("ANTHROPIC_BASE_URL") or ANTHROPIC_URL
    variable = options.key_env or KEY_VARIABLE
    headers = {"x-api-key": "{key}", "anthropic-version": API_VERSION}
    root = check_url(base_url, "base_url").removesuffix("/v1")
    return make_endpoint(root, "/v1/messages", read_key(variable), variable, headers)


def as_messages(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Chat messages in this API's form: the system's text stands apart."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    others = [m for m in messages if m["role"] != "system"]
    return {"messages": others} | ({"system": system} if system else {})


def joined_text(content: dict[str, Any]) -> str:
    """The text blocks of an answer, joined.

    Raises:
        Malformed: If the answer has no list of blocks.
    """
    blocks = content.get("content")
    if not isinstance(blocks, list):
        raise Malformed("no content")
    return text_parts(blocks)
