"""From a recipe's `data` to checked conversations: read from the hub or a file, transformed, validated, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_json
from implicit_if.harness.tuning.data.read_file import Placed, Record, read_file
from implicit_if.harness.tuning.data.sources import Message, Source, find_source
from implicit_if.harness.tuning.schema import Data


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
        notes: What was skipped, and where counts differ from the paper's; one sentence each.
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
        UserError: For a source or file that cannot be had, and for the first row that does not fit: names the row
            and the field.
    """
    source = find_source(data.source)
    if data.path is not None:
        records, origin, revision = iter(read_file(data.path, source.null_words)), data.path, None
    else:
        records, revision = fetch(source)
        origin = str(source.repo)
    made = source.transform((f"{origin}, {place}", row) for place, row in records)
    most = data.limit or source.rows
    conversations: list[Conversation] = []
    skipped = 0
    for where, messages in made:
        if not messages:
            skipped += 1
        elif len(conversations) == most:
            break
        else:
            check_messages(where, messages)
            conversations.append(Conversation(where, messages))
    else:
        most = None
    if not conversations:
        raise UserError(f"{origin}: found 0 conversations. Expected rows of the shape of {source.name!r}.")
    notes = [f"{skipped} rows have no name and were skipped, as in the paper"] if skipped else []
    if most is not None:
        notes.append(f"only the first {most} conversations were taken{'' if data.limit else ', as in the paper'}")
    if source.rows not in (None, len(conversations)) and data.limit is None:
        notes.append(f"{len(conversations)} conversations, where the paper has {source.rows}")
    return Rows(conversations, origin, revision, data.licence or source.licence, notes)


def check_messages(where: str, messages: list[Message]) -> None:
    """Refuses conversations that would train nonsense.

    Raises:
        UserError: If roles are not user and assistant in turn (after an optional system message), the last message
            is not the assistant's, an answer is empty, or a text is no Unicode text.
    """
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for number, message in enumerate(turns, start=len(messages) - len(turns)):
        expected = ("user", "assistant")[(number - len(messages) + len(turns)) % 2]
        if message["role"] != expected:
            raise UserError(
                f"{where}, message {number}: role is {message['role']!r}, expected {expected!r} "
                f"(user and assistant in turn, after at most one system message). Mend the row."
            )
        if expected == "assistant" and not message["content"].strip():
            raise UserError(
                f"{where}, message {number}: the answer is empty; it would train the model to stop at once. "
                f"Expected text; mend or remove the row."
            )
    for number, message in enumerate(messages):
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where}, message {number}: character {error.start} is {message['content'][error.start]!a}, half of a "
                f"surrogate pair. Expected text that UTF-8 can hold; mend the row."
            ) from error
    if not turns or turns[-1]["role"] != "assistant":
        raise UserError(f"{where}: ends with {messages[-1]['role']!r}, expected an answer. Mend the row.")


def drop_instructions(messages: list[Message]) -> list[Message]:
    """The conversation as response tuning sees it: user texts empty, system messages gone."""
    return [m if m["role"] == "assistant" else {**m, "content": ""} for m in messages if m["role"] != "system"]


def fetch(source: Source) -> tuple[Iterator[Placed], str]:
    """Rows of a hub data set at its pinned revision with their places, and that revision in full.

    Raises:
        UserError: If the source has no hub repository, or the hub does not give it.
    """
    if source.repo is None:
        raise UserError(
            f"data source {source.name!r}: no file given. Expected --data PATH (or data.path in the recipe)."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        revision = _full_revision(source)
        if source.file is None:
            return _stream(source, revision), revision
        path = hf_hub_download(source.repo, source.file, repo_type="dataset", revision=revision)
    except GatedRepoError as error:
        raise UserError(
            f"{source.repo} is gated: ask for access at https://huggingface.co/datasets/{source.repo}, then run "
            f"`hf auth login`; or give a local copy with --data PATH."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{source.repo} at {source.revision} could not be fetched ({type(error).__name__}). "
            f"Check the connection, or give a local copy with --data PATH."
        ) from error
    return iter(read_file(path, source.null_words)), revision


def _full_revision(source: Source) -> str:
    """The whole commit hash of a revision pinned by its first digits: the hub takes no short ones."""
    revision = str(source.revision)
    if len(revision) == 40:
        return revision
    from huggingface_hub import HfApi

    commits = [c.commit_id for c in HfApi().list_repo_commits(str(source.repo), repo_type="dataset")]
    matching = [commit for commit in commits if commit.startswith(revision)]
    if len(matching) != 1:
        raise UserError(
            f"{source.repo}: {len(matching)} commits begin with {revision}, expected one. Give --data PATH."
        )
    return matching[0]


def _stream(source: Source, revision: str) -> Iterator[Placed]:
    """Rows as they come, so that a large data set is not downloaded whole."""
    from datasets import load_dataset

    rows: Iterable[Record] = load_dataset(source.repo, split="train", revision=revision, streaming=True)
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))
