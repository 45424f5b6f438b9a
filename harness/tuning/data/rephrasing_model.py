"""Asking a language model about the training rows, through the judges' client; every verdict is kept.

Answers with a verdict are stored in the user's cache by model and prompt, each as it comes, so that an interrupted run,
the other processes of a launch, or the next run pay once and train on the same rows.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.locks import locked
from implicit_if.harness.records import append_records, read_records
from implicit_if.harness.storage import cache_dir, sha256_json
from implicit_if.harness.tuning.data.rephrasing import REMINDER, Ask, find_verdict

if TYPE_CHECKING:
    from implicit_if.harness.judging.api.client import ApiClient

_AT_ONCE = 16
_TRIES = 3
_MAX_TOKENS = 300
_SETTINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0, "max_tokens": _MAX_TOKENS},
    {"max_completion_tokens": 4000},  # models that think first, which also refuse a temperature
)
_KEY = "OPENAI_API_KEY"


def model_ask(name: str) -> Ask:
    """A function that asks `openai:<model>` at `$OPENAI_BASE_URL` (by default OpenAI's) with `$OPENAI_API_KEY`.

    Of the processes of this machine one asks at a time, and the others then find its answers. An answer without a
    verdict is asked for again, with a reminder; if none comes, the last one is returned and not stored.

    Raises:
        UserError: If the name is of another kind, or a remote server is asked without a key.
    """
    kind, _, model = name.partition(":")
    if kind != "openai" or not model:
        raise UserError(f"data.rephrasing_model is {name!r}, expected openai:<model>, e.g. openai:gpt-4.1-mini.")
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")

    def ask(prompts: Sequence[str]) -> list[str]:
        store = cache_dir() / "answers" / f"{sha256_json([url, model])[:16]}.jsonl"
        with locked(store.with_suffix(".asking")):
            known = _stored(store)
            missing = [prompt for prompt in dict.fromkeys(prompts) if sha256_json(prompt) not in known]
            if missing:
                _announce(model, missing)
                known |= _Asking(url, model, store).answers(missing)
        return [known[sha256_json(prompt)] for prompt in prompts]

    return ask


def _stored(store: Path) -> dict[str, str]:
    """Answers by the hash of their prompt."""
    found = {record["prompt"]: record["answer"] for record in read_records(store)}
    return {prompt: answer for prompt, answer in found.items() if find_verdict(answer) is not None}


def _announce(model: str, prompts: Sequence[str]) -> None:
    """Says what asking will take; a token is taken for four characters."""
    from implicit_if.harness.judging.api.options import ApiOptions, prices_for

    tokens = sum(map(len, prompts)) / 4
    cost = prices_for(model, ApiOptions(), local=False).cost(tokens, _MAX_TOKENS * len(prompts))
    said = "its price is not known" if cost is None else f"about ${cost:.2f} at list price"
    print(f"asking {model} about {len(prompts)} answers: {said}", file=sys.stderr, flush=True)


@dataclass
class _Asking:
    """One round of questions.

    Attributes:
        url: Of the server.
        model: Its name there.
        store: Where answers with a verdict go.
        settings: The first of `_SETTINGS` that the server has not refused.
    """

    url: str
    model: str
    store: Path
    settings: list[dict[str, Any]] = field(default_factory=lambda: list(_SETTINGS))

    def answers(self, prompts: Sequence[str]) -> dict[str, str]:
        """Answers by the hash of their prompt; those that came before a fault are stored all the same.

        Raises:
            UserError: The first fault.
        """
        from implicit_if.harness.judging.api.event_loop import run_alone

        return run_alone(self._ask(prompts))

    async def _ask(self, prompts: Sequence[str]) -> dict[str, str]:
        from implicit_if.harness.judging.api.client import ApiClient, Limits
        from implicit_if.harness.judging.api.endpoint import check_url, make_endpoint, read_key

        headers = {"authorization": "Bearer {key}"}
        base = check_url(self.url, "OPENAI_BASE_URL")
        endpoint = make_endpoint(base, "/chat/completions", read_key(_KEY), _KEY, headers)
        found: dict[str, str] = {}
        async with ApiClient(endpoint, Limits(concurrency=_AT_ONCE)) as client:
            for part in _parts(prompts):
                results = await asyncio.gather(*(self._one(client, prompt) for prompt in part), return_exceptions=True)
                for prompt, result in zip(part, results, strict=True):
                    if isinstance(result, BaseException):
                        raise result
                    found[sha256_json(prompt)] = result
        return found

    async def _one(self, client: ApiClient, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        answer = ""
        for _ in range(_TRIES):
            answer = await self._post(client, messages)
            if find_verdict(answer) is not None:
                append_records(self.store, [{"prompt": sha256_json(prompt), "answer": answer}])
                break
            messages = [*messages[:1], {"role": "assistant", "content": answer}, {"role": "user", "content": REMINDER}]
        return answer

    async def _post(self, client: ApiClient, messages: list[dict[str, str]]) -> str:
        from implicit_if.harness.judging.api.faults import Rejected, Unanswered
        from implicit_if.harness.judging.backends.openai import first_choice
        from implicit_if.harness.judging.protocol import JudgeError

        settings = self.settings[0]
        body = {"model": self.model, **settings, "messages": messages}
        try:
            return (await client.post(body, lambda content: str(first_choice(content)["text"]))).content
        except (Rejected, Unanswered, JudgeError) as error:
            if not any(name in str(error) for name in settings):
                raise UserError(
                    f"asking {self.model} failed: {error} Run the command again; verdicts so far are kept."
                ) from error
            self.settings = [other for other in self.settings if other != settings] or self.settings
            if settings in self.settings:
                raise UserError(
                    f"asking {self.model} failed: {str(error).split('. The ')[0]}. Expected a model that takes "
                    f"max_tokens or max_completion_tokens; choose another data.rephrasing_model."
                ) from error
        return await self._post(client, messages)


def _parts(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(prompts), _AT_ONCE):
        yield prompts[start : start + _AT_ONCE]
