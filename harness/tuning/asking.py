"""Asking a language model about the training rows, through the judges' client; every answer is kept.

Answers are stored in the user's cache by model and prompt, so that an interrupted run, or the next one, pays once and
trains on the same rows.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.files import cache_dir, sha256_json
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.tuning.rephrasing import Ask

if TYPE_CHECKING:
    from implicit_if.harness.judging.client import ApiClient

_AT_ONCE = 16
_MAX_TOKENS = 300
_KEY = "OPENAI_API_KEY"


def model_ask(name: str) -> Ask:
    """A function that asks `openai:<model>` at `$OPENAI_BASE_URL` (by default OpenAI's) with `$OPENAI_API_KEY`.

    Raises:
        UserError: If the name is of another kind, or a remote server is asked without a key.
    """
    kind, _, model = name.partition(":")
    if kind != "openai" or not model:
        raise UserError(f"data.rephrasing_model is {name!r}, expected openai:<model>, e.g. openai:gpt-4.1-mini.")
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")

    def ask(prompts: Sequence[str]) -> list[str]:
        store = cache_dir() / "answers" / f"{sha256_json([url, model])[:16]}.jsonl"
        known = {record["prompt"]: record["answer"] for record in read_records(store)}
        missing = [prompt for prompt in dict.fromkeys(prompts) if sha256_json(prompt) not in known]
        if missing:
            _announce(model, missing)
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            answers = asyncio.run(_ask_together(url, model, part))
            found = [{"prompt": sha256_json(p), "answer": a} for p, a in zip(part, answers, strict=True)]
            append_records(store, found)
            known |= {record["prompt"]: record["answer"] for record in found}
        return [known[sha256_json(prompt)] for prompt in prompts]

    return ask


def _announce(model: str, prompts: Sequence[str]) -> None:
    """Says what asking will take; a token is taken for four characters."""
    from implicit_if.harness.judging.backends._options import ApiOptions, prices_for

    tokens = sum(map(len, prompts)) / 4
    cost = prices_for(model, ApiOptions(), local=False).cost(tokens, _MAX_TOKENS * len(prompts))
    said = "its price is not known" if cost is None else f"at most about ${cost:.2f} at list price"
    print(f"asking {model} about {len(prompts)} answers: {said}", file=sys.stderr, flush=True)


async def _ask_together(url: str, model: str, prompts: Sequence[str]) -> list[str]:
    from implicit_if.harness.judging.backends._options import make_endpoint, read_key
    from implicit_if.harness.judging.client import ApiClient, Limits, check_url

    headers = {"authorization": "Bearer {key}"}
    base = check_url(url, "OPENAI_BASE_URL")
    endpoint = make_endpoint(base, "/chat/completions", read_key(_KEY), _KEY, headers)
    async with ApiClient(endpoint, Limits(concurrency=_AT_ONCE)) as client:
        return list(await asyncio.gather(*_posts(client, model, prompts)))


def _posts(client: ApiClient, model: str, prompts: Sequence[str]) -> Iterator[Any]:
    for prompt in prompts:
        yield _post(client, model, prompt)


async def _post(client: ApiClient, model: str, prompt: str) -> str:
    from implicit_if.harness.judging.backends.openai import first_choice
    from implicit_if.harness.judging.faults import Rejected, Unanswered

    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "temperature": 0.0, "max_tokens": _MAX_TOKENS, "messages": messages}
    try:
        return (await client.post(body, lambda content: str(first_choice(content)["text"]))).content
    except (Rejected, Unanswered) as error:
        raise UserError(f"asking {model} failed: {error}. Run the command again; answers so far are kept.") from error
