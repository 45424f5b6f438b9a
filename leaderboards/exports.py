"""Verified submissions in other tools' forms: for model repos on the hub, Every Eval Ever's JSON, alpaca-eval's CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from implicit_if import __version__
from implicit_if.harness import stats
from implicit_if.harness.columns import ATTEMPTS
from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions.alpaca_eval import REPOSITORY
from implicit_if.harness.judging.registry import length_prior, offline_judges
from implicit_if.harness.safe_text import csv_cell
from implicit_if.harness.scores import Score
from implicit_if.harness.stats.length_control.estimator_choice import control_length
from implicit_if.harness.storage import json_bytes, yaml_bytes
from implicit_if.leaderboards.verification.result import Verified, read_pairs

EEE_SCHEMA = "0.3.0"
"""Version of evaleval/every_eval_ever's eval.schema.json that `every_eval_ever` follows."""

_NAMES = {
    ATTEMPTS: "attempt rate",
    "win_rate": "win rate",
    "discrete_win_rate": "discrete win rate",
    "length_controlled_win_rate": "length-controlled win rate",
    "position_bias": "position bias",
}
_ALPACA_COLUMNS = (
    "",
    "win_rate",
    "standard_error",
    "n_wins",
    "n_wins_base",
    "n_draws",
    "n_total",
    "discrete_win_rate",
    "mode",
    "avg_length",
    "length_controlled_winrate",
    "lc_standard_error",
)


def model_index(verified: Verified) -> bytes:
    """The `model-index` block for the YAML head of a Hugging Face model card.

    Every metric carries its signature in `args`. Numbers are recomputed here, yet not `verified` in the hub's sense.
    """
    metadata = verified.metadata
    info = metadata.instruction_set
    metrics = [
        {
            "type": name,
            "value": round(score.value, 4),
            "name": _described(name, score, verified),
            "args": {"signature": str(score.signature), "n": score.n_judged, **_interval(score)},
        }
        for name, score in sorted(verified.scores.items())
        if score.value is not None
    ]
    result = {
        "task": {"type": "text-generation", "name": "instruction following"},
        "dataset": {
            "name": info.name,
            "type": REPOSITORY if info.name == "alpaca_eval" else info.name,
            "revision": info.revision,
        },
        "metrics": metrics,
    }
    return yaml_bytes({"model-index": [{"name": metadata.name.split("/")[1], "results": [result]}]})


_HUB_SCORES = (ATTEMPTS, "win_rate", "length_controlled_win_rate")


