"""The judge `alpaca_eval:<annotator>`: alpaca-eval's own prompt and parser, asked through our client and runner.

`weighted_alpaca_eval_gpt4_turbo` is the judge of the paper (Hewitt et al. 2024, section 3). Of alpaca-eval 0.6.6,
prompts, settings and parsers are used; its order, cache, retries and threads are not.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.alpaca_eval_annotators import (
    PADDING,
    SLOTS,
    Annotator,
    as_chat,
    fill,
    load_annotator,
    packaged_annotator,
)
from implicit_if.harness.judging.api.endpoint import Endpoint
from implicit_if.harness.judging.api.llm_judge import LLMJudge, Question, Reading
from implicit_if.harness.judging.api.options import (
    ApiOptions,
    Prices,
    merge_body,
    most_tokens,
    parse_options,
    prices_for,
)
from implicit_if.harness.judging.api.verdict_text import no_verdict, read_record
from implicit_if.harness.judging.backends.anthropic import anthropic_endpoint, as_messages, joined_text
from implicit_if.harness.judging.backends.openai import first_choice, openai_endpoint
from implicit_if.harness.judging.protocol import Comparison
from implicit_if.harness.safe_text import POLICY, cut, neutralise
from implicit_if.harness.storage import sha256_text
from implicit_if.harness.thoughts import after_thoughts

QUOTES = "quotes:v3"
"""Version of `guard_quotes` and of what holds no verdict; fingerprinted."""

_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_PARSER_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,  # of ast.literal_eval, which some parsers read answers with
    TypeError,
    ValueError,
)
_CLOSING_QUOTES = re.compile(r'"(\s*)"(\s*)"(?=\s*[,}\]])')


class AlpacaEvalOptions(ApiOptions):
    """Options of `alpaca_eval:<annotator>`, beside those of every API judge.

    Attributes:
        model: Another model under the same prompt and parser; a judge of its own, named after both.
        member: Which annotator, where a configuration holds a pool.
    """

    model: str | None = None
    member: str | None = None


class AnnotatorDialect:
    """An annotator's prompt, settings and parser."""

    remedy = (
        "This annotator's parser may not fit the model: take another of either, or raise the most tokens of an answer, "
        "body={max_tokens: ...}, for a model that thinks."
    )

    def __init__(self, annotator: Annotator, model: str, options: AlpacaEvalOptions) -> None:
        self._annotator, self._options = annotator, options
        self._settings = merge_body({"model": model, **annotator.settings}, options.body)
        self._quoted = '"""{output_1}"""' in annotator.template

    @property
    def identity(self) -> dict[str, Any]:
        """What a fingerprint must hold; not the annotator's name, which may come to mean something else."""
        return {
            "judge": "alpaca_eval",
            "api": self._annotator.api,
            "settings": self._settings,
            "template": sha256_text(self._annotator.template),
            "parser": self._annotator.parser_identity,
            "completion_key": self._annotator.completion_key,
            "batch_size": self._annotator.batch_size,
            "alpaca_eval": version("alpaca_eval"),
            "text_policy": [POLICY, QUOTES],
            "max_chars": self._options.max_chars,
            "revision": self._options.revision,
        }

    def question(self, comparison: Comparison) -> Question:
        """The request that asks about a comparison; equal to alpaca-eval's where no text needed neutralising."""
        row: dict[str, str] = {}
        shortened: list[str] = []
        texts = (comparison.instruction, comparison.first, comparison.second)
        for slot, name, text in zip(SLOTS, ("instruction", "first", "second"), texts, strict=True):
            text, was_cut = cut(text, self._options.max_chars)
            row[slot] = guard_quotes(neutralise(text)) if self._quoted else neutralise(text)
            shortened += [name] * was_cut
        padding = [PADDING] * (self._annotator.batch_size - 1)
        prompt = fill(self._annotator.template, [row, *padding]).strip()
        return Question(self._settings | self._asked(prompt), prompt, most_tokens(self._settings), shortened)

    def reading(self, content: dict[str, Any]) -> Reading:
        """What an answer says, by alpaca-eval's parser."""
        if self._annotator.api == "messages":
            text = joined_text(content)
            choice = {**content, "text": text, "finish_reason": content.get("stop_reason")}
        else:
            choice = _as_alpaca_eval_reads(first_choice(content), content)
            text = str(choice["text"])
        raw = {"said": text, "finish_reason": choice["finish_reason"], "model": content.get("model")}
        ended = no_verdict(choice["finish_reason"], may_be_cut=bool(self._settings.get("logprobs")))
        if ended or after_thoughts(text)[1]:
            return Reading(None, ended or f"the thought does not end in {text[-60:]!r}", raw)
        if self._settings.get("logprobs") and not choice.get("logprobs"):
            error = "the answer has no logprobs, which this annotator's parser needs. Use a server that gives them"
            return Reading(None, error, raw, hopeless=True)
        parsed = choice if self._annotator.completion_key == "completions_all" else text
        if self._settings.get("logprobs"):
            raw["top_logprobs"] = _kept(choice, self._annotator)
        return Reading(*parse(self._annotator, parsed, text), raw)

    def _asked(self, prompt: str) -> dict[str, Any]:
        if self._annotator.api == "completions":
            return {"prompt": [prompt]}
        return as_messages(as_chat(prompt)) if self._annotator.api == "messages" else {"messages": as_chat(prompt)}


