"""From a recipe's `data` to checked conversations: read from the hub or a file, transformed, validated, counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from implicit_if.harness.errors import UserError, raise_all
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.tuning.data.hub import fetch
from implicit_if.harness.tuning.data.read_file import Placed, read_file
from implicit_if.harness.tuning.data.row_formats import Message, null_words, row_format
from implicit_if.harness.tuning.recipe_schema import Data


@dataclass(frozen=True)
class Conversation:
    """One training row.

    Attributes:
        where: The place it came from, for messages: the file, and the line or row in it, counted from 1.
        messages: An optional system message, then user and assistant in turn, ending with the assistant.
    """

    where: str
    messages: list[Message]


@dataclass
class Rows:
    """The training rows and what is known of their origin.

    Attributes:
        conversations: In the source's order.
        origin: Hub repository or file.
        revision: The hub commit; None for a file.
        licence: As stated.
        notes: What was skipped, and what looks like a mistake; one sentence each.
    """

    conversations: list[Conversation]
    origin: str
    revision: str | None
    licence: str
    notes: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Hex sha256 over the conversations as they are trained on, in order."""
        return sha256_json([c.messages for c in self.conversations])


def load_rows(data: Data) -> Rows:
    """Reads, transforms and checks the rows a recipe names; instructions are not dropped here.

    Raises:
        UserError: For data that cannot be read, and for rows that do not fit: names each row and the field.
    """
    broken: list[UserError] = []
    if data.path is not None:
        records, origin, revision = iter(read_file(data.path, null_words(data), broken)), data.path, None
    else:
        records, revision = fetch(data)
        origin = str(data.repo)
    conversations, skipped, more = _conversations(data, origin, records, broken)
    if not conversations:
        raise UserError(f"{origin}: found 0 conversations. Expected rows of the format {data.format!r}.")
    notes = []
    if skipped:
        notes.append(f"{len(skipped)} rows have no name and were skipped, as in the paper ({places(skipped, None)})")
    if more:
        notes.append(f"only the first {data.limit} conversations were taken, as data.limit says")
    elif data.limit and len(conversations) < data.limit:
        notes.append(f"{len(conversations)} conversations, where data.limit is {data.limit}")
    return Rows(conversations, origin, revision, data.licence, notes + list(_suspicions(data, conversations)))


def _conversations(
    data: Data, origin: str, records: Iterable[Placed], broken: list[UserError]
) -> tuple[list[Conversation], list[str], bool]:
    """The conversations, where rows were skipped, and whether there are more than `data.limit`."""
    make = row_format(data)
    conversations: list[Conversation] = []
    faults: list[UserError] = []
    skipped: list[str] = []
    more = False
    for place, row in records:
        where = f"{origin}, {place}"
        try:
            messages = make(where, row)
            if messages and len(conversations) == data.limit:
                more = True
                break
            if messages:
                check_messages(where, messages)
                conversations.append(Conversation(where, messages))
            elif messages is not None:
                skipped.append(where)
        except UserError as error:
            if len(conversations) != data.limit:  # a row past the limit is not used
                faults.append(error)
    raise_all([*broken, *faults])
    return conversations, skipped, more


def _suspicions(data: Data, conversations: list[Conversation]) -> Iterable[str]:
    """What may be a mistake in the data, and is trained on all the same."""
    first: dict[str, str] = {}
    twice = [c.where for c in conversations if first.setdefault(str(c.messages), c.where) != c.where]
    if twice:
        yield f"{len(twice)} rows repeat an earlier one ({places(twice)})"
    empty = [
        c.where for c in conversations if any(m["role"] == "user" and not m["content"].strip() for m in c.messages)
    ]
    if empty and not data.drop_instructions:
        yield f"{len(empty)} rows have an empty instruction ({places(empty)})"


def check_messages(where: str, messages: list[Message]) -> None:
    """Refuses conversations that would train nonsense; messages count from 1.

    Raises:
        UserError: If roles are not user and assistant in turn (after an optional system message), the last message
            is not the assistant's, an answer is empty, or a text is no Unicode text.
    """
    system = messages[0]["role"] == "system"
    for number, message in enumerate(messages[system:], start=1 + system):
        expected = ("user", "assistant")[(number - 1 - system) % 2]
        if message["role"] != expected:
            raise UserError(
                f"{where}, message {number}: role is {message['role']!r}, expected {expected!r} "
                f"(user and assistant in turn, after at most one system message). Fix the row."
            )
        if expected == "assistant" and not message["content"].strip():
            raise UserError(
                f"{where}, message {number}: the answer is empty; it would train the model to stop at once. "
                f"Expected text; fix or remove the row."
            )
    for number, message in enumerate(messages, start=1):
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where}, message {number}: character {error.start} is {message['content'][error.start]!a}, half of a "
                f"surrogate pair. Expected text that UTF-8 can hold; fix the row."
            ) from error
    if messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: ends with {messages[-1]['role']!r}, expected an answer. Fix the row.")


def drop_instructions(messages: list[Message]) -> list[Message]:
    """The conversation as response tuning sees it: user texts empty, system messages gone."""
    return [m if m["role"] == "assistant" else {**m, "content": ""} for m in messages if m["role"] != "system"]


def places(wheres: Iterable[str], most: int | None = 8) -> str:
    """Where rows stand in their file, e.g. "line 3, line 8"; the first `most`, or for None all: "line 3-7, 9"."""
    short = [where.rpartition(", ")[2] for where in wheres]
    if most is None:
        return _ranges(short)
    return ", ".join(short[:most]) + (f" and {len(short) - most} more" if len(short) > most else "")


def _ranges(short: list[str]) -> str:
    unit = short[0].partition(" ")[0]
    spans: list[list[int]] = []
    for number in (int(place.rpartition(" ")[2]) for place in short):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return f"{unit} " + ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
