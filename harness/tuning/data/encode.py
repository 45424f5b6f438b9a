"""From conversations to tokens and labels, as the released code encodes them.

Lengths: `s` is the row's length in tokens. A label is the token to be predicted, or -100 where there is no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.conversations import Conversation, places

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True)
class EncodedRow:
    """A conversation ready for training.

    Attributes:
        where: The row it came from.
        input_ids: `[s]`, at most `max_length`.
        labels: `[s]`, equal to `input_ids` on every answer and its end-of-sequence token, -100 elsewhere.
        full_length: Tokens before the cut.
    """

    where: str
    input_ids: list[int]
    labels: list[int]
    full_length: int

    @property
    def truncated(self) -> bool:
        return self.full_length > len(self.input_ids)

    @property
    def loss_tokens(self) -> int:
        """Positions that are predicted; the first token never is."""
        return sum(label != IGNORED for label in self.labels[1:])


def prompt_template(trained: str) -> str:
    """Name or path of the template to prompt a tuned model with: as trained on, or tulu if that shows no user text."""
    return trained if load_template(trained).shows_user else "tulu"


_STAND_IN = "\ue000end of answer\ue000"
"""Stands for the end-of-sequence token where the messages hold its text."""


def _without_special_tokens(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer with special tokens read as text, but for `_STAND_IN`, which is split off as they are."""
    from tokenizers import AddedToken, Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{type(tokenizer).__name__} cannot encode the text of special tokens. Remove it from the rows."
        )
    plain = Tokenizer.from_str(backend.to_str())
    plain.encode_special_tokens = True
    eos = tokenizer.added_tokens_decoder[tokenizer.eos_token_id]
    plain.add_tokens([AddedToken(_STAND_IN, lstrip=eos.lstrip, rstrip=eos.rstrip, normalized=False)])
    return plain


class Encoder:
    """Encodes conversations with one tokenizer and template.

    Args:
        tokenizer: From `load_tokenizer`. It adds its own beginning-of-sequence token, if it has one.
        template: The chat template; its `{% generation %}` blocks are what is trained.
        max_length: Longer rows are cut here and lose their end.
        newline_in_loss: Also train the newline after an answer that is not the last, as the released code does.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: ChatTemplate,
        max_length: int,
        newline_in_loss: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.max_length = max_length
        self.newline_in_loss = newline_in_loss
        self._special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special and str(t)]
        self._plain: Tokenizer | None = None

    def encode(self, conversation: Conversation) -> EncodedRow:
        """Encodes one conversation.

        The whole text is tokenized once; where a piece begins is the number of tokens of all the text before it. So a
        token that spans a boundary belongs to the piece in which it begins, as in the released code.

        Raises:
            UserError: If the template does not fit the conversation or the tokenizer; names the row.
        """
        pieces = self.pieces(conversation)
        encoded = self._encode(conversation, list(accumulate(text for text, _ in pieces)))
        ids: list[int] = encoded[-1]
        ends = [min(len(prefix), len(ids)) for prefix in encoded]
        labels = [IGNORED] * len(ids)
        for (_, in_loss), start, end in zip(pieces, [0, *ends], ends, strict=False):
            if in_loss:
                labels[start:end] = ids[start:end]
        self._check(conversation.where, ids)
        return EncodedRow(conversation.where, ids[: self.max_length], labels[: self.max_length], len(ids))

    def pieces(self, conversation: Conversation) -> list[tuple[str, bool]]:
        """The rendered text in pieces, each in the loss or not."""
        eos = _STAND_IN if self.special_tokens_in(conversation) else str(self.tokenizer.eos_token)
        try:
            return self.template.spans(
                conversation.messages,
                eos_token=eos,
                newline_in_loss=self.newline_in_loss,
            )
        except UserError as error:
            raise UserError(f"{conversation.where}: {error}") from error

    def length(self, conversation: Conversation) -> int:
        """Tokens of the whole conversation, not cut."""
        return len(self._encode(conversation, ["".join(text for text, _ in self.pieces(conversation))])[0])

    def special_tokens_in(self, conversation: Conversation) -> list[str]:
        """Special tokens whose text stands in a message; it is encoded as text, not as the token."""
        text = "\0".join(m["content"] for m in conversation.messages)
        return [token for token in self._special if token in text]

    def _encode(self, conversation: Conversation, texts: list[str]) -> list[list[int]]:
        if not self.special_tokens_in(conversation):
            encoded: list[list[int]] = self.tokenizer(texts).input_ids
            return encoded
        if self._plain is None:
            self._plain = _without_special_tokens(self.tokenizer)
        stand_in, eos = self._plain.token_to_id(_STAND_IN), self.tokenizer.eos_token_id
        return [[eos if n == stand_in else n for n in e.ids] for e in self._plain.encode_batch(texts)]

    def _check(self, where: str, ids: Sequence[int]) -> None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and bos != self.tokenizer.eos_token_id and list(ids[:2]) == [bos, bos]:
            raise UserError(f"{where}: begins with two {self.tokenizer.bos_token!r}. Take it out of the template.")


def encode_rows(encoder: Encoder, conversations: Iterable[Conversation]) -> list[EncodedRow]:
    """Encodes every conversation, in order; see `Encoder.encode`.

    Raises:
        UserError: If nothing remains to be trained of some rows because their prompt alone fills `max_length`.
    """
    rows = [encoder.encode(conversation) for conversation in conversations]
    empty = [row.where for row in rows if row.loss_tokens == 0]
    if empty:
        most = encoder.max_length
        cut = sum(row.truncated and row.loss_tokens > 0 for row in rows)
        raise UserError(
            f"{empty[0].rpartition(', ')[0]}: the prompt alone fills the {most} tokens, nothing is left to train, in "
            f"{len(empty)} of {len(rows)} rows ({places(empty)}). Set encoding.max_length higher, shorten or remove "
            f"these rows, or leave out all rows of more than {most} tokens with data.max_tokens={most}: these, and "
            f"{cut} that would only be cut."
        )
    return rows
