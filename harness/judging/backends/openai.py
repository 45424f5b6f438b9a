"""The judge `openai:<model>`: any server that speaks OpenAI's chat completions, one letter weighed by its logprobs.

With logprobs, the verdict is P(m) / (P(m) + P(M)) at the first token that is not blank (the weighted protocol of
AlpacaEval 2, Dubois et al. 2024); without, a strict text verdict. One run never mixes the two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends._llm import (
    PARSER,
    LLMJudge,
    Question,
    Reading,
    parse_text,
    try_one,
    weigh_letters,
)
from implicit_if.harness.judging.backends._options import (
    ApiOptions,
    make_endpoint,
    parse_options,
    prices_for,
    read_key,
)
from implicit_if.harness.judging.backends._prompts import Prompt, load_prompt
from implicit_if.harness.judging.client import Endpoint, check_url
from implicit_if.harness.judging.faults import Malformed, Rejected
from implicit_if.harness.judging.protocol import Comparison, Estimate, JudgeError, Verdict

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

logger = logging.getLogger(__name__)

_PROBE = Comparison("probe", "What is two plus two?", "Four.", "Five.")
_MAX_TOKENS = {"logprobs": 4, "text": 512}


class OpenAIOptions(ApiOptions):
    """Options of `openai:<model>`, beside those of every API judge.

    Attributes:
        logprobs: "required" (weighted letters), "text", or "auto", which asks the server once which it can do.
        prompt: A shipped prompt's name or the path of a Jinja file.
        temperature: Sampling temperature.
        max_tokens: The most tokens the judge may write; by default 4 with logprobs, 512 without.
        top_logprobs: Alternatives asked for at each token.
        min_mass: The least probability both letters must have together.
    """

    logprobs: Literal["auto", "required", "text"] = "auto"
    prompt: str = "pairwise"
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    top_logprobs: int = Field(default=20, ge=2, le=20)
    min_mass: float = Field(default=0.1, ge=0, le=1)


class ChatDialect:
    """Chat completions, in one of the two modes."""

    def __init__(self, model: str, mode: Literal["logprobs", "text"], options: OpenAIOptions, prompt: Prompt) -> None:
        self._mode, self._options, self._prompt = mode, options, prompt
        self._max_tokens = options.max_tokens or _MAX_TOKENS[mode]
        settings = {"model": model, "temperature": options.temperature, "max_tokens": self._max_tokens}
        if mode == "logprobs":
            settings |= {"logprobs": True, "top_logprobs": options.top_logprobs}
        self._settings = merge_body(settings, options.body)

    @property
    def identity(self) -> dict[str, Any]:
        """What a fingerprint must hold."""
        return {
            "judge": "openai",
            "settings": self._settings,
            "mode": self._mode,
            "min_mass": self._options.min_mass if self._mode == "logprobs" else None,
            "prompt": self._prompt.identity,
            "parser": PARSER,
            "max_chars": self._options.max_chars,
            "revision": self._options.revision,
        }

    def question(self, comparison: Comparison) -> Question:
        """The request that asks about a comparison."""
        asked = self._prompt.ask(comparison, mode=self._mode, max_chars=self._options.max_chars)
        text = "\n".join(m["content"] for m in asked.messages)
        return Question({**self._settings, "messages": asked.messages}, text, self._max_tokens, asked.cut)

    def reading(self, content: dict[str, Any]) -> Reading:
        """What an answer says."""
        choice = first_choice(content)
        text = choice["text"]
        raw = {"said": text, "finish_reason": choice.get("finish_reason"), "model": content.get("model")}
        tokens = token_counts(content, "prompt_tokens", "completion_tokens")
        if self._mode == "text":
            prefers_first, error = parse_text(text)
            return Reading(prefers_first, error, raw, *tokens)
        alternatives = first_alternatives(choice)
        if alternatives is None:
            error = "the answer has no logprobs. Use logprobs=text, or a server and model that give them"
            return Reading(None, error, raw, *tokens, hopeless=True)
        prefers_first, error = weigh_letters(alternatives, self._options.min_mass)
        return Reading(prefers_first, error, raw | {"top_logprobs": dict(alternatives[:5])}, *tokens)


class AutoJudge:
    """`logprobs=auto`: finds out by one call which mode the server can do, when the fingerprint is first asked for.

    Attributes:
        name: As of both modes.
        ordered: Always True.
        paid: True if a verdict may cost money.
    """

    def __init__(self, weighted: LLMJudge, text: LLMJudge) -> None:
        self._weighted, self._text = weighted, text
        self.name, self.ordered, self.paid = weighted.name, True, weighted.paid

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """See `LLMJudge.judge`."""
        return self.chosen.judge(comparisons)

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """See `LLMJudge.estimate`."""
        return self.chosen.estimate(comparisons)

    def without_asking(self) -> LLMJudge:
        """The judge by text, the dearer mode, unless it is known already which mode the server can do."""
        if "chosen" in self.__dict__:
            return self.chosen
        logger.warning(
            "judge %s: whether the server gives logprobs is not asked now; the estimate is for text verdicts, the "
            "dearer, and counts stored ones of that kind only. Set logprobs=required or text for an exact one",
            self.name,
        )
        return self._text

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the mode that was found."""
        return self.chosen.fingerprint

    @cached_property
    def chosen(self) -> LLMJudge:
        """The judge in the mode the server can do.

        Raises:
            JudgeError: If the server refuses both.
        """
        logger.warning("judge %s: asking the server by one or two small calls whether it gives logprobs", self.name)
        weighted = try_one(self._weighted, _PROBE)
        if isinstance(weighted, Reading) and not weighted.hopeless:
            logger.warning("judge %s: the server gives logprobs: verdicts are weighted (logprobs=required)", self.name)
            return self._weighted
        text = try_one(self._text, _PROBE)
        if isinstance(text, Rejected):
            raise JudgeError(f"judge {self.name}: the server refuses every request: {text}. Mend the options.")
        logger.warning("judge %s: the server gives no logprobs: verdicts are read as text (logprobs=text)", self.name)
        return self._text