def hub_eval_results(verified: Verified, dataset: str | None = None, task_id: str | None = None) -> bytes:
    """A file for `.eval_results/` of a model's repo on the Hugging Face hub, an entry a score.

    The format is the hub's (https://huggingface.co/docs/hub/eval-results). `notes` holds interval and signature.

    Args:
        verified: The submission.
        dataset: The hub's data set with the instructions; None takes AlpacaEval's for its own instructions.
        task_id: The task by the data set's `eval.yaml`; None names each score's metric.

    Raises:
        UserError: If the instructions are in no data set of the hub that is known, or the verdicts are those of a judge
            that only orders and smoke-tests, which are no AlpacaEval win rates.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    info, judge = verified.metadata.instruction_set, verified.metadata.judge.name
    official = dataset is None and info.name == "alpaca_eval"
    if dataset is None and not official:
        raise UserError(
            f"{verified.id}: the instructions {info.name!r} are in no data set of the hub that is known here. "
            f"Name one: --dataset ORG/NAME"
        )
    names = [name for name in _HUB_SCORES if name in verified.scores]
    if official and judge in offline_judges():
        names = [name for name in names if name == ATTEMPTS]
        if not names:
            raise UserError(
                f"{verified.id}: judged by {judge}, which only orders systems; its win rates are not AlpacaEval's."
            )
    entries = [
        EvalResultEntry(
            dataset_id=dataset or REPOSITORY,
            task_id=task_id or name,
            value=round(score.value, 4),
            dataset_revision=info.revision if official else None,
            source_url=verified.metadata.links[0] if verified.metadata.links else None,
            notes=f"{_described(name, score, verified)}, in percent: {score.render()}. {score.settings}",
        )
        for name in names
        if (score := verified.scores[name]).value is not None
    ]
    if task_id is not None and len(entries) > 1:
        raise UserError(f"--task-id {task_id}: {len(entries)} scores would be one task's. Leave it out.")
    return yaml_bytes(eval_result_entries_to_yaml(entries))


def every_eval_ever(verified: Verified, timestamp: int) -> bytes:
    """A record of Every Eval Ever's schema `EEE_SCHEMA`, aggregate level.

    Args:
        verified: The submission.
        timestamp: Seconds since 1970 that the schema wants as the record's time; given, so that equal calls give
            equal bytes.
    """
    metadata = verified.metadata
    run = metadata.run
    record = {
        "schema_version": EEE_SCHEMA,
        "evaluation_id": f"implicit_if/{metadata.name.replace('/', '_')}@{metadata.revision}/{timestamp}",
        "retrieved_timestamp": str(timestamp),
        "source_metadata": {
            "source_name": "implicit-if leaderboard",
            "source_type": "evaluation_run",
            "source_organization_name": metadata.name.split("/")[0],
            "evaluator_relationship": "other",
            "additional_details": {"badge": verified.badge, "submission": verified.id, "sha256": verified.sha256},
        },
        "eval_library": {
            "name": "lm_eval",
            "version": run.versions.get("lm_eval", "unknown") if run is not None else "unknown",
            "additional_details": {"plugin": "implicit-if", "plugin_version": __version__},
        },
        "model_info": {"name": metadata.name, "id": metadata.name, "additional_details": _system(verified)},
        "evaluation_results": [
            _eee_result(verified, name, score)
            for name, score in sorted(verified.scores.items())
            if score.value is not None
        ],
    }
    return json_bytes(record)


def alpaca_eval_csv(submissions: Sequence[Verified]) -> bytes:
    """Rows of alpaca-eval's `leaderboard.csv`, best length-controlled win rate first.

    Args:
        submissions: With answers, all on AlpacaEval, one judge and one reference.

    Raises:
        UserError: If numbers would stand beside others they may not be compared with, or the judge is one of those that
            only order and smoke-test.
    """
    if not submissions:
        raise UserError("no submissions to export; name at least one.")
    _check_comparable(submissions)
    rows = sorted((_alpaca_row(one) for one in submissions), key=lambda r: (-float(r[10]), r[0]))
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_ALPACA_COLUMNS)
    writer.writerows(rows)
    return file.getvalue().encode("utf-8")


def _alpaca_row(one: Verified) -> list[Any]:
    pairs = read_pairs(one)
    wins, losses, draws = stats.counts(one.preferences)
    plain, discrete = stats.win_rate(one.preferences), stats.discrete_win_rate(one.preferences)
    controlled = control_length(
        one.preferences,
        [len(pair.shown[0]) for pair in pairs],
        [len(pair.shown[1]) for pair in pairs],
        one.instruction_ids,
        judge_prior=length_prior(one.metadata.judge.name),
        instruction_set=one.metadata.instruction_set.name,
        method="offline",
    ).estimate
    numbers = [plain.value, plain.standard_error, wins, losses, draws, plain.n_judged, discrete.value]
    length = int(one.form.get("avg_length") or 0)
    value = one.scores["length_controlled_win_rate"].value
    return [csv_cell(one.metadata.name), *numbers, "community", length, value, controlled.standard_error]


def _check_comparable(submissions: Sequence[Verified]) -> None:
    first = submissions[0].metadata
    for one in submissions:
        metadata = one.metadata
        if not one.instruction_ids:
            raise UserError(f"{one.id}: is self-reported; alpaca-eval's columns need its answers.")
        if metadata.instruction_set.name != "alpaca_eval" or metadata.judge.name in offline_judges():
            raise UserError(
                f"{one.id}: judged by {metadata.judge.name} on {metadata.instruction_set.name}; alpaca-eval's table is "
                f"for language models' verdicts on alpaca_eval only. Use --format every-eval-ever."
            )
        if (metadata.judge, metadata.reference, metadata.instruction_set) != (
            first.judge,
            first.reference,
            first.instruction_set,
        ):
            raise UserError(f"{one.id} and {submissions[0].id}: another judge or reference; export them apart.")


def _eee_result(verified: Verified, name: str, score: Score) -> dict[str, Any]:
    metadata = verified.metadata
    info = metadata.instruction_set
    uncertainty: dict[str, Any] = {"num_samples": score.n_judged}
    if score.interval is not None:
        uncertainty["confidence_interval"] = {
            "lower": score.interval.low,
            "upper": score.interval.high,
            "confidence_level": score.interval.level,
            "method": score.interval.method,
        }
    bias = name == "position_bias"
    source: dict[str, Any] = {"dataset_name": info.name, "source_type": "other"}
    if info.name == "alpaca_eval":
        source = {
            "dataset_name": info.name,
            "source_type": "hf_dataset",
            "hf_repo": REPOSITORY,
            "samples_number": info.n,
        }
    source["additional_details"] = {"revision": info.revision, "n": str(info.n)}
    generation = {key: str(value) for key, value in metadata.generation.items()}
    return {
        "evaluation_name": f"{info.name}: {_NAMES.get(name, name)}",
        "source_data": source,
        "metric_config": {
            "evaluation_description": f"{_described(name, score, verified)}, in percent",
            "metric_id": name,
            "metric_name": _NAMES.get(name, name),
            "metric_unit": "percent",
            "lower_is_better": bias,
            "score_type": "continuous",
            "min_score": -100 if bias else 0,
            "max_score": 100,
            "additional_details": {
                "signature": str(score.signature),
                "judge": metadata.judge.name,
                "judge_fingerprint": metadata.judge.fingerprint,
                "reference": metadata.reference.name,
                "reference_sha256": metadata.reference.sha256,
                "length_control": score.settings.lc or "none",
            }
            if name != ATTEMPTS
            else {"signature": str(score.signature), "judge": score.settings.judge},
        },
        "score_details": {"score": score.value, "uncertainty": uncertainty},
        "generation_config": {"generation_args": {}, "additional_details": generation},
    }


def _described(name: str, score: Score, verified: Verified) -> str:
    if name == ATTEMPTS:
        return f"{_NAMES[name]}, decided by {score.settings.judge}"
    metadata = verified.metadata
    return f"{_NAMES.get(name, name)} against {metadata.reference.name}, judge {metadata.judge.name}"


def _system(verified: Verified) -> dict[str, str]:
    system = verified.metadata.system.model_dump(exclude_none=True, exclude_defaults=True)
    base = verified.metadata.base_model
    details = {f"system_{key}": str(value) for key, value in sorted(system.items())}
    # the schema wants to know both, and a submission tells neither
    return details | {"base_model": base.name, "deployment_type": "unknown", "model_availability": "unknown"}


def _interval(score: Score) -> dict[str, float]:
    if score.interval is None:
        return {}
    return {"low": round(score.interval.low, 4), "high": round(score.interval.high, 4), "level": score.interval.level}
