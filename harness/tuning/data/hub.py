"""Reading a data set of the hub at its pinned revision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from implicit_if.harness.errors import UserError
from implicit_if.harness.hub import PATIENCE, dataset_file, why, within
from implicit_if.harness.tuning.data.read_file import Placed, Record, read_file
from implicit_if.harness.tuning.data.row_formats import null_words
from implicit_if.harness.tuning.recipe_schema import Data

_STREAM_SECONDS = 60.0
"""Seconds in which a data set without files of its own has to be opened."""


def fetch(data: Data) -> tuple[Iterator[Placed], str]:
    """Rows of a hub data set with their places, and its revision in full.

    Raises:
        UserError: If the recipe names no hub repository, or the hub does not give it.
    """
    if data.repo is None:
        raise UserError("the recipe names no data: no repo, and no file given. Expected --data PATH (or data.path).")
    from huggingface_hub.errors import GatedRepoError

    try:
        revision = _full_revision(data.repo, str(data.revision))
        if data.file is None:
            return within(_STREAM_SECONDS, lambda: _stream(str(data.repo), revision)), revision
        path = dataset_file(data.repo, data.file, revision)
    except GatedRepoError as error:
        raise UserError(
            f"{data.repo} is gated: ask for access at https://huggingface.co/datasets/{data.repo}, then run "
            f"`hf auth login`; or give a local copy with --data PATH."
        ) from error
    except OSError as error:
        raise UserError(
            f"{data.repo} at {data.revision} could not be fetched ({why(error)}). "
            f"Check the connection, or give a local copy with --data PATH."
        ) from error
    return iter(read_file(path, null_words(data))), revision


def _full_revision(repo: str, revision: str) -> str:
    """The whole commit hash of a revision pinned by its first digits: the hub takes no short ones."""
    if len(revision) == 40:
        return revision
    from huggingface_hub import HfApi

    listed = within(PATIENCE, lambda: HfApi().list_repo_commits(repo, repo_type="dataset"))
    commits = [c.commit_id for c in listed]
    matching = [commit for commit in commits if commit.startswith(revision)]
    if len(matching) != 1:
        raise UserError(f"{repo}: {len(matching)} commits begin with {revision}, expected one. Give --data PATH.")
    return str(matching[0])


def _stream(repo: str, revision: str) -> Iterator[Placed]:
    """Rows as they come, so that a large data set is not downloaded whole."""
    from datasets import load_dataset

    rows: Iterable[Record] = load_dataset(repo, split="train", revision=revision, streaming=True)
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))