def build(argument: str | None, options: Mapping[str, Any]) -> LLMJudge | AutoJudge:
    """The judge.

    Args:
        argument: The model's name.
        options: See `OpenAIOptions`.

    Raises:
        UserError: If an option is wrong or the key is missing.
    """
    if not argument:
        raise UserError("judge 'openai' needs a model. Use e.g. openai:gpt-4.1-mini.")
    name = f"openai:{argument}"
    chosen = parse_options(OpenAIOptions, name, options)
    prompt = load_prompt(chosen.prompt)
    endpoint = openai_endpoint(argument, "/chat/completions", chosen)
    prices = prices_for(argument, chosen, local=endpoint.is_local)

    def judge(mode: Literal["logprobs", "text"]) -> LLMJudge:
        dialect = ChatDialect(argument, mode, chosen, prompt)
        return LLMJudge(name, dialect.identity, endpoint, chosen.limits, prices, dialect)

    if chosen.logprobs == "auto":
        return AutoJudge(judge("logprobs"), judge("text"))
    return judge("logprobs" if chosen.logprobs == "required" else "text")


def openai_endpoint(model: str, path: str, options: ApiOptions) -> Endpoint:
    """Where and as whom to ask an OpenAI-compatible server.

    The address is the option `base_url`, else that of the file `$OPENAI_CLIENT_CONFIG_PATH` (alpaca-eval's format),
    else `$OPENAI_BASE_URL`, else OpenAI. The key is that file's where the file gives the address, else the
    environment's.
    """
    config = {} if options.base_url else _client_config(model)
    variable = options.key_env or KEY_VARIABLE
    base_url = options.base_url or config.get("base_url") or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    key = config.get("api_key") or read_key(variable)
    source = os.environ.get("OPENAI_CLIENT_CONFIG_PATH", variable) if config.get("api_key") else variable
    headers = {"authorization": "Bearer {key}"}
    if organization := config.get("organization"):
        headers["openai-organization"] = organization
    return make_endpoint(check_url(base_url, "base_url"), path, key, source, headers)


def _client_config(model: str) -> dict[str, str]:
    """The first client of a model, or of "default", in the file `$OPENAI_CLIENT_CONFIG_PATH`; empty if it is unset."""
    path = os.environ.get("OPENAI_CLIENT_CONFIG_PATH")
    if not path:
        return {}
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        clients = content.get(model) or content["default"]
        client = dict(next(c for c in [*clients, *content.get("default", [])] if c != "default"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration, yaml.YAMLError) as error:
        raise UserError(
            f"OPENAI_CLIENT_CONFIG_PATH={path}: no client for {model!r} in it ({type(error).__name__}). "
            f"Expected alpaca-eval's format, `default: [{{base_url: ..., api_key: ...}}]`; or unset the variable."
        ) from None
    if client.get("client_class", "openai.OpenAI") != "openai.OpenAI":
        raise UserError(f"OPENAI_CLIENT_CONFIG_PATH={path}: client_class {client['client_class']!r} is not supported.")
    return {name: str(client[name]) for name in ("base_url", "api_key", "organization") if client.get(name)}


def merge_body(settings: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the extra fields; a field that is null is dropped."""
    return {name: value for name, value in {**settings, **extra}.items() if value is not None}


def first_choice(content: dict[str, Any]) -> dict[str, Any]:
    """The first choice of a completion, with its text as `text`.

    Raises:
        Malformed: If there is none.
    """
    try:
        choice = dict(content["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        raise Malformed("no choices") from None
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str | None):
        raise Malformed("the choice's content is no text")
    return choice | {"text": text or ""}


def first_alternatives(choice: dict[str, Any]) -> list[tuple[str, float]] | None:
    """Alternatives, with their logprobs, to the first token that is not blank; None if the answer has no logprobs."""
    try:
        tokens = choice["logprobs"]["content"]
        token = next((t for t in tokens if t["token"].strip()), tokens[0])
        return [(str(t["token"]), float(t["logprob"])) for t in token["top_logprobs"]] or None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def token_counts(content: dict[str, Any], read: str, written: str) -> tuple[float | None, float | None]:
    """Tokens read and written, as the server counts them; None where it does not."""
    usage = content.get("usage")
    values = [usage.get(name) if isinstance(usage, dict) else None for name in (read, written)]
    counts = [float(v) if isinstance(v, int | float) and v >= 0 else None for v in values]
    return counts[0], counts[1]
