"""The Hugging Face hub, asked in bounded time: a file from its cache, else a question before the download."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError

PATIENCE = 15.0
"""Seconds in which the hub has to answer at all, name look-up included."""


class HubUnavailableError(OSError):
    """The hub does not give something now; the message says why."""


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The call's value, if it comes in time. Sockets' own timeouts do not cover the look-up of a name.

    Raises:
        HubUnavailableError: If it does not, in which case the call goes on in a thread that keeps nobody from leaving,
            or if the call fails by another error than the two below.
        OSError: As the call; huggingface_hub's errors are such, but for those of the connection.
        UserError: As the call.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = call()
        except Exception as error:  # noqa: BLE001 - the calling thread raises it again
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if "value" in outcome:
        return outcome["value"]
    error = outcome.get("error")
    if isinstance(error, OSError | UserError):
        raise error
    if error is not None:
        raise HubUnavailableError(reason(error)) from error
    raise HubUnavailableError(f"no answer from the hub within {seconds:g} seconds")


def why(error: OSError) -> str:
    """What to say of an error: the message where it is ours, else what kind it is."""
    return str(error) if isinstance(error, HubUnavailableError) else type(error).__name__


def reason(error: Exception) -> str:
    """An error in one line, without the user name and password an endpoint's address may hold."""
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {re.sub(r'//[^/@ ]+@', '//', first_line)}"


def dataset_file(repo: str, file: str, revision: str) -> Path:
    """A file of a data set, from the cache without asking, else from the hub.

    Args:
        repo: The data set.
        file: The file's path in it.
        revision: The whole commit hash.

    Raises:
        OSError: If the hub does not answer in `PATIENCE`, has no such file or cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_OFFLINE

    cached = isinstance(try_to_load_from_cache(repo, file, revision=revision, repo_type="dataset"), str)
    if not cached and not HF_HUB_OFFLINE:  # asked first because hf_hub_download retries for long where nobody answers
        url = hf_hub_url(repo, file, revision=revision, repo_type="dataset")
        within(PATIENCE, lambda: get_hf_file_metadata(url, timeout=PATIENCE))
    return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
