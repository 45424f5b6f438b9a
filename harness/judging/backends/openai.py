"""The judge `openai:<model>`: any server that speaks OpenAI's chat completions, one letter weighed by its logprobs.

With logprobs, the verdict is P(m) / (P(m) + P(M)) at the first token that is not blank (the weighted protocol of
AlpacaEval 2, Dubois et al. 2024); without, a strict text verdict. One run never mixes the two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.api.endpoint import Endpoint, check_url, make_endpoint, read_key
from implicit_if.harness.judging.api.faults import Malformed, Rejected
from implicit_if.harness.judging.api.llm_judge import LLMJudge, Question, Reading, try_one
from implicit_if.harness.judging.api.options import ApiOptions, merge_body, most_tokens, parse_options, prices_for
from implicit_if.harness.judging.api.prompts import Labels, Prompt, load_prompt
from implicit_if.harness.judging.api.verdict_text import (
    TEXT_REMEDY,
    letter_of,
    no_verdict,
    parse_text,
    weigh_letters,
)
from implicit_if.harness.judging.protocol import Comparison, Estimate, Judge, JudgeError, Verdict

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"

logger = logging.getLogger(__name__)

_PROBE = Comparison("probe", "What is two plus two?", "Four.", "Five.")
_MAX_TOKENS = {"logprobs": 4, "text": 512}
_REMEDIES = {
    "logprobs": "A model that thinks or talks first needs logprobs=text; else change the prompt, or lower min_mass.",
    "text": TEXT_REMEDY,
}


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
        most = options.max_tokens or _MAX_TOKENS[mode]
        settings = {"model": model, "temperature": options.temperature, "max_tokens": most}
        if mode == "logprobs":
            settings |= {"logprobs": True, "top_logprobs": options.top_logprobs}
        self._settings = merge_body(settings, options.body)
        self.remedy = _REMEDIES[mode]

    @property
    def identity(self) -> dict[str, Any]:
        """What a fingerprint must hold."""
        return {
            "judge": "openai",
            "settings": self._settings,
            "mode": self._mode,
            "min_mass": self._options.min_mass if self._mode == "logprobs" else None,
            "prompt": self._prompt.identity,
            "parser": self._prompt.labels.parser,
            "max_chars": self._options.max_chars,
            "revision": self._options.revision,
        }

    def question(self, comparison: Comparison) -> Question:
        """The request that asks about a comparison."""
        messages, cut = self._prompt.ask(comparison, mode=self._mode, max_chars=self._options.max_chars)
        text = "\n".join(m["content"] for m in messages)
        return Question({**self._settings, "messages": messages}, text, most_tokens(self._settings), cut)

    def reading(self, content: dict[str, Any]) -> Reading:
        """What an answer says."""
        choice = first_choice(content)
        text = choice["text"]
        raw = {"said": text, "finish_reason": choice["finish_reason"], "model": content.get("model")}
        if error := no_verdict(choice["finish_reason"], may_be_cut=self._mode == "logprobs"):
            return Reading(None, error, raw)
        if self._mode == "text":
            return Reading(*parse_text(text, self._prompt.labels), raw)
        alternatives = first_alternatives(choice)
        if alternatives is None:
            error = "the answer has no logprobs. Use logprobs=text, or a server and model that give them"
            return Reading(None, error, raw, hopeless=True)
        labels = self._prompt.labels
        prefers_first, error = weigh_letters(alternatives, self._options.min_mass, labels)
        return Reading(prefers_first, error, raw | {"top_logprobs": _kept(alternatives, labels)})


class AutoJudge:
    """`logprobs=auto`: weighted letters if the server can give them, else text; see `Judge`.

    The server is asked when the fingerprint is wanted and nothing has settled it.

    Attributes:
        name: As of both modes.
        ordered: False if it decides about single answers.
        pointwise: See `Judge`.
        paid: True if a verdict may cost money.
    """

    def __init__(self, weighted: LLMJudge, text: LLMJudge) -> None:
        self._weighted, self._text = weighted, text
        self._chosen: LLMJudge | None = None
        self.name, self.paid = weighted.name, weighted.paid
        self.ordered, self.pointwise = weighted.ordered, weighted.pointwise

    @property
    def candidates(self) -> tuple[Judge, ...]:
        """Both modes, or the one that was chosen."""
        return (self._weighted, self._text) if self._chosen is None else (self._chosen,)

    def check_ready(self) -> None:
        """See `LLMJudge.check_ready`."""
        self._text.check_ready()

    def settle(self, candidate: Judge) -> None:
        """See `Judge`."""
        self._chosen = self._weighted if candidate is self._weighted else self._text
        kind = "weighted (logprobs=required)" if candidate is self._weighted else "read as text (logprobs=text)"
        logger.warning("judge %s: verdicts are %s", self.name, kind)

    def probe(self) -> float | None:
        """Asks a trial question in one mode, and in the other if that gives no verdict; see `Judge`."""
        logger.warning("judge %s: asking the server by one or two small calls whether it gives logprobs", self.name)
        costs: list[float | None] = []
        obstacles = []
        for judge, option in ((self._weighted, "required"), (self._text, "text")):
            answer = try_one(judge, _PROBE)
            if isinstance(answer, Rejected):
                obstacles.append(f"with logprobs={option} it {answer}")
                continue
            reading, cost = answer
            costs.append(cost)
            if reading.prefers_first is not None:
                self.settle(judge)
                known = [cost for cost in costs if cost is not None]
                return sum(known) if known else None
            obstacles.append(f"with logprobs={option}, {reading.error}")
        raise JudgeError(
            f"judge {self.name}: the server gave no verdict on a trial question: {'; '.join(obstacles)}. Change the "
            f"options (a larger max_tokens, another prompt), or set logprobs=text or required to ask all the same."
        )

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        """See `LLMJudge.judge`."""
        return self._settled().judge(comparisons)

    def estimate(self, comparisons: Iterable[Comparison]) -> Estimate:
        """See `LLMJudge.estimate`."""
        return self._settled().estimate(comparisons)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the mode that was chosen."""
        return self._settled().fingerprint

    def _settled(self) -> LLMJudge:
        if self._chosen is None:
            self.probe()
        assert self._chosen is not None
        return self._chosen


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
        return LLMJudge(name, dialect.identity, endpoint, chosen.limits, prices, dialect, pointwise=prompt.pointwise)

    if chosen.logprobs == "auto":
        return AutoJudge(judge("logprobs"), judge("text"))
    return judge("logprobs" if chosen.logprobs == "required" else "text")


