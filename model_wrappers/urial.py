"""`--model urial`: a base model asked after a prompt prefix of a few examples (Lin et al. 2023, arXiv 2312.01552)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model

from implicit_if.harness.chat_templates import load_template
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.generation import Generation, Prompt
from implicit_if.harness.storage import sha256_json
from implicit_if.model_wrappers.implicit_lm import ImplicitLM
from implicit_if.model_wrappers.rules_poe import RulesPoE

PREFIXES = Path(__file__).parent / "urial_prefixes"

_SLOT = "{instruction}"


@dataclass(frozen=True)
class Prefix:
    """What stands before an instruction, how the instruction is wrapped, and how an answer says that it is over.

    Attributes:
        name: A shipped name, or the file's name.
        prefix: System text and examples.
        query: What follows the prefix; `{instruction}` is the instruction's place, and the answer begins at its end.
        end: Texts by which an answer ends itself; cut off with everything after them.
        trailer: Text taken off the end of an answer, e.g. a closing fence; may be empty.
    """

    name: str
    prefix: str
    query: str
    end: tuple[str, ...]
    trailer: str = ""

    @property
    def sha256(self) -> str:
        """Hash of all that shapes an answer; the name does not enter."""
        return sha256_json([self.prefix, self.query, list(self.end), self.trailer])

    def prompt(self, instruction: str) -> str:
        """The whole prompt; the instruction is stripped."""
        before, _, after = (self.prefix + self.query).rpartition(_SLOT)
        prompt = Prompt(f"{before}{instruction.strip()}{after}")
        prompt.users = ((len(before), len(prompt) - len(after)),)
        return prompt

    def clean(self, answer: str) -> str:
        """The answer without white space at its end and without one trailer there."""
        text = answer.rstrip()
        return text.removesuffix(self.trailer).rstrip() if self.trailer else text


PUBLISHED = Prefix("published", "", f"\n# Query:\n```\n{_SLOT}\n```\n\n# Answer:\n```\n", ("# Query",), "```")
"""How the authors' code wraps an instruction after their `inst_1k*.txt` and `inst_help*.txt` files with fences."""


def prefix_names() -> list[str]:
    """The shipped prefixes."""
    return sorted(path.stem for path in PREFIXES.glob("*.yaml"))


