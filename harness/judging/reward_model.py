"""Scores of a reward model: one number for an answer to an instruction, in batches sorted by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.protocol import JudgeError
from implicit_if.harness.safe_text import POLICY, neutralise

if TYPE_CHECKING:
    import torch

VERSION = f"reward:v1,{POLICY}"
"""Version of everything here that shapes a score; fingerprinted."""

_CHARS_PER_TOKEN = 24  # no text worth a score is sparser; saves the tokenizer a megabyte that would be cut anyway


class Score(NamedTuple):
    """One answer's score, and whether the answer was cut; or why there is none."""

    value: float | None
    cut: bool = False
    error: str | None = None


class _Encoded(NamedTuple):
    ids: list[int] | None
    cut: bool


class Scorer:
    """A reward model with its tokenizer.

    Args:
        model: A model of the hub, or a local folder; safetensors only, no code of its own.
        revision: Its commit; None for a folder.
        dtype: A torch dtype's name.
        device: "auto" or a torch device.
        max_length: Tokens of a conversation.
        batch_tokens: Tokens a batch may hold, padding included.

    Raises:
        UserError: If it cannot be loaded, is no reward model, or has no chat template.
    """

    def __init__(
        self, model: str, revision: str | None, dtype: str, device: str, max_length: int, batch_tokens: int
    ) -> None:
        self._device = _resolve_device(device)
        self._max_length, self._batch_tokens = max_length, batch_tokens
        self._tokenizer, self._model = _load(model, revision, dtype, self._device)
        self._config = self._model.config.get_text_config()
        self._config.use_cache = False
        self._fixed_pad: int | None = self._config.pad_token_id
        added = self._tokenizer.added_tokens_decoder.values()  # not all are special: a blank line is none
        self._special = [str(t) for t in added if t.special and len(str(t)) > 1]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Scores of (instruction, answer) pairs, in their order."""
        encoded = [self._encode(instruction, answer) for instruction, answer in pairs]
        scores = [
            Score(None, e.cut, f"the instruction alone is longer than max_length={self._max_length} tokens")
            for e in encoded
        ]
        for batch in self._batches([(i, e.ids) for i, e in enumerate(encoded) if e.ids is not None]):
            for (position, _), value in zip(batch, self._forward([ids for _, ids in batch]), strict=True):
                scores[position] = Score(value, encoded[position].cut)
        return scores

    def _encode(self, instruction: str, answer: str) -> _Encoded:
        """Token ids of the conversation; the answer loses its end if it is too long, never the template's tokens."""
        limit = self._max_length * _CHARS_PER_TOKEN
        instruction, shown = self._plain(instruction[:limit]), self._plain(answer[:limit])
        cut = len(answer) > limit
        ids = self._ids(instruction, shown)
        kept = self._tokenizer(shown, add_special_tokens=False).input_ids if len(ids) > self._max_length else []
        while len(ids) > self._max_length:
            if not kept:
                return _Encoded(None, cut)
            kept = kept[: max(0, len(kept) - max(1, len(ids) - self._max_length))]
            shown, cut = self._tokenizer.decode(kept), True
            ids = self._ids(instruction, shown)
        return _Encoded(ids, cut)

    def _plain(self, text: str) -> str:
        """The text without special tokens, those of this tokenizer too."""
        text = neutralise(text)
        for token in self._special:
            text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    def _ids(self, instruction: str, answer: str) -> list[int]:
        messages = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _batches(self, items: list[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
        """Longest first, so that a batch that does not fit the memory fails at once."""
        batch: list[tuple[int, list[int]]] = []
        for item in sorted(items, key=lambda item: (-len(item[1]), item[0])):
            full = batch and (len(batch) + 1) * len(batch[0][1]) > self._batch_tokens
            if full:
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        pad = self._pad_for(rows)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._device)
        try:
            with torch.inference_mode():
                logits = self._model(input_ids=ids, attention_mask=mask).logits  # [b, 1]
        except torch.OutOfMemoryError as error:
            raise JudgeError(
                f"{len(rows)} x {width} tokens do not fit into the memory of {self._device}. Lower batch_tokens "
                f"(now {self._batch_tokens}) or max_length (now {self._max_length})."
            ) from error
        values: list[float] = logits[:, 0].float().tolist()
        return values

    def _pad_for(self, rows: list[list[int]]) -> int:
        """The id to pad with.

        transformers reads the score at the last token that is not this id; where the model's configuration names
        none, it must be one that no row ends on.
        """
        if self._fixed_pad is None:
            ends = {row[-1] for row in rows}
            self._config.pad_token_id = next(i for i in range(len(ends) + 1) if i not in ends)
        pad: int = self._config.pad_token_id
        return pad


def resolve_dtype(dtype: str, device: str) -> str:
    """The dtype's name that "auto" stands for on a device."""
    if dtype != "auto":
        return dtype
    return "float32" if _resolve_device(device).type == "cpu" else "bfloat16"


def _resolve_device(device: str) -> torch.device:
    import torch

    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _load(model: str, revision: str | None, dtype: str, device: torch.device) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **where)
        loaded, info = AutoModelForSequenceClassification.from_pretrained(
            model, **where, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(
            f"reward model {model!r}, revision {revision!r}, cannot be loaded: {error} Expected a hub model or a "
            f"folder with config.json, tokenizer files and safetensors; needs no code of its own."
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{model!r} is no reward model: its weights lack {', '.join(missing[:3])}. Choose another one.")
    if loaded.config.num_labels != 1:
        raise UserError(f"{model!r} gives {loaded.config.num_labels} scores an answer, expected 1. Choose another one.")
    if not tokenizer.chat_template:
        raise UserError(f"{model!r} has no chat template, so it is not known how it reads a conversation.")
    return tokenizer, loaded.to(device).eval()
