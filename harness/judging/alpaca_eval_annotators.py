"""alpaca-eval's annotator configurations: read, checked, and turned into prompts as alpaca-eval 0.6.6 would."""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.storage import read_yaml

Api = Literal["chat", "completions", "messages"]

SLOTS = ("instruction", "output_1", "output_2")
PADDING = {"instruction": "1+1=", "output_1": "2", "output_2": "3"}
"""What fills the rest of a prompt for several examples: alpaca-eval's DUMMY_EXAMPLE."""

_PLACEHOLDER = re.compile(r"{([^ \s]+?)}")  # alpaca_eval.utils.make_prompts
_START, _END = "<|im_start|>", "<|im_end|>"
_TRANSPORT = (
    "num_procs",
    "batch_size",
    "n_retries",
    "sleep_time",
    "client_config_path",
    "openai_organization_ids",
    "is_strip",  # prompts are stripped always, as alpaca-eval does by default
)
_REFUSED = {
    "tokens_to_favor": "a token bias that needs a tokenizer from the network",
    "tokens_to_avoid": "a token bias that needs a tokenizer from the network",
    "openai_api_keys": "keys, which are read from the environment only",
    "anthropic_api_keys": "keys, which are read from the environment only",
}


@dataclass(frozen=True)
class Annotator:
    """One annotator.

    Attributes:
        name: Its name; one of its own that a packaged annotator has too ends in "(own)".
        api: How its completion function asks: chat completions, completions, or Anthropic's messages.
        model: The model's name.
        template: The prompt, with `batch_size` of each placeholder.
        settings: Request fields besides model and prompt.
        parser: alpaca-eval's parser with its arguments bound: completion to a list of preferences.
        parser_identity: The parser's name and arguments.
        completion_key: "completions" (the parser gets the text) or "completions_all" (it gets the whole choice).
        batch_size: Examples a prompt holds.
        base_url: The address its configuration names, if it does.
        price: US dollars a token, if its configuration says.
    """

    name: str
    api: Api
    model: str
    template: str
    settings: dict[str, Any]
    parser: Callable[[Any], list[Any]]
    parser_identity: dict[str, Any]
    completion_key: str
    batch_size: int
    base_url: str | None
    price: float | None


def load_annotator(argument: str, member: str | None) -> Annotator:
    """An annotator by its packaged name, or from a configuration file or its folder.

    Args:
        argument: E.g. "weighted_alpaca_eval_gpt4_turbo", or a path.
        member: Which one, where a configuration holds several.

    Raises:
        UserError: If there is none, or it needs what is not supported; names it.
    """
    path = _find(argument)
    name, config = _member(path, _read(path), member)
    where = f"annotator {name!r} ({path})"
    kwargs = dict(config.get("completions_kwargs") or {})
    api = _api(where, config.get("fn_completions", "openai_completions"), kwargs)
    template = _template(where, path, config)
    batch_size = int(config.get("batch_size", 1))
    _check_template(where, template, batch_size, api)
    parser, identity = _parser(where, config)
    model = kwargs.pop("model_name", None)
    if not isinstance(model, str):
        raise UserError(f"{where}: found model_name {model!r}, expected the model's name in completions_kwargs.")
    base_url, price = _take_transport(where, kwargs)
    shadows = name in _packaged() and path not in _packaged().values()
    return Annotator(
        name=f"{name}(own)" if shadows else name,
        api=api,
        model=model,
        template=template,
        settings=_defaults(api, kwargs),
        parser=parser,
        parser_identity=identity,
        completion_key=config.get("completion_key", "completions"),
        batch_size=batch_size,
        base_url=base_url,
        price=price,
    )


@cache
def packaged_annotator(name: str) -> Annotator | None:
    """The annotator that alpaca-eval ships under this name; None if there is none or it is not supported."""
    if name not in _packaged():
        return None
    try:
        found = load_annotator(name, None)
    except UserError:
        return None
    return found if found.name == name else None


