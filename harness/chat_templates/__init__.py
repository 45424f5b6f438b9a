"""Chat templates: the one renderer that tasks and tuning share.

A template is a Jinja file in Hugging Face's dialect, so that it also serves as a tokenizer's `chat_template`. It sees
`messages` (each with `role` and `content`), `add_generation_prompt`, `eos_token` and `bos_token`. The beginning-of-
sequence token is never rendered: `bos_token` is empty, tokenizers that have one add it themselves.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from implicit_if.harness.chat_templates.sandbox import GENERATION_MARK, compile_template
from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.generation import Prompt
from implicit_if.harness.storage import sha256_text

logger = logging.getLogger(__name__)

Message = Mapping[str, Any]
"""A turn: `role` and `content`, both text; other keys are not shown to the template."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template; build one with `load_template` or `ChatTemplate.from_source`.

    Attributes:
        name: A built-in name, or the file's name.
        source: The Jinja text.
        user_tag: What announces the user's turn, e.g. `<|user|>`; None if nothing does.
        assistant_tag: What announces the answer, e.g. `<|assistant|>`; None if nothing does.
        shows_user: False if no user text is rendered (`tulu_no_user`), so that every prompt is the same.
        prompt_needs_eos: True if a prompt already holds an end-of-sequence token, after the user's turn.
    """

    name: str
    source: str
    user_tag: str | None = None
    assistant_tag: str | None = None
    shows_user: bool = True
    prompt_needs_eos: bool = False

    @classmethod
    def from_source(cls, name: str, source: str) -> ChatTemplate:
        """A template from its text; the other attributes are read off a rendered prompt.

        A tag is the last line that is not blank before the user's text, and at the prompt's end after it.

        Raises:
            UserError: If the text is not a template, or cannot render one user turn.
        """
        # Nobody writes these texts, so where one stands in the prompt, the template put it there.
        text, eos = secrets.token_hex(16), secrets.token_hex(16)
        plain = cls(name, source)
        rendered = plain._prompt(text, eos_token="")
        user_tag, assistant_tag = tags_around(rendered, text)
        return cls(
            name,
            source,
            user_tag=user_tag,
            assistant_tag=assistant_tag,
            shows_user=text in rendered,
            prompt_needs_eos=eos in plain._prompt(text, eos_token=eos),
        )

    @property
    def sha256(self) -> str:
        """Hex sha256 of the source, recorded with every result."""
        return template_sha256(self.source)

    @property
    def tags(self) -> tuple[str, ...]:
        """The role tags there are; one of them inside an answer is a format leak."""
        return tuple(dict.fromkeys(tag for tag in (self.user_tag, self.assistant_tag) if tag))

    def render(self, messages: Sequence[Message], *, eos_token: str, add_generation_prompt: bool = False) -> str:
        """Renders a conversation, without BOS.

        Args:
            messages: The turns, at least one; contents are stripped by the built-in templates, and may be empty.
            eos_token: The tokenizer's end-of-sequence token as text; it ends every assistant turn.
            add_generation_prompt: Ends the text with the assistant's tag, where an answer begins.

        Raises:
            UserError: If there are no messages, a role or content is not text, or the template refuses them.
        """
        text = self._render(_checked(messages), eos_token, add_generation_prompt, mark="")
        return Prompt.of(text, [message["content"] for message in messages])

    def render_prompt(self, instruction: str, *, eos_token: str | None = None) -> str:
        """Renders one user turn with the assistant's tag after it: the prompt of a single-turn task, without BOS.

        Warns once if the template shows no user text, so that every prompt is the same.

        Args:
            instruction: The user's text.
            eos_token: Only for custom templates that end the user's turn with it.

        Raises:
            UserError: If the template refuses the text, or needs `eos_token` and it is not given.
        """
        if not self.shows_user:
            _warn_no_user(self.name)
        if self.prompt_needs_eos and eos_token is None:
            raise UserError(
                f"chat template {self.name!r} writes the end-of-sequence token into prompts, found none. "
                f"Pass eos_token=tokenizer.eos_token."
            )
        return self._prompt(instruction, eos_token or "")

    def spans(
        self, messages: Sequence[Message], *, eos_token: str, newline_in_loss: bool = False
    ) -> list[tuple[str, bool]]:
        """Cuts a rendered conversation into what is trained and what is not.

        The trained pieces are the template's `{% generation %}` blocks: each answer with its EOS. Texts are never
        searched for tags, so a tag or an EOS inside a text changes nothing.

        Args:
            messages: As for `render`.
            eos_token: As for `render`.
            newline_in_loss: Also train the newline after an answer that is not the last, as the released code does
                (its mask starts at the next user tag).

        Returns:
            Pieces, none empty, as (text, in the loss); the texts join to what `render` returns.

        Raises:
            UserError: As `render`, and if the template has no `{% generation %}` block around an answer.
        """
        checked = _checked(messages)
        # Random, so that no text can hold it: a fixed mark inside an answer would end the loss there.
        mark = f"<{secrets.token_hex(16)}>"
        pieces = self._render(checked, eos_token, False, mark).split(mark)
        if len(pieces) == 1 and any(message["role"] == "assistant" for message in checked):
            raise UserError(
                f"chat template {self.name!r}: no {{% generation %}} block was rendered, expected one around each "
                f"answer, to know what is trained. Put {{% generation %}}…{{% endgeneration %}} around the assistant's "
                f"content and its end-of-sequence token."
            )
        if "".join(pieces) != self._render(checked, eos_token, False, ""):
            raise UserError(
                f"chat template {self.name!r} changes text after its {{% generation %}} block. "
                f"Write the block's text straight to the output, without a filter or a variable around it."
            )
        if newline_in_loss:
            pieces = _newlines_into_loss(pieces)
        return [(piece, index % 2 == 1) for index, piece in enumerate(pieces) if piece]

    def _prompt(self, instruction: str, eos_token: str) -> str:
        messages = [{"role": "user", "content": instruction}]
        return self.render(messages, eos_token=eos_token, add_generation_prompt=True)

    def _render(self, messages: list[dict[str, str]], eos_token: str, add_generation_prompt: bool, mark: str) -> str:
        variables = {
            "messages": messages,
            "eos_token": eos_token,
            "bos_token": "",
            "add_generation_prompt": add_generation_prompt,
            GENERATION_MARK: mark,
        }
        try:
            return compile_template(self.source).render(variables)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"chat template {self.name!r}, line {error.lineno}: {error.message}. Fix the file."
            ) from error
        except Exception as error:  # a template is a program: it can fail in any way
            raise UserError(
                f"chat template {self.name!r} cannot render these {len(messages)} messages: {error}. "
                f"Fix the messages, or choose another template."
            ) from error


def tags_around(prompt: str, text: str) -> tuple[str | None, str | None]:
    """What announces the user's text in a prompt, and the answer after it: the last lines before and at the end."""
    before, shown, after = prompt.rpartition(text)
    return _last_line(before) if shown else None, _last_line(after)


