"""Exports by the readers of those who collect them: Every Eval Ever's own schema, the hub's own client."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from factory import LongestJudge, attempts_by_model, make_submission, outputs, run
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from implicit_if.harness.errors import UserError
from implicit_if.leaderboards import exports
from implicit_if.leaderboards.commands import export as export_command
from implicit_if.leaderboards.verification.result import Verified
from implicit_if.leaderboards.verification.verify import verify

SCHEMA = json.loads((Path(__file__).parent / "every_eval_ever.schema.json").read_text())


def with_set(verified: Verified, name: str, **changes: Any) -> Verified:
    """The same numbers as if of another instruction set."""
    info = verified.metadata.instruction_set.model_copy(update={"name": name, "revision": "2edc6fad"})
    return dataclasses.replace(
        verified, metadata=verified.metadata.model_copy(update={"instruction_set": info, **changes})
    )


@pytest.mark.parametrize("judge", [None, LongestJudge()])
@pytest.mark.parametrize("n", [12, 80])
def test_every_eval_ever_s_schema_holds(tmp_path: Path, judge: Any, n: int) -> None:
    own = outputs("parrot", n, 1)
    verified = verify(make_submission(tmp_path, n=n, judge=judge, answers=own, attempts=attempts_by_model(own)))
    validator = jsonschema.Draft7Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for one in (verified, with_set(verified, "alpaca_eval")):
        record = json.loads(exports.every_eval_ever(one, 1_700_000_000))
        assert [error.message for error in validator.iter_errors(record)] == []
        assert record["schema_version"] == SCHEMA["version"]
        told = {r["metric_config"]["metric_id"]: r["score_details"]["score"] for r in record["evaluation_results"]}
        assert told == {name: score.value for name, score in verified.scores.items()}
    del record["model_info"]["id"]
    assert list(validator.iter_errors(record))


def test_the_hub_s_client_reads_our_entries(tmp_path: Path) -> None:
    own = outputs("parrot", 12, 1)
    folder = make_submission(
        tmp_path, n=12, answers=own, attempts=attempts_by_model(own), links=["https://example.org/paper"]
    )
    verified = verify(folder)
    target = tmp_path / "results.yaml"
    arguments = ("--format", "hf-eval-results", "--dataset", "acme/made", "--out", str(target))
    assert run(export_command, str(folder), *arguments) == 0
    entries: list[EvalResultEntry] = parse_eval_result_entries(yaml.safe_load(target.read_text()))
    assert [e.task_id for e in entries] == ["attempt_rate", "win_rate", "length_controlled_win_rate"]
    for entry in entries:
        score = verified.scores[entry.task_id]
        assert entry.value == pytest.approx(score.value, abs=1e-4)
        assert str(score.signature) in (entry.notes or "")
        assert score.render() in (entry.notes or "")
        assert (entry.dataset_id, entry.source_url) == ("acme/made", "https://example.org/paper")
    with pytest.raises(UserError, match="3 scores would be one task's"):
        exports.hub_eval_results(verified, "acme/made", "default")


def test_no_offline_judge_s_win_rate_becomes_alpaca_eval_s(tmp_path: Path) -> None:
    verified = verify(make_submission(tmp_path, n=12, judge=LongestJudge()))
    with pytest.raises(UserError, match=r"instructions 'made' are in no data set of the hub.*--dataset ORG/NAME"):
        exports.hub_eval_results(verified)
    with pytest.raises(UserError, match="judged by longest, which only orders systems"):
        exports.hub_eval_results(with_set(verified, "alpaca_eval"))
    by_model = verify(make_submission(tmp_path / "other", n=12))
    (entry, _) = parse_eval_result_entries(yaml.safe_load(exports.hub_eval_results(with_set(by_model, "alpaca_eval"))))
    assert (entry.dataset_id, entry.dataset_revision) == ("tatsu-lab/alpaca_eval", "2edc6fad")
