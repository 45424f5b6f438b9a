"""The 805 AlpacaEval instructions, read from the Hugging Face hub at a pinned revision.

They are CC BY-NC 4.0: never shipped here, and results carry only their ids. The file's reference outputs are not read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.hub import HubUnavailableError, reason, within
from implicit_if.harness.instructions.local import read_instructions
from implicit_if.harness.instructions.sets import Instruction, InstructionSet

REPOSITORY = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
FILE = "alpaca_eval_gpt4_baseline.json"
N_INSTRUCTIONS = 805
CONTENT_SHA256 = "b2f4f1701f449478622febc51eb0f4246db0dd2570a9234ad35034797abf4660"
"""`content_sha256` of the 805, by which a local copy is recognised."""

DOWNLOAD_SECONDS = 120.0


@functools.cache
def official_ids() -> tuple[str, ...]:
    """Ids of the 805 instructions in AlpacaEval's order."""
    return tuple(json.loads(Path(__file__).with_name("alpaca_eval_ids.json").read_text(encoding="utf-8")))


def load_alpaca_eval(patience: float) -> InstructionSet:
    """The set, from the hub's cache or else from the hub.

    Args:
        patience: Seconds the hub may take to answer at all, name look-up included.

    Raises:
        HubUnavailableError: If the file is not cached and the hub does not give it.
        UserError: If the file does not hold 805 different instructions.
    """
    path = _cached() or _download(patience)
    items = read_instructions(path)
    if len(items) != N_INSTRUCTIONS:
        raise UserError(
            f"{path}: found {len(items)} instructions, expected the {N_INSTRUCTIONS} of {REPOSITORY} at {REVISION}. "
            f"Delete that file to download it again."
        )
    return alpaca_eval_set(items)


def alpaca_eval_set(items: tuple[Instruction, ...]) -> InstructionSet:
    """AlpacaEval's instructions under their name, revision and licence."""
    return InstructionSet("alpaca_eval", REVISION, licence="CC-BY-NC-4.0", shippable=False, items=items)


def _cached() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(REPOSITORY, FILE, revision=REVISION, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def _download(patience: float) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise HubUnavailableError("it is not in the cache, and HF_HUB_OFFLINE is set")
    url = hf_hub_url(REPOSITORY, FILE, revision=REVISION, repo_type="dataset")
    # Asked first because hf_hub_download retries for about 23 seconds on a machine without network.
    _within(patience, lambda: get_hf_file_metadata(url, timeout=patience))
    path = _within(DOWNLOAD_SECONDS, lambda: hf_hub_download(REPOSITORY, FILE, revision=REVISION, repo_type="dataset"))
    return Path(path)


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    try:
        return within(seconds, call)
    except HubUnavailableError:
        raise
    except OSError as error:
        raise HubUnavailableError(reason(error)) from error