def build_attempts(argument: str | None, options: Mapping[str, Any]) -> LLMJudge | AutoJudge:
    """The judge of attempts: the same with the prompt `attempts`, unless another is given."""
    return build(argument, {"prompt": "attempts", **options})


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
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        StopIteration,
        RecursionError,
        yaml.YAMLError,
    ) as error:
        raise UserError(
            f"OPENAI_CLIENT_CONFIG_PATH={path}: no client for {model!r} in it ({type(error).__name__}). "
            f"Expected alpaca-eval's format, `default: [{{base_url: ..., api_key: ...}}]`; or unset the variable."
        ) from None
    if client.get("client_class", "openai.OpenAI") != "openai.OpenAI":
        raise UserError(f"OPENAI_CLIENT_CONFIG_PATH={path}: client_class {client['client_class']!r} is not supported.")
    return {name: str(client[name]) for name in ("base_url", "api_key", "organization") if client.get(name)}


def first_choice(content: dict[str, Any]) -> dict[str, Any]:
    """The first choice of a completion, with its text as `text`; the texts of several parts are joined.

    Its `finish_reason` is "refusal" where the message says so by a field of its own.

    Raises:
        Malformed: If there is none.
    """
    try:
        choice = dict(content["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        raise Malformed("no choices") from None
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(text, list):
        text = text_parts(text)
    if not isinstance(text, str | None):
        raise Malformed("the choice's content is no text")
    refused = isinstance(message, dict) and message.get("refusal") and not text
    return choice | {"text": text or "", "finish_reason": "refusal" if refused else choice.get("finish_reason")}


def text_parts(parts: list[Any]) -> str:
    """The texts of an answer in several parts, joined; thoughts and calls are left out."""
    texts = (p.get("text") for p in parts if isinstance(p, dict) and p.get("type") in ("text", "output_text"))
    return "".join(text for text in texts if isinstance(text, str))


def _kept(alternatives: list[tuple[str, float]], labels: Labels) -> dict[str, float]:
    """The first five, and every label after them, so that the verdict can be computed again."""
    kept = enumerate(alternatives)
    return {token: p for i, (token, p) in kept if i < 5 or labels.of(letter_of(token)) in labels[:2]}


def first_alternatives(choice: dict[str, Any]) -> list[tuple[str, float]] | None:
    """Alternatives, with their logprobs, to the first token that is not blank; None if the answer has no logprobs."""
    try:
        tokens = choice["logprobs"]["content"]
        token = next((t for t in tokens if t["token"].strip()), tokens[0])
        return [(str(t["token"]), float(t["logprob"])) for t in token["top_logprobs"]] or None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