def fill(template: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The prompt for some examples: the nth placeholder of a name gets the nth example's text.

    All are filled in one pass, so a text that holds a placeholder keeps it as text.
    """
    seen: Counter[str] = Counter()

    def value(match: re.Match[str]) -> str:
        slot = match.group(1)
        seen[slot] += 1
        return rows[seen[slot] - 1][slot]

    return _PLACEHOLDER.sub(value, template)


def as_chat(prompt: str) -> list[dict[str, str]]:
    """The messages of a ChatML prompt, by alpaca-eval's own function."""
    messages: list[dict[str, str]] = import_alpaca_eval("utils").prompt_to_chatml(prompt)
    return messages


def import_alpaca_eval(module: str) -> ModuleType:
    """A module of alpaca-eval, without its warning about setuptools."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"alpaca_eval.{module}")
    except ImportError as error:
        raise UserError(
            f"alpaca-eval cannot be imported ({error}). Install it: pip install 'alpaca-eval==0.6.6' 'setuptools<82'"
        ) from error


def configs_folder() -> Path:
    """The folder of the packaged annotators, found without importing alpaca-eval."""
    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.origin:
        raise UserError("alpaca-eval is not installed. Install it: pip install 'alpaca-eval==0.6.6' 'setuptools<82'")
    return Path(spec.origin).parent / "evaluators_configs"


def _packaged() -> dict[str, Path]:
    return {path.parent.name: path for path in configs_folder().glob("*/configs.yaml")}


def _find(argument: str) -> Path:
    packaged = _packaged()
    if argument in packaged:
        return packaged[argument]
    path = Path(os.path.expanduser(argument))
    path = path / "configs.yaml" if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise unknown_name("alpaca-eval annotator", argument, packaged, fix="Or give the path of a configs.yaml.")
    return path


def _read(path: Path) -> dict[str, dict[str, Any]]:
    content = read_yaml(path, "an annotator configuration of alpaca-eval")
    if not all(isinstance(c, dict) for c in content.values()) or not content:
        raise UserError(f"{path}: not an annotator configuration. Expected `name: {{prompt_template: ..., ...}}`.")
    return content


def _member(path: Path, configs: dict[str, dict[str, Any]], member: str | None) -> tuple[str, dict[str, Any]]:
    if member is None and len(configs) == 1:
        return next(iter(configs.items()))
    if member is None:
        raise UserError(
            f"{path} is a pool of {len(configs)} annotators, of which alpaca-eval draws one for each instruction. "
            f"Choose one: member={next(iter(configs))} (of {', '.join(sorted(configs))})."
        )
    if member not in configs:
        raise unknown_name("annotator", member, configs, fix=f"It should be in {path}.")
    return member, configs[member]


def _api(where: str, function: Any, kwargs: dict[str, Any]) -> Api:
    """The API behind a completion function; takes the arguments that choose it out of `kwargs`."""
    if function == "openai_completions":
        model = str(kwargs.get("model_name"))
        old_gpt_3 = "gpt-3" in model and "turbo" not in model
        chatml = kwargs.pop("requires_chatml", not ("instruct" in model or old_gpt_3 or model.startswith("text-")))
        if bool(kwargs.pop("is_chat", chatml)) != bool(chatml):
            raise UserError(f"{where}: is_chat differs from requires_chatml, which is not supported.")
        return "chat" if chatml else "completions"
    if function == "anthropic_completions" and kwargs.pop("client_function_name", "messages") == "messages":
        if not kwargs.pop("requires_chatml", True):
            raise UserError(f"{where}: requires_chatml: false is not supported for Anthropic's messages.")
        return "messages"
    raise UserError(
        f"{where}: its completion function {function!r} is not supported. Supported: openai_completions (also for "
        f"vLLM and other servers, with base_url=) and anthropic_completions with the messages API."
    )


def _template(where: str, path: Path, config: dict[str, Any]) -> str:
    given = config.get("prompt_template")
    if not isinstance(given, str):
        raise UserError(f"{where}: found prompt_template {given!r}, expected a template or the path of one.")
    if "{instruction}" in given:
        return given
    for folder in (path.parents[1], path.parent, configs_folder()):
        if os.path.isfile(folder / given):
            return (folder / given).read_text(encoding="utf-8")
    raise UserError(f"{where}: prompt_template {given!r} is not in {path.parents[1]}. Put it there.")


def _check_template(where: str, template: str, batch_size: int, api: Api) -> None:
    found = Counter(_PLACEHOLDER.findall(template))
    if found != Counter(dict.fromkeys(SLOTS, batch_size)):
        raise UserError(
            f"{where}: its template holds {dict(found)}, expected {batch_size} of each of {', '.join(SLOTS)}."
        )
    stripped = template.strip()
    if api != "completions" and not (stripped.startswith(_START) and stripped.endswith(_END)):
        raise UserError(f"{where}: its template is not ChatML ({_START}...{_END}), which a chat API needs.")


def _parser(where: str, config: dict[str, Any]) -> tuple[Callable[[Any], list[Any]], dict[str, Any]]:
    name, kwargs = config.get("fn_completion_parser", "regex_parser"), config.get("completion_parser_kwargs") or {}
    module = import_alpaca_eval("completion_parsers")
    known = [n for n in module.__all__ if n.endswith("_parser")]
    if name not in known:
        raise unknown_name(f"completion parser of {where}", str(name), known)
    function = getattr(module, name)
    bound = copy.deepcopy(kwargs)  # regex_parser changes its arguments
    return lambda completion: list(function(completion, **bound)), {"name": name, "kwargs": kwargs}


def _take_transport(where: str, kwargs: dict[str, Any]) -> tuple[str | None, float | None]:
    """Takes what says how to ask, not what, out of the arguments; returns address and price."""
    for name, reason in _REFUSED.items():
        if kwargs.get(name):
            raise UserError(f"{where}: {name} is {reason}; it is not supported. Use an annotator without it.")
    for name in _TRANSPORT:
        kwargs.pop(name, None)
    client = dict(kwargs.pop("client_kwargs", None) or {})
    address = client.pop("base_url", None) or kwargs.pop("openai_api_base", None)
    if client:
        raise UserError(f"{where}: client_kwargs {', '.join(client)} is not supported, only base_url is.")
    price = kwargs.pop("price_per_token", None)
    return address, float(price) if price is not None else None


def _defaults(api: Api, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The request's fields with the defaults of alpaca-eval's completion functions."""
    if api == "messages":
        most = kwargs.pop("max_tokens_to_sample", 2048)
        return {"temperature": 0.7, **kwargs, "max_tokens": most}
    return {"max_tokens": 2048, "temperature": 0.7, "top_p": 1.0, **kwargs}
