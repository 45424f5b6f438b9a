"""Everything before training: rows, tokens, labels, and what a user should know about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.tuning.data.conversations import Conversation, Rows, drop_instructions, load_rows, places
from implicit_if.harness.tuning.data.encode import EncodedRow, Encoder, encode_rows, prompt_template
from implicit_if.harness.tuning.data.rephrasing import Ask, Decision, remove_rephrasing
from implicit_if.harness.tuning.data.rephrasing_model import model_ask
from implicit_if.harness.tuning.preflight import check_model, without_known_warnings
from implicit_if.harness.tuning.profile import profile_note
from implicit_if.harness.tuning.recipe_schema import Recipe
from implicit_if.harness.tuning.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Prepared:
    """Training rows with all that made them.

    Attributes:
        recipe: The resolved recipe.
        rows: The conversations as trained on, and their origin.
        encoded: One per conversation, in the same order.
        encoder: Holds tokenizer and template.
        decisions: Of the rephrasing detector; empty where it did not run.
        notes: Automatic choices and everything left out, one sentence each.
        held_out: Rows whose loss is logged and not trained on.
    """

    recipe: Recipe
    rows: Rows
    encoded: list[EncodedRow]
    encoder: Encoder
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    held_out: list[EncodedRow] = field(default_factory=list)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.encoder.tokenizer

    @property
    def template(self) -> ChatTemplate:
        return self.encoder.template

    @property
    def chat_template(self) -> ChatTemplate:
        """The template the tuned model is prompted with; see `prompt_template`."""
        return load_template(prompt_template(self.recipe.encoding.template))

    @property
    def sha256(self) -> str:
        """Hex sha256 over tokens and labels, in order: what training depends on besides recipe and weights."""
        return sha256_json([[row.input_ids, row.labels] for row in self.encoded])

    def statistics(self) -> dict[str, Any]:
        """Counts for the dry run, the model card and the log."""
        lengths = sorted(row.full_length for row in self.encoded)
        return {
            "rows": len(self.encoded),
            "tokens": sum(len(row.input_ids) for row in self.encoded),
            "loss_tokens": sum(row.loss_tokens for row in self.encoded),
            "median_length": lengths[len(lengths) // 2],
            "longest": lengths[-1],
            "truncated": sum(row.truncated for row in self.encoded),
            "multi_turn": sum(_answers(c) > 1 for c in self.rows.conversations),
        }


@without_known_warnings()
def prepare(recipe: Recipe, model_path: str | Path, ask: Ask | None = None, rows: Rows | None = None) -> Prepared:
    """Loads, filters and encodes a recipe's rows.

    Args:
        recipe: The resolved recipe.
        model_path: Hub name or folder of the base model, for its tokenizer.
        ask: A language model for the rephrasing detector; None takes the recipe's `rephrasing_model`, if it has one,
            else the lexical rule.
        rows: From `load_rows`, where they were looked at before the model; None loads them.

    Raises:
        UserError: For bad data, named by row, where no row is left, and where the base model does not fit the recipe.
    """
    template = load_template(recipe.encoding.template)
    rows = rows or load_rows(recipe.data)
    notes = [*filter(None, [profile_note(recipe.profile, recipe.base)]), *rows.notes]
    check_model(model_path, recipe.base_revision, recipe.train)
    tokenizer = load_tokenizer(model_path, recipe.base_revision)
    encoder = Encoder(tokenizer, template, recipe.encoding.max_length, recipe.encoding.newline_in_loss)
    if recipe.data.max_tokens is not None:
        every, most = rows.conversations, recipe.data.max_tokens
        rows.conversations = _short(every, tokenizer, most)
        kept = {c.where for c in rows.conversations}
        if long := [c.where for c in every if c.where not in kept]:
            notes.append(
                f"{len(long)} of {len(every)} rows have more than {most} tokens and are left out ({places(long, None)})"
            )
    decisions: list[Decision] = []
    if recipe.data.rephrasing != "keep":
        before = len(rows.conversations)
        if ask is None and recipe.data.rephrasing_model is not None:
            ask = model_ask(recipe.data.rephrasing_model)
        rows.conversations, decisions = remove_rephrasing(rows.conversations, recipe.data.rephrasing, ask)
        flagged = len({d.where for d in decisions if d.rephrases})
        left_out = list(dict.fromkeys(d.where for d in decisions if d.outcome == "left out"))
        names = {"published": "GPT-4's published verdicts", "lexical": "the lexical rule"}
        detector = " and ".join(
            sorted({names.get(d.by, recipe.data.rephrasing_model or "the model") for d in decisions})
        )
        without = f"; {len(left_out)} are left out for it ({places(left_out, None)})" if left_out else ""
        if flagged:
            notes.append(f"{flagged} of {before} rows begin by rephrasing, says {detector}{without}")
    if recipe.data.drop_instructions:
        rows.conversations = [Conversation(c.where, drop_instructions(c.messages)) for c in rows.conversations]
    if not rows.conversations:
        raise UserError(
            f"{rows.origin}: 0 rows remain ({'; '.join(notes)}). Expected at least one; change recipe.data."
        )
    rows.conversations, held = _split(rows.conversations, recipe.data.held_out or 0)
    encoded = encode_rows(encoder, rows.conversations)
    if literal := [(c.where, found) for c in rows.conversations if (found := encoder.special_tokens_in(c))]:
        texts = ", ".join(sorted({repr(text) for _, found in literal for text in found}))
        where = places(place for place, _ in literal)
        notes.append(
            f"{len(literal)} rows hold {texts} in a message, which is trained as text, not as the token ({where})"
        )
    truncated = [row for row in encoded if row.truncated]
    if truncated:
        most = recipe.encoding.max_length
        where = places(row.where for row in truncated)
        notes.append(f"{len(truncated)} rows are cut at {most} tokens and lose their end ({where})")
    if held:
        notes.append(f"{len(held)} rows are held out of the training ({places(c.where for c in held)})")
    return Prepared(recipe, rows, encoded, encoder, decisions, notes, encode_rows(encoder, held))


def _split(conversations: list[Conversation], count: int) -> tuple[list[Conversation], list[Conversation]]:
    """The rows to train on, and `count` evenly spread others: the same ones whatever the seed."""
    if count >= len(conversations):
        raise UserError(f"data.held_out is {count}, expected fewer than the {len(conversations)} rows there are.")
    held = {(2 * n + 1) * len(conversations) // (2 * count) for n in range(count)}
    return [c for n, c in enumerate(conversations) if n not in held], [conversations[n] for n in sorted(held)]


def _short(conversations: list[Conversation], tokenizer: PreTrainedTokenizerBase, most: int) -> list[Conversation]:
    """The conversations of at most `most` tokens, counted with their instructions and the usual tags.

    So instruction tuning, response tuning and other tags see the same rows.
    """
    counter = Encoder(tokenizer, load_template("tulu"), max_length=most)
    return [c for c in conversations if counter.length(c) <= most]


def _answers(conversation: Conversation) -> int:
    return sum(m["role"] == "assistant" for m in conversation.messages)