def template_names() -> tuple[str, ...]:
    """The built-in templates, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.jinja")))


def template_sha256(source: str) -> str:
    """Hex sha256 of a template's text, also for a tokenizer's own template under `--apply_chat_template`."""
    return sha256_text(source)


def load_template(name_or_path: str | Path) -> ChatTemplate:
    """Loads a built-in template by name, or a `.jinja` file.

    Args:
        name_or_path: One of `template_names()`, or a path that ends in `.jinja`.

    Raises:
        UserError: If there is no such template or file, or it cannot render one user turn.
    """
    if str(name_or_path) in template_names():
        return _load_file(str(name_or_path), _FOLDER / f"{name_or_path}.jinja")
    path = Path(name_or_path).expanduser()
    if path.suffix != ".jinja":
        raise unknown_name(
            "chat template", str(name_or_path), template_names(), fix="A path to a .jinja file is accepted too."
        )
    return _load_file(path.name, path)


def _load_file(name: str, path: Path) -> ChatTemplate:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"chat template {path}: cannot be read ({error}). Expected a UTF-8 Jinja file.") from error
    return ChatTemplate.from_source(name, source)


def _checked(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages reduced to role and content. A None content would render as "None", or train EOS after the tag."""
    if not messages:
        raise UserError("found no messages, expected at least one turn with role and content.")
    for position, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UserError(
                f"message {position} is {type(message).__name__}, expected an object with role and content."
            )
        for key in ("role", "content"):
            value = message.get(key)
            if not isinstance(value, str):
                raise UserError(
                    f"message {position}: {key} is {type(value).__name__}, expected text. Fix or remove that row."
                )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _newlines_into_loss(pieces: list[str]) -> list[str]:
    """Moves a newline that starts a piece outside the loss (even index) to the end of the piece before it."""
    moved = list(pieces)
    for index in range(2, len(moved), 2):
        if moved[index].startswith("\n"):
            moved[index - 1] += "\n"
            moved[index] = moved[index][1:]
    return moved


def _last_line(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


@functools.cache
def _warn_no_user(name: str) -> None:
    logger.warning(
        "chat template %r shows no user text: every prompt is the same. It is made for tuning; prompt with 'tulu'.",
        name,
    )
