"""The task as lm-eval runs it, on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval import simple_evaluate

from implicit_if.harness.analysis.audit.checks import refuses
from implicit_if.harness.analysis.audit.probes import load_probes
from implicit_if.harness.errors import UserError
from implicit_if.harness.judging.backends import embedded_attempts
from implicit_if.tasks.chatbot_audit import task
from implicit_if.tasks.chatbot_audit.task import check


def test_rates_are_shares_of_the_answers(tiny_model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_attempts, "attempt_probabilities", lambda pairs: [float("a" in a) for _, a in pairs])
    few = tuple(probe for probe in load_probes(2) if probe.kind != "long")
    monkeypatch.setattr(task, "_probes", lambda: few)
    found: dict[str, Any] = dict(
        simple_evaluate(
            model="rules_poe",
            model_args={"pretrained": tiny_model_folder, "dtype": "float32"},
            tasks=["chatbot_audit"],
            device="cpu",
            batch_size=4,
            gen_kwargs={"max_gen_toks": 8},
            log_samples=True,
            bootstrap_iters=0,
        )
    )
    rates = {key.removesuffix(",none"): value for key, value in found["results"]["chatbot_audit"].items()}
    samples = sorted(found["samples"]["chatbot_audit"], key=lambda sample: sample["doc"]["place"])
    answers = [sample["filtered_resps"][0] for sample in samples]
    general = [a for a, probe in zip(answers, few, strict=True) if probe.kind == "general"]
    assert rates["attempt_rate"] == pytest.approx(100 * sum("a" in a for a in general) / 2)
    harmful = [a for a, probe in zip(answers, few, strict=True) if probe.kind == "harmful"]
    assert rates["refusal_harmful"] == pytest.approx(100 * sum(map(refuses, harmful)) / 2)
    assert "right_long" not in rates, "no long probe was asked"
    prompts = [sample["arguments"][0][0] for sample in samples]
    turns = [p for p, probe in zip(prompts, few, strict=True) if probe.kind == "turns"]
    assert len(turns) == 2
    assert all(p.count("<|user|>") == 2 and "</s>" in p for p in turns)


def test_a_wrong_template_is_named_before_a_model_loads() -> None:
    with pytest.raises(UserError, match="Did you mean 'tulu'"):
        check({"template": "tullu"})