def parse(annotator: Annotator, completion: Any, text: str) -> tuple[float | None, str | None]:
    """Preference for the first answer from alpaca-eval's scale (1 is the first, 2 the second, 0 a tie), or why none."""
    shown = " ".join(text.split())[:120]
    before = logging.root.manager.disable
    logging.disable()  # some parsers log what they cannot read as it is, control characters included
    try:
        found = annotator.parser(completion)
    except _PARSER_FAULTS as error:
        return None, f"alpaca-eval's parser found no verdict in {shown!r} ({type(error).__name__})"
    finally:
        logging.disable(before)
    if len(found) != annotator.batch_size:
        return None, f"alpaca-eval's parser found {len(found)} verdicts in {shown!r}, expected one for each example"
    try:
        preference = float(found[0])
    except (TypeError, ValueError):
        preference = math.nan
    if preference == 0:
        return 0.5, None
    if not 1 <= preference <= 2:
        return None, f"alpaca-eval's parser made {found[0]!r} of {shown!r}, expected a preference from 1 to 2"
    return 2.0 - preference, None


def reread(raw: str, argument: str) -> tuple[float, float] | None:
    """The preference that a packaged annotator's parser makes of stored words; see `verdict_text.reread`.

    Any may follow from the words of an annotator that is not packaged.
    """
    annotator = packaged_annotator(argument.partition("+")[0])
    if annotator is None:
        return 0.0, 1.0
    if (kept := read_record(raw)) is None:
        return None
    said, alternatives = kept
    choice: Any = said
    if annotator.completion_key == "completions_all":
        top = [{"token": token, "logprob": p} for token, p in (alternatives or {}).items()]
        choice = {"text": said, "logprobs": {"content": [{"top_logprobs": top}]}}
    found = None if after_thoughts(said)[1] else parse(annotator, choice, said)[0]
    return (1.0, 0.0) if found is None else (found, found)


def _kept(choice: Mapping[str, Any], annotator: Annotator) -> dict[str, float]:
    """Logprobs of the alternatives to the token that the parser looks at, so that it can look again."""
    position = (annotator.parser_identity["kwargs"] or {}).get("log_prob_index", 0)
    try:
        token = choice["logprobs"]["content"][position if isinstance(position, int) else 0]
        return {str(t["token"]): float(t["logprob"]) for t in token["top_logprobs"]}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}


def guard_quotes(text: str) -> str:
    '''The text without triple quotes that would end its field in a template such as `"output": """{output_1}""",`.

    Only quotes that a comma or closing bracket follows are broken (by a zero-width space): a docstring stays.
    '''
    return _CLOSING_QUOTES.sub('"\\1"\\2\u200b"', text)


def build(argument: str | None, options: Mapping[str, Any]) -> LLMJudge:
    """The judge.

    Args:
        argument: A packaged annotator's name, or the path of a `configs.yaml` or its folder.
        options: See `AlpacaEvalOptions`.

    Raises:
        UserError: If there is no such annotator, it needs what is not supported, an option is wrong or the key is
            missing.
    """
    if not argument:
        raise UserError("judge 'alpaca_eval' needs an annotator. Use e.g. alpaca_eval:weighted_alpaca_eval_gpt4_turbo.")
    name = f"alpaca_eval:{argument}"
    chosen = parse_options(AlpacaEvalOptions, name, options)
    annotator = load_annotator(argument, chosen.member)
    model = chosen.model or annotator.model
    name = f"alpaca_eval:{annotator.name}" + (f"+{model}" if chosen.model else "")
    endpoint = _endpoint(annotator, model, chosen)
    dialect = AnnotatorDialect(annotator, model, chosen)
    prices = prices_for(model, chosen, local=endpoint.is_local)
    if prices.per_million_in is None and annotator.price is not None:
        prices = Prices(per_million_in=annotator.price * 1e6, per_million_out=annotator.price * 1e6)
    return LLMJudge(name, dialect.identity, endpoint, chosen.limits, prices, dialect)


def _endpoint(annotator: Annotator, model: str, options: AlpacaEvalOptions) -> Endpoint:
    if annotator.base_url and not options.base_url:
        if not options.key_env:
            raise UserError(
                f"annotator {annotator.name!r} asks {annotator.base_url}, which is not OpenAI. Name the environment "
                f"variable with that server's key: key_env=...; or set base_url=."
            )
        options = options.model_copy(update={"base_url": annotator.base_url})
    if annotator.api == "messages":
        return anthropic_endpoint(options)
    return openai_endpoint(model, _PATHS[annotator.api], options)


def _as_alpaca_eval_reads(choice: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The choice as alpaca-eval hands it to a parser: arguments of a tool call as text, a blank for no text."""
    message: dict[str, Any] = choice["message"] if isinstance(choice.get("message"), dict) else {}
    text = choice["text"] or (" " if message else "")
    calls = message.get("tool_calls") or []
    called = [message.get("function_call"), *[c.get("function") for c in calls[:1] if isinstance(c, dict)]]
    for function in called:
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            text = function["arguments"]
    usage = content.get("usage")
    return choice | {"text": text, "total_tokens": usage.get("total_tokens") if isinstance(usage, dict) else None}