def load_prefix(name_or_path: str) -> Prefix:
    """Loads a shipped prefix by name, a YAML file of the same shape, or one of the published text files.

    Args:
        name_or_path: E.g. "default", "mine.yaml" or "inst_1k_v4.txt". A text file is the prefix as it stands; the
            instruction is wrapped as the authors' code does it, see `PUBLISHED`.

    Raises:
        UserError: Unknown name, missing file, or a file that is not a prefix.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in prefix_names():
        path = PREFIXES / f"{name_or_path}.yaml"
    elif path.suffix not in {".yaml", ".yml", ".txt"}:
        raise unknown_name(
            "prefix",
            name_or_path,
            prefix_names(),
            fix="Or give the path of a .txt or .yaml file, see docs/wrappers.md.",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"prefix={name_or_path[:200]}: cannot be read ({error}). "
            f"Expected {', '.join(prefix_names())} or a UTF-8 .txt or .yaml file."
        ) from error
    if path.suffix != ".txt":
        return _parse(text, path)
    if "# Query:" not in text:
        raise UserError(
            f"{path}: no '# Query:' in this text, so its examples are not wrapped as the instruction would be. "
            f"Write a .yaml file with its own `query` and `end`, see docs/wrappers.md."
        )
    return Prefix(path.stem, text, PUBLISHED.query, PUBLISHED.end, PUBLISHED.trailer)


def _parse(text: str, path: Path) -> Prefix:
    shape = "Expected the keys name, prefix, query and end (a list of texts), and perhaps source and trailer"
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({error}). {shape}, as in {PREFIXES / 'default.yaml'}.") from error
    if not isinstance(data, dict) or not {"name", "prefix", "query", "end"} <= data.keys():
        raise UserError(f"{path}: not a prefix. {shape}, as in {PREFIXES / 'default.yaml'}.")
    if extra := sorted(map(str, data.keys() - {"name", "source", "prefix", "query", "end", "trailer"})):
        raise UserError(f"{path}: unknown key {extra[0]!r}. {shape}.")
    for key in ("name", "prefix", "query", "trailer"):
        if not isinstance(data.get(key, ""), str):
            raise UserError(f"{path}: {key} is {type(data[key]).__name__}, expected text.")
    end = data["end"]
    if not isinstance(end, list) or not end or not all(isinstance(e, str) and e for e in end):
        raise UserError(f"{path}: end is {end!r}, expected a list of texts, none empty.")
    if data["query"].count(_SLOT) != 1:
        raise UserError(f"{path}: query holds {_SLOT} {data['query'].count(_SLOT)} times, expected once.")
    return Prefix(data["name"], data["prefix"], data["query"], tuple(end), data.get("trailer", ""))


@register_model("urial")
class Urial(ImplicitLM):
    """An untuned model that is asked after a prefix; every prompt it is given is taken as the bare instruction.

    An answer that ends itself by one of the prefix's `end` texts has the finish reason "eos", as they are what this
    format ends an answer with; its tokens count with the end text. A request with stop strings of its own whose
    answer was cut has "stop".
    """

    wants_bare_instructions = True
    """Read by tasks: prompts of this wrapper's own requests must not be wrapped in a chat template."""

    def __init__(self, pretrained: Any = None, prefix: str = "default", **kwargs: Any) -> None:
        """Reads the prefix, then loads the model.

        Args:
            pretrained: See `ImplicitLM`; None is the embedded base model.
            prefix: A shipped prefix's name, or the path of a `.yaml` or `.txt` file; see `load_prefix`.
            **kwargs: See `ImplicitLM`.

        Raises:
            UserError: On a fault in the prefix, before the model is loaded.
        """
        self.prefix = load_prefix(str(prefix))
        super().__init__(pretrained, **kwargs)

    def describe(self, rules: Any = ...) -> dict[str, Any]:
        """The prefix and a hash of it; or the plain model."""
        if self.is_plain(rules):
            return super().describe(rules)
        name = f"urial:{self.prefix.name}@{self.prefix.sha256[:8]}"
        return {"product": name, "system": {"kind": "urial", "prefix": self.prefix.name, "sha256": self.prefix.sha256}}

    def is_plain(self, rules: Any) -> bool:
        """Whether a request asks for the base model itself, by rules="none".

        Raises:
            UserError: If it names rules: this wrapper has none.
        """
        if rules not in (..., None, "none"):
            raise UserError(f"rules={rules}: urial applies no rules. Expected 'none', or use --model rules_poe.")
        return rules is not ...

    def _answer(
        self,
        contexts: list[str],
        rules: Any,
        settings: Mapping[str, Any],
        on_tokens: Callable[[int], object],
        seeds: list[int] | None,
    ) -> list[Generation]:
        if self.is_plain(rules):
            return super()._answer(contexts, rules, settings, on_tokens, seeds)
        until = [stop for stop in settings.get("until") or [] if stop]
        prompts = [self.prefix.prompt(_bare(context)) for context in contexts]
        self._require_room(prompts, int(settings["max_gen_toks"]))
        ended = {**settings, "until": [*until, *self.prefix.end]}
        answers = super()._answer(prompts, rules, ended, on_tokens, seeds)
        return [self._finished(answer, own_stops=bool(until)) for answer in answers]

    def _require_room(self, prompts: list[str], new: int) -> None:
        longest = max(len(self.tok_encode(prompt)) for prompt in prompts)
        if longest + new > self.max_length:  # lm-eval would cut the prefix's beginning off
            raise UserError(
                f"prefix={self.prefix.name}: the longest prompt has {longest} tokens, and with max_gen_toks={new} the "
                f"model's {self.max_length} do not hold it. Choose a shorter prefix, or fewer new tokens."
            )

    def _finished(self, answer: Generation, own_stops: bool) -> Generation:
        by_itself = answer.finish_reason == "stop" and not own_stops
        return Generation.of(self.prefix.clean(answer), "eos" if by_itself else answer.finish_reason, answer.n_tokens)

    # ------------------------------------------------------------------ likelihood of responses
    def log_probs(self, prompt: str, responses: Sequence[str]) -> list[float]:
        """Exact log p(response | prefix and instruction) of each response; see `RulesPoE.log_probs`.

        Args:
            prompt: The bare instruction; may be empty.
            responses: Texts.
        """
        return self._plain.log_probs(self.prefix.prompt(_bare(prompt)), responses)

    @functools.cached_property
    def _plain(self) -> RulesPoE:
        return RulesPoE(self.model, tokenizer=self.tokenizer, rules=None, batch_size=self.rows_at_once)

    # ------------------------------------------------------------------ what has no meaning after a prefix
    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Refused: the prefix is the template.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "urial wraps instructions itself: run without --apply_chat_template and --fewshot_as_multiturn."
        )

    def _loglikelihood_tokens(self, *args: Any, **kwargs: Any) -> Any:
        raise UserError("urial answers instructions and scores no texts: use --model rules_poe or hf for this task.")

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refused: only answers stand behind the prefix.

        Raises:
            UserError: Always.
        """
        return list(self._loglikelihood_tokens(requests))


@functools.cache
def _chat_tag() -> str | None:
    return load_template("tulu").assistant_tag


def _bare(context: str) -> str:
    """The instruction; a prompt that our own template has wrapped already is a fault, not an instruction."""
    tag = _chat_tag()
    if tag and context.rstrip().endswith(tag):
        raise UserError(
            f"urial: this prompt is wrapped in a chat template already (it ends with {tag!r}), expected the bare "
            f"instruction. Choose a task that gives it, such as alpaca_winrate, and do not reuse --cache_requests."
        )
    return context
